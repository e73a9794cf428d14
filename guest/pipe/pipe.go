// Package pipe copies bytes between a tunnel's streams and the servers on the machine.
package pipe

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/cloudbot-ai/control-plane/guest/direct"
	"github.com/cloudbot-ai/control-plane/guest/mux"
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

// Outlet is a connection that writes to another one as it is asked to; it filters only what is read.
type Outlet interface{ Outlet() net.Conn }

// Inlet is a connection that reads from another one as it is asked to; it filters only what is written.
type Inlet interface{ Inlet() net.Conn }

// stream is one of a tunnel.
type stream interface {
	net.Conn
	io.ReaderFrom
	Direct(mux.Sink) bool
}

// pass copies until an error or the end of from, which is none.
func pass(to, from net.Conn) error {
	for o, ok := to.(Outlet); ok; o, ok = to.(Outlet) {
		to = o.Outlet()
	}
	for i, ok := from.(Inlet); ok; i, ok = from.(Inlet) {
		from = i.Inlet()
	}
	if to, ok := to.(stream); ok {
		_, err := to.ReadFrom(from)
		return err
	}
	before, size := func(*mux.Input) {}, mux.Large
	if from, ok := from.(stream); ok {
		size = mux.Half // what waits here comes on top of the stream's window
		if socket := direct.NewWriter(to); socket != nil {
			before = func(in *mux.Input) {
				for !from.Direct(sink{socket}) {
				}
				in.Expect()
			}
		}
	}
	in := mux.NewInput(from, size, nil)
	for {
		before(in)
		buf, at, err := in.Next(size)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := to.Write(buf[at:]); err != nil {
			return err
		}
		in.Done()
	}
}

// sink writes to a socket, and leaves the rest where it cannot.
type sink struct{ to *direct.Writer }

func (s sink) Offer(buf []byte, at int) (n int, ready bool) {
	n = s.to.Try(buf[at:])
	return n, n == len(buf)-at
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
