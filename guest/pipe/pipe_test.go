package pipe

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// sockets returns the ends of a TCP connection.
func sockets(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// tunnel returns a function that opens streams over a TCP connection.
func tunnel(t *testing.T) (open func() (plane, machine *mux.Stream)) {
	t.Helper()
	a, b := sockets(t)
	one, two := mux.New(a, mux.Config{}), mux.New(b, mux.Config{Dialled: true})
	t.Cleanup(func() { one.Close(); two.Close() })
	return func() (plane, machine *mux.Stream) {
		plane, err := one.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if machine, err = two.AcceptStream(); err != nil {
			t.Fatal(err)
		}
		return plane, machine
	}
}

// filter stands for the guest's: one filters what is read, the other what is written.
type reads struct{ net.Conn }
type writes struct{ net.Conn }

func (f reads) Outlet() net.Conn { return f.Conn }
func (f writes) Inlet() net.Conn { return f.Conn }

// Everything passes in both directions, through filters or not, and a server that does not read holds up only its own stream.
func TestJoin(t *testing.T) {
	t.Parallel()
	open := tunnel(t)
	plane, machine := open()
	stalled, _ := sockets(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = Join(ctx, machine, stalled) })
	all.Go(func() {
		for {
			if _, err := plane.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	for _, filtered := range []bool{false, true} {
		plane, machine := open()
		near, server := sockets(t)
		var from, to net.Conn = machine, near
		if filtered {
			from, to = reads{reads{machine}}, writes{near}
		}
		all.Go(func() { _ = Join(ctx, from, to) })
		all.Go(func() { _, _ = io.Copy(server, server) }) // echoes
		const size = 4 << 20
		sent := make([]byte, size)
		for i := range sent {
			sent[i] = byte(i * i >> 7)
		}
		all.Go(func() { _, _ = plane.Write(sent) })
		_ = plane.SetReadDeadline(time.Now().Add(2 * time.Minute))
		got := make([]byte, size)
		if n, err := io.ReadFull(plane, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("filtered %v: got %d bytes back, %v, want the %d that were sent", filtered, n, err, size)
		}
	}
	cancel() // ends also the stream that is stalled
	plane.Close()
	all.Wait()
}
