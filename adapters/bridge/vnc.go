package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// maxVNCMessage bounds one message of the browser; those of noVNC are far smaller.
const maxVNCMessage = 1 << 20

// ServeVNC bridges RFB 3.8 to the machine's desktop and returns when the session has ended. The bridge
// authenticates with the machine's password; it offers the browser security type None.
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
	ws, under, err := b.accept(w, r)
	if err != nil {
		return // accept has answered the request
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
				return toBrowser(ctx, machine, w, under, pace)
			case <-ctx.Done():
				return errLeft
			}
		})
}

// desktop connects to the machine's desktop and returns its ServerInit unchanged.
func (b *Bridge) desktop(ctx context.Context, s access.BridgeSession) (net.Conn, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.c.OpenWithin)
	defer cancel()
	conn, screen, err := b.unlock(ctx, s)
	if cutOff(err) {
		conn, screen, err = b.unlock(ctx, s)
	}
	return conn, screen, err
}

// cutOff reports whether a handshake failed because the connection ended: perhaps the machine moved to another replica in
// that moment, and answers there.
func cutOff(err error) bool {
	return slices.ContainsFunc([]error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE},
		func(end error) bool { return errors.Is(err, end) })
}

func (b *Bridge) unlock(ctx context.Context, s access.BridgeSession) (net.Conn, []byte, error) {
	conn, secret, err := b.c.Opener.Open(ctx, s.Instance, wire.VNC)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	screen, err := rfb.Unlock(conn, secret.VNCPassword)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, screen, nil
}

// greet performs the handshake with the browser.
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
		{[]byte{0, 0, 0, 0}, 1, ""}, // ClientInit; Unlock has already requested a shared session
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

// toMachine copies the browser's messages; in view mode, without those that act on the desktop.
func toMachine(machine io.Writer, in io.Reader, view bool) error {
	var filter viewFilter
	var out []byte
	buf := make([]byte, 1<<10) // mouse and keys
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

// stream turns the browser's binary messages into a byte stream.
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

// left returns how a failed read from the browser ends the session.
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
