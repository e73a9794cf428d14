package bridge_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// tunnelled is a machine behind a multiplexed connection.
type tunnelled struct {
	serve func(net.Conn)
	near  *mux.Session
	far   *mux.Session
	reads atomic.Int64 // of streams, by a goroutine of the session
}

func newTunnelled(t *testing.T, then func(net.Conn)) *tunnelled {
	a, b := net.Pipe()
	m := &tunnelled{serve: vncServer(then), near: mux.New(a, mux.Config{}), far: mux.New(b, mux.Config{Dialled: true})}
	t.Cleanup(func() { m.near.Close(); m.far.Close() })
	return m
}

func (m *tunnelled) Open(context.Context, string, string) (net.Conn, wire.Secret, error) {
	s, err := m.near.OpenStream()
	if err != nil {
		return nil, wire.Secret{}, err
	}
	go func() {
		if c, err := m.far.AcceptStream(); err == nil {
			m.serve(c)
		}
	}()
	return &countedStream{s, m}, wire.Secret{VNCPassword: "password"}, nil
}

type countedStream struct {
	*mux.Stream
	m *tunnelled
}

func (s *countedStream) Read(p []byte) (int, error) {
	s.m.reads.Add(1)
	return s.Stream.Read(p)
}

// While the browser keeps up, each piece of a picture goes to it without a goroutine of the session; a browser that does not
// gets every byte all the same.
func TestPicturesPassDirectly(t *testing.T) {
	t.Parallel()
	const pieces = 500
	next := make(chan struct{})
	m := newTunnelled(t, func(c net.Conn) {
		for i := range pieces {
			<-next
			if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, 1+i*40)); err != nil {
				return
			}
		}
		<-next
		for range 200 { // 13 MB: more than the kernel's buffers hold
			if _, err := c.Write(bytes.Repeat([]byte{7}, 64<<10)); err != nil {
				return
			}
		}
		<-next
	})
	f := newFixture(t, bridge.Config{Opener: m}, access.BridgeSession{Mode: "control"})
	c, _ := f.dial(t, "/vnc")
	shake(t, c)
	read := func(n int) (all []byte) {
		for len(all) < n {
			_, b, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return all
	}
	before := m.reads.Load()
	for i := range pieces {
		next <- struct{}{}
		if got := read(1 + i*40); !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 1+i*40)) {
			t.Fatalf("piece %d: got %d other bytes", i, len(got))
		}
	}
	if n := m.reads.Load() - before; n > pieces/10 { // a socket may be full for a moment
		t.Errorf("%d of %d pieces woke up a goroutine of the session", n, pieces)
	}
	next <- struct{}{}
	time.Sleep(100 * time.Millisecond) // the browser does not read
	if got := read(200 * 64 << 10); !bytes.Equal(got, bytes.Repeat([]byte{7}, 200*64<<10)) {
		t.Errorf("a slow browser got %d bytes, want %d", len(got), 200*64<<10)
	}
	next <- struct{}{}
}

// A session that is revoked while its browser does not read still gets its close code: the message that is half sent is
// finished first.
func TestRevokedWhileTorn(t *testing.T) {
	t.Parallel()
	m := newTunnelled(t, func(c net.Conn) {
		for {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	revoked := make(chan struct{})
	f := newFixture(t, bridge.Config{Opener: m, WriteWithin: time.Minute}, access.BridgeSession{Mode: "control", Revoked: revoked})
	c, _ := f.dial(t, "/vnc")
	shake(t, c)
	time.Sleep(200 * time.Millisecond) // the kernel's buffers fill
	close(revoked)
	for {
		_, _, err := c.Read(t.Context())
		if err == nil {
			continue
		}
		if code := websocket.CloseStatus(err); code != bridge.CloseSignedOut {
			t.Errorf("got %v, want close code %d", err, bridge.CloseSignedOut)
		}
		return
	}
}
