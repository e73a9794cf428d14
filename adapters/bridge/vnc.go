package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// maxVNCMessage bounds one message of the browser; noVNC's are far smaller.
const maxVNCMessage = 1 << 20

// ServeVNC bridges RFB 3.8 to the machine's desktop and returns when the session has ended. The
// machine's password is answered here: the browser is offered security type None.
func (b *Bridge) ServeVNC(w http.ResponseWriter, r *http.Request, s access.BridgeSession) {
	leave := b.enter(w, r, s)
	if leave == nil {
		return
	}
	defer leave()
	machine, screen, err := b.desktop(r.Context(), s)
	if err != nil {
		b.unreachable(w, r, s, err)
		return
	}
	defer machine.Close()
	ws, err := b.accept(w, r)
	if err != nil {
		return // it answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxVNCMessage)
	pace, ease := b.pace(s.Account)
	defer ease()
	greeted := make(chan struct{})
	b.run(context.WithoutCancel(r.Context()), ws, machine, s,
		func(ctx context.Context, w *browser) error {
			in := &stream{ws: ws}
			if err := b.greet(ctx, w, in, screen); err != nil {
				return err
			}
			close(greeted)
			return toMachine(machine, in, !s.Controls())
		},
		func(ctx context.Context, w *browser) error {
			select {
			case <-greeted:
				return b.toBrowser(ctx, machine, w, pace)
			case <-ctx.Done():
				return errLeft
			}
		})
}

// desktop opens the machine's desktop up to its ServerInit, which is returned as it came.
func (b *Bridge) desktop(ctx context.Context, s access.BridgeSession) (net.Conn, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.c.OpenWithin)
	defer cancel()
	conn, secret, err := b.c.Opener.Open(ctx, s.Instance, wire.VNC)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	screen, err := unlock(conn, secret.VNCPassword)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, screen, nil
}

// greet takes the browser through its half of the handshake.
func (b *Bridge) greet(ctx context.Context, w *browser, in io.Reader, screen []byte) error {
	late := time.AfterFunc(b.c.OpenWithin, func() { w.CloseNow() })
	defer late.Stop()
	var buf [12]byte
	for _, step := range []struct {
		say    []byte
		expect int
		want   string // "": anything
	}{
		{[]byte(rfb.Version), 12, rfb.Version},
		{[]byte{1, rfb.SecurityNone}, 1, "\x01"},
		{[]byte{0, 0, 0, 0}, 1, ""}, // ClientInit; the machine was asked to share already
	} {
		if err := w.write(websocket.MessageBinary, step.say); err != nil {
			return errLeft
		}
		got := buf[:step.expect]
		if _, err := io.ReadFull(in, got); err != nil {
			return left(err)
		}
		if step.want != "" && string(got) != step.want {
			return errProtocol
		}
	}
	if err := w.write(websocket.MessageBinary, screen); err != nil {
		return errLeft
	}
	return ctx.Err()
}

// toMachine copies what the browser sends; in view mode, without what would act on the desktop.
func toMachine(machine io.Writer, in io.Reader, view bool) error {
	var filter viewFilter
	buf := make([]byte, smallBuffer)
	out := make([]byte, 0, smallBuffer)
	for {
		n, err := in.Read(buf)
		p := buf[:n]
		if view && n > 0 {
			var bad error
			if out, bad = filter.pass(out[:0], p); bad != nil {
				return errProtocol
			}
			p = out
		}
		if len(p) > 0 {
			if _, err := machine.Write(p); err != nil {
				return errMachine
			}
		}
		if err != nil {
			return left(err)
		}
	}
}

// toBrowser copies what the machine sends. A read takes all that has arrived, so while the browser is
// slow small pieces become one message. It waits with a small buffer, and with a large one only while
// there is much to carry: an idle session must not hold 64 KiB.
func (b *Bridge) toBrowser(ctx context.Context, machine net.Conn, w *browser, pace pace) error {
	small := make([]byte, smallBuffer)
	for ctx.Err() == nil {
		n, err := machine.Read(small)
		if n > 0 && (pace.wait(ctx, n) != nil || w.write(websocket.MessageBinary, small[:n]) != nil) {
			return errLeft
		}
		if err != nil {
			return errMachine
		}
		if n == len(small) {
			if err := b.flood(ctx, machine, w, pace); err != nil {
				return err
			}
		}
	}
	return errLeft
}

// floodPause without data gives the large buffer back.
const floodPause = 250 * time.Millisecond

// flood copies with a large buffer until the machine pauses: nil then.
func (b *Bridge) flood(ctx context.Context, machine net.Conn, w *browser, pace pace) error {
	buf := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(buf)
	defer machine.SetReadDeadline(time.Time{})
	for {
		_ = machine.SetReadDeadline(time.Now().Add(floodPause))
		if ctx.Err() != nil { // after the deadline: closing sets one of its own, which must not get lost
			return errLeft
		}
		n, err := machine.Read(*buf)
		if n > 0 && (pace.wait(ctx, n) != nil || w.write(websocket.MessageBinary, (*buf)[:n]) != nil) {
			return errLeft
		}
		var timeout net.Error
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
			return nil
		case err != nil:
			return errMachine
		}
	}
}

// stream makes a byte stream of the browser's binary messages.
type stream struct {
	ws *websocket.Conn
	r  io.Reader
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.r == nil {
			typ, r, err := s.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if typ != websocket.MessageBinary {
				return 0, errProtocol
			}
			s.r = r
		}
		n, err := s.r.Read(p)
		if err == io.EOF {
			s.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// left says how a failed read from the browser ends the session.
func left(err error) error {
	var why *ending
	switch {
	case errors.As(err, &why):
		return why
	case errors.Is(err, websocket.ErrMessageTooBig):
		return errTooBig
	}
	return errLeft
}
