package screen

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

const (
	maxViewers = 32
	maxCut     = 64 << 10 // most bytes of a client's clipboard
	shakeTime  = 10 * time.Second
	writeTime  = 30 * time.Second
)

// Serve serves RFB on conn until the viewer leaves or ctx ends, and closes conn.
func (s *Screen) Serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	s.mu.Lock()
	full := s.viewers >= maxViewers
	if !full {
		s.viewers++
	}
	s.mu.Unlock()
	if full {
		return errors.New("screen: too many viewers")
	}
	defer func() { s.mu.Lock(); s.viewers--; s.mu.Unlock() }()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	r := bufio.NewReaderSize(conn, 2048)
	_ = conn.SetDeadline(time.Now().Add(shakeTime))
	if err := s.handshake(conn, r); err != nil {
		return fmt.Errorf("screen: handshake: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})

	v := &viewer{screen: s, conn: conn, format: native, wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.send(ctx)
		conn.Close() // when the writer fails, the reader must end too
	}()
	err := v.receive(r)
	cancel()
	conn.Close()
	<-done
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Screen) handshake(w io.Writer, r io.Reader) error {
	if _, err := io.WriteString(w, rfb.Version); err != nil {
		return err
	}
	var version [12]byte
	if _, err := io.ReadFull(r, version[:]); err != nil {
		return err
	}
	if string(version[:]) != rfb.Version {
		return errors.New("not RFB 3.8")
	}
	if _, err := w.Write([]byte{1, rfb.SecurityVNC}); err != nil {
		return err
	}
	var chosen [1]byte
	if _, err := io.ReadFull(r, chosen[:]); err != nil {
		return err
	}
	if chosen[0] != rfb.SecurityVNC {
		return errors.New("unknown security type")
	}
	var challenge, response [16]byte
	rand.Read(challenge[:])
	if _, err := w.Write(challenge[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(r, response[:]); err != nil {
		return err
	}
	if s.password == "" || !rfb.Accept(s.password, challenge[:], response[:]) {
		const why = "wrong password"
		refusal := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(why)))
		_, _ = w.Write(append(refusal, why...))
		return errors.New(why)
	}
	if _, err := w.Write([]byte{0, 0, 0, 0}); err != nil {
		return err
	}
	var shared [1]byte
	if _, err := io.ReadFull(r, shared[:]); err != nil {
		return err
	}
	const name = "CloudBot built-in screen"
	init := binary.BigEndian.AppendUint16(nil, Width)
	init = binary.BigEndian.AppendUint16(init, Height)
	init = append(init, native.bytes()...)
	init = binary.BigEndian.AppendUint32(init, uint32(len(name)))
	_, err := w.Write(append(init, name...))
	return err
}

// viewer is one connection after its handshake.
type viewer struct {
	screen *Screen
	conn   net.Conn
	wake   chan struct{}

	mu     sync.Mutex
	format pixelFormat
	want   *request             // what the client asked for and did not get yet
	sent   [tileX * tileY]int64 // versions of the tiles that it has
}

type request struct {
	full       bool
	x, y, w, h int
}

func (v *viewer) receive(r *bufio.Reader) error {
	var b [20]byte
	read := func(n int) error { _, err := io.ReadFull(r, b[:n]); return err }
	for {
		kind, err := r.ReadByte()
		if err != nil {
			return err
		}
		switch kind {
		case rfb.SetPixelFormat:
			if err := read(19); err != nil {
				return err
			}
			f, err := parseFormat(b[3:19])
			if err != nil {
				return err
			}
			v.mu.Lock()
			v.format = f
			v.mu.Unlock()
		case rfb.SetEncodings: // every client supports raw, so the list is not needed
			if err := read(3); err != nil {
				return err
			}
			if _, err := r.Discard(4 * int(binary.BigEndian.Uint16(b[1:]))); err != nil {
				return err
			}
		case rfb.FramebufferUpdateRequest:
			if err := read(9); err != nil {
				return err
			}
			u := binary.BigEndian.Uint16
			v.ask(request{b[0] == 0, int(u(b[1:])), int(u(b[3:])), int(u(b[5:])), int(u(b[7:]))})
		case rfb.KeyEvent:
			if err := read(7); err != nil {
				return err
			}
			if b[0] != 0 {
				v.screen.typed(binary.BigEndian.Uint32(b[3:]))
			}
		case rfb.PointerEvent:
			if err := read(5); err != nil {
				return err
			}
			if b[0] != 0 {
				v.screen.pressed(int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:])))
			}
		case rfb.ClientCutText:
			if err := read(7); err != nil {
				return err
			}
			n := binary.BigEndian.Uint32(b[3:])
			if n > maxCut {
				return errors.New("clipboard too large")
			}
			t := make([]byte, n)
			if _, err := io.ReadFull(r, t); err != nil {
				return err
			}
			v.screen.pasted(string(t))
		default:
			return fmt.Errorf("unknown message %d", kind)
		}
	}
}

// ask records a request; it merges two unanswered ones into one that covers both.
func (v *viewer) ask(q request) {
	q.x, q.y = min(q.x, Width), min(q.y, Height)
	q.w, q.h = min(q.w, Width-q.x), min(q.h, Height-q.y)
	v.mu.Lock()
	if o := v.want; o != nil {
		x1, y1 := max(o.x+o.w, q.x+q.w), max(o.y+o.h, q.y+q.h)
		q.x, q.y, q.full = min(o.x, q.x), min(o.y, q.y), o.full || q.full
		q.w, q.h = x1-q.x, y1-q.y
	}
	v.want = &q
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// send answers requests when the picture changes; the clock runs while there are viewers.
func (v *viewer) send(ctx context.Context) {
	clock := time.NewTicker(time.Second)
	defer clock.Stop()
	var out []byte
	for {
		v.screen.mu.Lock()
		changed := v.screen.changed
		v.screen.mu.Unlock()
		out = v.update(out[:0])
		if len(out) > 0 {
			_ = v.conn.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := v.conn.Write(out); err != nil {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-v.wake:
		case <-changed:
		case <-clock.C:
			v.screen.tick()
		}
	}
}

// update appends the answer to the waiting request, if the picture has changed for it.
func (v *viewer) update(out []byte) []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.want == nil {
		return out
	}
	q, s := *v.want, v.screen
	s.mu.Lock()
	defer s.mu.Unlock()
	var rects []request
	for ty := range tileY {
		for tx := range tileX {
			t := ty*tileX + tx
			if !q.full && s.tiles[t] <= v.sent[t] {
				continue
			}
			x0, y0 := max(tx*tile, q.x), max(ty*tile, q.y)
			x1, y1 := min(tx*tile+tile, q.x+q.w, Width), min(ty*tile+tile, q.y+q.h, Height)
			if x0 >= x1 || y0 >= y1 {
				continue
			}
			v.sent[t] = s.tiles[t]
			if n := len(rects); n > 0 && rects[n-1].y == y0 && rects[n-1].x+rects[n-1].w == x0 {
				rects[n-1].w += x1 - x0
				continue
			}
			rects = append(rects, request{x: x0, y: y0, w: x1 - x0, h: y1 - y0})
		}
	}
	if len(rects) == 0 {
		if q.full { // a request for an empty area also gets an answer
			v.want = nil
			return append(out, rfb.FramebufferUpdate, 0, 0, 0)
		}
		return out
	}
	v.want = nil
	out = append(out, rfb.FramebufferUpdate, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(rects)))
	for _, a := range rects {
		for _, n := range [...]int{a.x, a.y, a.w, a.h} {
			out = binary.BigEndian.AppendUint16(out, uint16(n))
		}
		out = binary.BigEndian.AppendUint32(out, rfb.EncodingRaw)
		for y := a.y; y < a.y+a.h; y++ {
			out = v.format.appendPixels(out, s.pixels[y*Width+a.x:y*Width+a.x+a.w])
		}
	}
	return out
}
