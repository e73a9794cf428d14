package frames

import (
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// input reads frames.
type input struct {
	from *mux.Input
	left uint64 // payload of the current frame that was not returned yet

	masked bool
	key    [4]byte
	offset uint64 // in the payload
	ponged atomic.Bool
}

// errOver is the end of a connection whose other end said so.
var errOver = errors.New("the other end closed the WebSocket")

// Next returns, in buf[at:], payload of binary messages as it arrives, at most n bytes, and waits for some. It belongs to the
// caller until the next call, with Room bytes before it. A message's end cannot be seen.
func (c *Conn) Next(n int) (buf []byte, at int, err error) {
	in := &c.in
	for in.left == 0 {
		if err := c.head(); err != nil {
			return nil, 0, err
		}
	}
	buf, at, err = in.from.Next(int(min(uint64(n), in.left)))
	if err != nil {
		return nil, 0, err
	}
	got := uint64(len(buf) - at)
	if in.masked {
		apply(buf[at:], in.key, in.offset)
	}
	in.left, in.offset = in.left-got, in.offset+got
	return buf, at, nil
}

// head reads the header of the next frame with data, and answers control frames before it.
func (c *Conn) head() error {
	var h [Room]byte
	if err := c.fill(h[:2]); err != nil {
		return err
	}
	in := &c.in
	rest := 0
	switch h[1] & 0x7f {
	case 126:
		rest = 2
	case 127:
		rest = 8
	}
	if in.masked = h[1]&masks != 0; in.masked {
		rest += 4
	}
	if in.masked == c.client || h[0]&0x70 != 0 {
		return errFrame
	}
	if err := c.fill(h[2 : 2+rest]); err != nil {
		return err
	}
	in.left, in.offset = uint64(h[1]&0x7f), 0
	switch in.left {
	case 126:
		in.left = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		in.left = binary.BigEndian.Uint64(h[2:])
	}
	if in.masked {
		copy(in.key[:], h[2+rest-4:])
	}
	switch opcode := h[0] & 0xf; opcode {
	case Continuation, Binary:
		return nil
	case opClose, opPing, opPong:
		return c.control(opcode, h[0]&final != 0)
	}
	return errFrame
}

// control reads a control frame. It never waits for the other end to read, or two could wait for each other: one pong is
// under way at a time.
func (c *Conn) control(opcode byte, whole bool) error {
	in := &c.in
	if !whole || in.left > 125 {
		return errFrame
	}
	p := make([]byte, Room+in.left)
	if err := c.fill(p[Room:]); err != nil {
		return err
	}
	in.left = 0
	switch {
	case opcode == opClose:
		return errOver
	case opcode == opPing && in.ponged.CompareAndSwap(false, true):
		if in.masked {
			apply(p[Room:], in.key, 0)
		}
		go func() {
			_ = c.Send(opPong, p, Room) // the reader meets the error
			in.ponged.Store(false)
		}()
	}
	return nil
}

func (c *Conn) fill(p []byte) error {
	for len(p) > 0 {
		buf, at, err := c.in.from.Next(len(p))
		if err != nil {
			return err
		}
		p = p[copy(p, buf[at:]):]
	}
	return nil
}

var _ io.Closer = (*Conn)(nil)
