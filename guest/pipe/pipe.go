// Package pipe copies bytes between a tunnel's streams and the servers on the machine.
package pipe

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
)

// Join copies in both directions between a and b until one of them or ctx ends, and closes both.
func Join(ctx context.Context, a, b net.Conn) error {
	shut := func() { a.Close(); b.Close() }
	defer shut()
	stop := context.AfterFunc(ctx, shut)
	defer stop()
	done := make(chan error, 2)
	go func() { err := pass(a, b); shut(); done <- err }()
	go func() { err := pass(b, a); shut(); done <- err }()
	err := <-done
	<-done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Sizes of buffers: a session waits with a small one, and has a large one only while it is full at each read.
const (
	small = 4 << 10
	large = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new([large]byte) }}

// pass copies until an error or the end of from, which is none.
func pass(to io.Writer, from io.Reader) error {
	waiting := make([]byte, small)
	for {
		n, err := from.Read(waiting)
		if n > 0 {
			if _, err := to.Write(waiting[:n]); err != nil {
				return err
			}
		}
		if n == small && err == nil {
			err = flood(to, from)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// flood copies with a large buffer until a read does not fill half of it.
func flood(to io.Writer, from io.Reader) error {
	buf := buffers.Get().(*[large]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil || n < large/2 {
			return err
		}
	}
}

// Listener is a net.Listener of connections given to Hand, for an http.Server without a port.
type Listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// NewListener returns an open listener.
func NewListener() *Listener {
	return &Listener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Hand gives c to the server and returns once c is closed or ctx ends; it closes c.
func (l *Listener) Hand(ctx context.Context, c net.Conn) error {
	h := &handed{Conn: c, closed: make(chan struct{})}
	defer h.Close()
	select {
	case l.conns <- h:
	case <-l.done:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-h.closed:
	case <-ctx.Done():
	}
	return nil
}

func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *Listener) Addr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "tunnel" }
func (addr) String() string  { return "tunnel" }

type handed struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (h *handed) Close() error {
	err := net.ErrClosed
	h.once.Do(func() { err = h.Conn.Close(); close(h.closed) })
	return err
}
