package frames

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// library is a server's connection as the library sees it.
type library struct {
	net.Conn
	c *Conn
}

func (l *library) Read(p []byte) (int, error)  { return l.c.readFrame(p) }
func (l *library) Write(p []byte) (int, error) { return l.c.join(p) }
func (l *library) Close() error                { return l.c.Close() }

// libraryBody is a client's connection as the library sees it.
type libraryBody struct{ c *Conn }

func (l *libraryBody) Read(p []byte) (int, error)  { return l.c.readFrame(p) }
func (l *libraryBody) Write(p []byte) (int, error) { return l.c.join(p) }
func (l *libraryBody) Close() error                { return l.c.Close() }

// readFrame reads for the library: never beyond the end of a frame, so that Next can follow any message.
func (c *Conn) readFrame(p []byte) (int, error) {
	f := &c.joining.reading
	n := len(p)
	if f.left > 0 {
		n = int(min(uint64(n), f.left))
	} else {
		n = min(n, f.missing())
	}
	buf, at, err := c.in.from.Next(n)
	if err != nil {
		return 0, err
	}
	n = copy(p, buf[at:])
	f.follow(p[:n])
	return n, nil
}

// joinedBytes bounds what waits for the rest of its frame: one of package mux with its WebSocket header fits.
const joinedBytes = mux.MaxFrame + Room

var joined = sync.Pool{New: func() any { return new([joinedBytes]byte) }}

// joining is what the library reads and writes. It keeps a part of a frame back until the frame is whole or joinedBytes have
// come together: the library writes a client's frame in pieces of 4 KiB, and a server's header apart. The library never has
// more than one Write at a time.
type joining struct {
	reading, writing follower
	locked           bool
	buffer           *[joinedBytes]byte // nil: nothing waits
	waiting          []byte             // in it
}

func (c *Conn) join(p []byte) (int, error) {
	j := &c.joining
	whole := j.writing.follow(p)
	if whole && len(j.waiting) == 0 {
		return c.lockedWrite(p, true)
	}
	if j.buffer == nil {
		j.buffer = joined.Get().(*[joinedBytes]byte)
		j.waiting = j.buffer[:0]
	}
	for rest := p; len(rest) > 0; {
		n := copy(j.waiting[len(j.waiting):joinedBytes], rest)
		j.waiting, rest = j.waiting[:len(j.waiting)+n], rest[n:]
		last := whole && len(rest) == 0
		if len(j.waiting) < joinedBytes && !last {
			continue
		}
		if _, err := c.lockedWrite(j.waiting, last); err != nil {
			return 0, err
		}
		j.waiting = j.waiting[:0]
	}
	if whole {
		joined.Put(j.buffer) // an idle connection keeps none
		j.buffer, j.waiting = nil, nil
	}
	return len(p), nil
}

// closeWithin is how long the other end may take to answer a close frame. The library would wait without end for the rest of a
// message that it had begun to read.
const closeWithin = 5 * time.Second

// lockedWrite writes a part of the library's frame; no other frame comes before the last part.
func (c *Conn) lockedWrite(p []byte, last bool) (int, error) {
	j := &c.joining
	if !j.locked {
		if !c.acquire() {
			return 0, net.ErrClosed
		}
		j.locked = true
	}
	n, err := c.ReadWriteCloser.Write(p)
	if j.writing.closes && !c.over {
		c.over = true
		time.AfterFunc(closeWithin, func() { c.Close() })
	}
	if last || err != nil {
		j.locked = false
		c.release()
	}
	return n, err
}

// follower knows where in a frame a stream of them is.
type follower struct {
	head   []byte // of the next frame, while it is not whole
	left   uint64 // payload of the current frame
	closes bool   // there was a close frame
}

// follow reads what p continues, and reports whether a frame ends with it.
func (f *follower) follow(p []byte) (whole bool) {
	for len(p) > 0 {
		if f.left == 0 {
			f.head = append(f.head, p[0])
			p = p[1:]
			if size, ok := frameSize(f.head); ok {
				f.closes = f.closes || f.head[0]&0xf == opClose
				f.left, f.head = size, f.head[:0]
			}
			continue
		}
		n := min(uint64(len(p)), f.left)
		p, f.left = p[n:], f.left-n
	}
	return f.left == 0 && len(f.head) == 0
}

// missing returns how many bytes the next frame's header has left, as far as is known.
func (f *follower) missing() int { return headSize(f.head) - len(f.head) }

// headSize returns the length of a frame's header (RFC 6455, section 5.2); 2 while that is not known.
func headSize(head []byte) int {
	if len(head) < 2 {
		return 2
	}
	length := 2
	switch head[1] & 0x7f {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	if head[1]&masks != 0 {
		length += 4
	}
	return length
}

// frameSize returns the length of a frame's payload by its header; false while the header is not whole.
func frameSize(head []byte) (uint64, bool) {
	if len(head) < headSize(head) {
		return 0, false
	}
	switch size := uint64(head[1] & 0x7f); size {
	case 126:
		return uint64(binary.BigEndian.Uint16(head[2:4])), true
	case 127:
		return binary.BigEndian.Uint64(head[2:10]), true
	default:
		return size, true
	}
}
