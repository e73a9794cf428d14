// Package xevents is a small X client that also hears events: one connection to a local display, with requests written as
// bytes. Package x11 is for programs that only act.
package xevents

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/x11"
)

// Conn is a connection to a display. Its methods may be called concurrently.
type Conn struct {
	Root           uint32 // window
	MinKey, MaxKey byte   // key codes

	c      net.Conn
	events func([]byte)
	idBase uint32
	idMask uint32        // of the bits that a client chooses
	done   chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	sent    uint16 // requests, modulo 65,536
	ids     uint32
	waiting map[uint16]chan []byte
}

const (
	answerWithin = 10 * time.Second
	maxReply     = 16 << 20
	maxSetup     = 1 << 20
)

// ErrEnded says that the connection has ended, or that the display does not answer.
var ErrEnded = errors.New("the X display does not answer")

// Order is the byte order of all messages.
var Order = binary.LittleEndian

// Dial connects to the local display with its cookie in the authority file. events is called for each event and for the
// error of each request that was sent without waiting, in order; it must not call Ask. nil: they are dropped.
func Dial(display int, auth string, events func([]byte)) (*Conn, error) {
	cookie, err := x11.Cookie(auth, strconv.Itoa(display))
	if err != nil {
		return nil, err
	}
	path := "/tmp/.X11-unix/X" + strconv.Itoa(display)
	c, err := net.DialTimeout("unix", "@"+path, answerWithin)
	if err != nil {
		c, err = net.DialTimeout("unix", path, answerWithin)
	}
	if err != nil {
		return nil, err
	}
	if events == nil {
		events = func([]byte) {}
	}
	x := &Conn{c: c, events: events, done: make(chan struct{}), waiting: map[uint16]chan []byte{}}
	_ = c.SetDeadline(time.Now().Add(answerWithin))
	if err := x.greet(cookie); err != nil {
		c.Close()
		return nil, err
	}
	_ = c.SetDeadline(time.Time{})
	go x.read()
	return x, nil
}

// Close ends the connection and waits until no event is being handled.
func (x *Conn) Close() {
	x.c.Close()
	<-x.done
}

// Done is closed when the connection has ended.
func (x *Conn) Done() <-chan struct{} { return x.done }

func (x *Conn) greet(cookie []byte) error {
	const cookieName = "MIT-MAGIC-COOKIE-1"
	b := []byte{'l', 0, 11, 0, 0, 0, byte(len(cookieName)), 0, byte(len(cookie)), 0, 0, 0}
	b = padded(append(b, cookieName...))
	b = padded(append(b, cookie...))
	if _, err := x.c.Write(b); err != nil {
		return err
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(x.c, head); err != nil {
		return err
	}
	n := 4 * int(Order.Uint16(head[6:]))
	if n > maxSetup {
		return errors.New("the display's greeting is too long")
	}
	b = make([]byte, n)
	if _, err := io.ReadFull(x.c, b); err != nil {
		return err
	}
	if head[0] != 1 {
		return fmt.Errorf("the display refused a connection: %.80q", b[:min(len(b), int(head[1]))])
	}
	if len(b) < 32 {
		return io.ErrUnexpectedEOF
	}
	x.idBase, x.idMask, x.MinKey, x.MaxKey = Order.Uint32(b[4:]), Order.Uint32(b[8:]), b[26], b[27]
	screen := 32 + (int(Order.Uint16(b[16:]))+3)&^3 + 8*int(b[21])
	if len(b) < screen+4 {
		return io.ErrUnexpectedEOF
	}
	x.Root = Order.Uint32(b[screen:])
	return nil
}

func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

// read hands on what the server sends until the connection ends.
func (x *Conn) read() {
	defer close(x.done)
	defer x.c.Close()
	for {
		b := make([]byte, 32)
		if _, err := io.ReadFull(x.c, b); err != nil {
			return
		}
		if kind := b[0] & 0x7f; kind == 1 || kind == 35 { // a reply, a generic event
			n := 4 * int64(Order.Uint32(b[4:]))
			if n > maxReply {
				return
			}
			b = append(b, make([]byte, n)...)
			if _, err := io.ReadFull(x.c, b[32:]); err != nil {
				return
			}
		}
		if b[0] <= 1 {
			x.mu.Lock()
			n := Order.Uint16(b[2:])
			to := x.waiting[n]
			delete(x.waiting, n)
			x.mu.Unlock()
			if to != nil {
				to <- b
				continue
			}
		}
		x.events(b)
	}
}

// Ask sends a request that has a reply, and returns the reply. Its length field is filled in.
func (x *Conn) Ask(request ...byte) ([]byte, error) {
	to := make(chan []byte, 1)
	if err := x.send(request, to); err != nil {
		return nil, err
	}
	limit := time.NewTimer(answerWithin)
	defer limit.Stop()
	select {
	case b := <-to:
		if b[0] == 0 {
			return nil, fmt.Errorf("request %d of the X server: error %d", b[10], b[1])
		}
		return b, nil
	case <-x.done:
	case <-limit.C:
		x.c.Close()
	}
	return nil, ErrEnded
}

// Send sends a request that has no reply. Its length field is filled in.
func (x *Conn) Send(request ...byte) error { return x.send(request, nil) }

func (x *Conn) send(request []byte, reply chan []byte) error {
	request = padded(request)
	Order.PutUint16(request[2:], uint16(len(request)/4))
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sent++
	if reply != nil {
		x.waiting[x.sent] = reply
	}
	_ = x.c.SetWriteDeadline(time.Now().Add(answerWithin))
	_, err := x.c.Write(request)
	return err
}

// Sync waits until the server has carried out all earlier requests.
func (x *Conn) Sync() error {
	const getInputFocus = 43
	_, err := x.Ask(getInputFocus, 0, 0, 0)
	return err
}

// NewID returns an identifier for a new resource.
func (x *Conn) NewID() uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids++
	return x.idBase + x.ids
}

// OfServer reports whether the server itself made the resource.
func (x *Conn) OfServer(id uint32) bool { return id&^x.idMask == 0 }

// U16 and U32 append numbers.
func U16(b []byte, v ...uint16) []byte {
	for _, n := range v {
		b = Order.AppendUint16(b, n)
	}
	return b
}

// U32 appends numbers of 32 bits.
func U32(b []byte, v ...uint32) []byte {
	for _, n := range v {
		b = Order.AppendUint32(b, n)
	}
	return b
}
