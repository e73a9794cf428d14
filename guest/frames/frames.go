// Package frames is a WebSocket connection below the library's: the same connection that a websocket.Conn reads and writes,
// for those that carry a screen's worth of bytes. Its frames leave and arrive without a copy, and without waiting if need be.
//
// The one thing to know: the library keeps the handshake, messages of its own and control frames; Send's frames pass between
// them. Either the library reads or Next does: it may take over after any message.
package frames

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/direct"
	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// Room is how many bytes before a payload a frame's header may take.
const Room = 14

// Opcodes of frames (RFC 6455, section 5.2).
const (
	Continuation = 0
	Text         = 1
	Binary       = 2

	opClose = 8
	opPing  = 9
	opPong  = 10

	final = 0x80
	masks = 0x80
)

// Conn is a WebSocket's connection after its handshake.
type Conn struct {
	io.ReadWriteCloser
	client bool
	out    *direct.Writer // nil: it cannot be written without waiting

	lock   chan struct{} // holds a value while a frame is being written
	over   bool          // a close frame was sent. The lock guards it
	closed chan struct{}
	once   sync.Once
	rest   *[]byte // of the frame that TrySend began; the lock is held. From the pool rests

	joining joining // of what the library writes
	in      input
}

func newConn(c io.ReadWriteCloser, client bool, reads int, arrived []byte) *Conn {
	conn := &Conn{ReadWriteCloser: c, client: client, lock: make(chan struct{}, 1), closed: make(chan struct{})}
	conn.in.from = mux.NewInput(c, reads, arrived)
	if c, ok := c.(net.Conn); ok {
		conn.out = direct.NewWriter(c)
	}
	return conn
}

// Accept accepts a handshake as the library's Accept does. The connection is read in pieces of mux.Small or mux.Large.
func Accept(w http.ResponseWriter, r *http.Request, o *websocket.AcceptOptions, reads int) (*websocket.Conn, *Conn, error) {
	h := &hijacked{ResponseWriter: w, reads: reads}
	ws, err := websocket.Accept(h, r, o)
	return ws, h.conn, err
}

// hijacked hands out a Conn in place of a connection that is taken over.
type hijacked struct {
	http.ResponseWriter
	reads int
	conn  *Conn
}

// Sizes of the library's buffers. It writes a frame's header into one, then the payload past it.
const (
	libraryReads  = 512
	libraryWrites = 16
)

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	arrived, _ := rw.Reader.Peek(rw.Reader.Buffered())
	h.conn = newConn(c, false, h.reads, arrived)
	l := &library{Conn: c, c: h.conn}
	return l, bufio.NewReadWriter(bufio.NewReaderSize(l, libraryReads), bufio.NewWriterSize(l, libraryWrites)), nil
}

// Dial performs a handshake as the library's Dial does.
func Dial(ctx context.Context, url string, o *websocket.DialOptions) (*websocket.Conn, *Conn, *http.Response, error) {
	with := *o
	client := http.Client{}
	if o.HTTPClient != nil {
		client = *o.HTTPClient
	}
	catch := &catching{RoundTripper: client.Transport}
	if catch.RoundTripper == nil {
		catch.RoundTripper = http.DefaultTransport
	}
	client.Transport = catch
	with.HTTPClient = &client
	ws, res, err := websocket.Dial(ctx, url, &with)
	return ws, catch.conn, res, err
}

// catching keeps the connection of a handshake.
type catching struct {
	http.RoundTripper
	conn *Conn
}

func (t *catching) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := t.RoundTripper.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return res, err
	}
	if c, ok := res.Body.(io.ReadWriteCloser); ok {
		t.conn = newConn(c, true, mux.Large, nil)
		res.Body = &libraryBody{c: t.conn}
	}
	return res, nil
}

// Close closes the connection and ends what waits for it.
func (c *Conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.ReadWriteCloser.Close()
}

// acquire waits until no other frame is being written; false: the connection was closed, or a close frame was sent. A browser
// that got anything after one would not report its code.
func (c *Conn) acquire() bool {
	select {
	case c.lock <- struct{}{}:
		return c.goesOn()
	case <-c.closed:
		return false
	}
}

// goesOn releases the lock if a close frame was sent.
func (c *Conn) goesOn() bool {
	if c.over {
		c.release()
		return false
	}
	return true
}

func (c *Conn) release() { <-c.lock }

// Send writes buf[at:] as one frame, in one write. It overwrites buf from at-Room on.
func (c *Conn) Send(opcode byte, buf []byte, at int) error {
	if !c.acquire() {
		return net.ErrClosed
	}
	defer c.release()
	_, err := c.ReadWriteCloser.Write(c.enclose(opcode, buf, at))
	return err
}

// Direct reports whether TrySend can do anything.
func (c *Conn) Direct() bool { return c.out != nil }

var rests = sync.Pool{New: func() any { return new([]byte) }}

// TrySend is Send without waiting. taken says that the frame is on its way, ready that all of it is: otherwise Flush must be
// called, and nothing else can be sent before. Where taken is false, buf[at:] is unchanged.
func (c *Conn) TrySend(opcode byte, buf []byte, at int) (taken, ready bool) {
	if c.out == nil || c.client { // a client's frame is masked in its place
		return false, false
	}
	select {
	case c.lock <- struct{}{}:
		if !c.goesOn() {
			return false, false
		}
	default:
		return false, false
	}
	frame := c.enclose(opcode, buf, at)
	n := c.out.Try(frame)
	if n == 0 {
		c.release()
		return false, false
	}
	if n < len(frame) {
		c.rest = rests.Get().(*[]byte)
		*c.rest = append((*c.rest)[:0], frame[n:]...)
		return true, false
	}
	c.release()
	return true, true
}

// Flush writes what is left of the frame that TrySend began.
func (c *Conn) Flush() error {
	if c.rest == nil {
		return nil
	}
	_, err := c.ReadWriteCloser.Write(*c.rest)
	rests.Put(c.rest)
	c.rest = nil
	c.release()
	return err
}

// Pending reports whether Flush has something to write.
func (c *Conn) Pending() bool { return c.rest != nil }

// enclose writes the header before buf[at:], masks a client's payload, and returns the frame.
func (c *Conn) enclose(opcode byte, buf []byte, at int) []byte {
	n := len(buf) - at
	from, mask := at, byte(0)
	if c.client {
		key := newKey()
		from -= len(key)
		copy(buf[from:], key[:])
		apply(buf[at:], key, 0)
		mask = masks
	}
	switch {
	case n < 126:
		from -= 2
		buf[from+1] = mask | byte(n)
	case n <= 0xffff:
		from -= 4
		buf[from+1] = mask | 126
		binary.BigEndian.PutUint16(buf[from+2:], uint16(n))
	default:
		from -= 10
		buf[from+1] = mask | 127
		binary.BigEndian.PutUint64(buf[from+2:], uint64(n))
	}
	buf[from] = final | opcode
	return buf[from:]
}

var errFrame = errors.New("the other end broke the WebSocket protocol")
