package bridged_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/guest/activity"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/typing"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// counted counts the connections that are open.
type counted struct {
	net.Conn
	once sync.Once
	open *atomic.Int64
}

func (c *counted) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// place is a control plane and one machine, joined by connections that hold nothing themselves: what the screen has sent and
// the viewer has not read is in the memory of the two.
type place struct {
	bridge   *bridge.Bridge
	tunnel   *hostile.Tunnel
	listener *pipe.Listener
	open     atomic.Int64 // connections, of the control plane and of the screen
}

func newPlace(t *testing.T, screen func(net.Conn)) *place {
	t.Helper()
	p := &place{listener: pipe.NewListener()}
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	hub, err := tunnel.New(tunnel.Config{Machines: &machines{key: key.Public().(ed25519.PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	p.bridge = bridge.New(bridge.Config{Opener: hub, PingEvery: time.Hour, WriteWithin: 3 * time.Second, MaxPerInstance: 60, MaxPerAccount: 60})
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", hub.GuestHandler())
	mux.HandleFunc("/vnc", func(w http.ResponseWriter, r *http.Request) {
		p.bridge.ServeVNC(w, r, access.BridgeSession{Account: "account", Instance: "01INSTANCE", Mode: access.ModeControl})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = server.Serve(p.listener) })
	all.Go(func() { _ = hub.Run(ctx) })
	all.Go(func() { _ = p.bridge.Run(ctx) })
	m := hostile.Machine{URL: "http://machine", Instance: "01INSTANCE", Boot: "boot", Key: key, Network: p.dial}
	if p.tunnel, err = m.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	use, keys := activity.New(activity.Config{}), typing.New(slog.New(slog.DiscardHandler))
	room := viewers.New(viewers.Config{Addr: func() string { return "" }})
	// As guest and desktop compose it for a real X server.
	serve := use.Viewer(func(ctx context.Context, c net.Conn) error {
		a, b := net.Pipe()
		p.open.Add(1)
		var shown sync.WaitGroup
		shown.Go(func() { hostile.Desktop{After: screen}.Serve(&counted{Conn: b, open: &p.open}) })
		defer shown.Wait()
		return room.Join(ctx, keys.Filter(ctx, c), a)
	})
	all.Go(func() {
		p.tunnel.Serve(map[string]func(net.Conn){wire.VNC: func(c net.Conn) { _ = serve(context.Background(), c) }})
	})
	t.Cleanup(func() {
		p.tunnel.Close()
		cancel()
		server.Close()
		p.listener.Close()
		room.Close()
		all.Wait()
	})
	return p
}

// dial connects to the control plane.
func (p *place) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	p.open.Add(1)
	c := &counted{Conn: b, open: &p.open}
	go func() {
		if p.listener.Hand(context.Background(), c) != nil {
			a.Close()
		}
	}()
	return a, nil
}

// view opens a session, up to the screen's greeting.
func (p *place) view(ctx context.Context) (*websocket.Conn, net.Conn, error) {
	ws, _, err := websocket.Dial(ctx, "ws://plane/vnc", &websocket.DialOptions{
		Subprotocols: []string{"binary"}, HTTPClient: &http.Client{Transport: &http.Transport{DialContext: p.dial, DisableKeepAlives: true}},
	})
	if err != nil {
		return nil, nil, err
	}
	ws.SetReadLimit(-1)
	c := websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary)
	b := make([]byte, 32)
	for _, step := range []struct {
		read int
		say  string
	}{{12, "RFB 003.008\n"}, {2, "\x01"}, {4, "\x01"}, {25, ""}} {
		if _, err = io.ReadFull(c, b[:step.read]); err == nil && step.say != "" {
			_, err = io.WriteString(c, step.say)
		}
		if err != nil {
			ws.CloseNow()
			return nil, nil, err
		}
	}
	return ws, c, nil
}

// update is a request for a picture. Its x says what the test's screen does: 0 answers with the request, 1 floods.
func update(x byte) []byte { return []byte{3, 0, 0, x, 0, 0, 0, 1, 0, 1} }

// echoOrFlood is a screen that counts what it has sent in a flood, and closes ended after the first.
func echoOrFlood(sent *atomic.Int64, ended chan<- struct{}) func(net.Conn) {
	return func(c net.Conn) {
		request, frame := make([]byte, 10), make([]byte, 32<<10)
		for {
			if _, err := io.ReadFull(c, request); err != nil {
				return
			}
			if request[3] == 0 {
				if _, err := c.Write(request); err != nil {
					return
				}
				continue
			}
			defer close(ended)
			for {
				n, err := c.Write(frame)
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}
	}
}

// TestStalledSessionIsBounded counts what guest, tunnel and bridge accept for a viewer that has stopped reading, until it is
// disconnected. Meanwhile another viewer's session goes on through the same tunnel.
func TestStalledSessionIsBounded(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	ended := make(chan struct{})
	p := newPlace(t, echoOrFlood(&sent, ended))
	other, c, err := p.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.CloseNow()
	stalled, flood, err := p.view(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.CloseNow()
	if _, err := flood.Write(update(1)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	for trips := 0; ; trips++ {
		if _, err := c.Write(update(0)); err != nil {
			t.Fatalf("another session after %d answers: %v", trips, err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("another session after %d answers: %v", trips, err)
		}
		select {
		case <-ended:
			if n := sent.Load(); n > 300_000 || trips < 10 {
				t.Errorf("got %d bytes held for a stalled viewer, and %d answers of another session; want at most 300,000, and at least 10", n, trips)
			}
			return
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the stalled viewer was not disconnected")
		}
	}
}

// TestChurnLeavesNothing opens and closes sessions in several ways, and counts what is left. goleak counts the goroutines.
func TestChurnLeavesNothing(t *testing.T) {
	t.Parallel()
	var sent atomic.Int64
	p := newPlace(t, func(c net.Conn) { echoOrFlood(&sent, make(chan struct{}))(c) })
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for n := range 25 {
				if err := p.comeAndGo(t.Context(), (worker+n)%4); err != nil {
					t.Errorf("session %d of %d: %v", n, worker, err)
					return
				}
			}
		})
	}
	all.Wait()
	type left struct {
		sessions, streams int
		open              int64
	}
	want := left{0, 1, 1} // the tunnel and its control stream
	got := left{}
	for deadline := time.Now().Add(60 * time.Second); got != want && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		got = left{p.bridge.Len(), p.tunnel.Streams(), p.open.Load()}
	}
	if got != want {
		t.Errorf("after 200 sessions: got %+v, want %+v", got, want)
	}
}

// comeAndGo opens a session and leaves it in one of several ways.
func (p *place) comeAndGo(ctx context.Context, way int) error {
	if way == 0 { // before the greeting is over
		conn, _ := p.dial(ctx, "", "")
		_, err := io.WriteString(conn, "GET /vnc HTTP/1.1\r\nHost: plane\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		return errors.Join(err, conn.Close())
	}
	ws, c, err := p.view(ctx)
	if err != nil {
		return err
	}
	switch way {
	case 1: // orderly, after an answer
		if _, err = c.Write(update(0)); err == nil {
			_, err = io.ReadFull(c, make([]byte, 10))
		}
		return errors.Join(err, ws.Close(websocket.StatusNormalClosure, ""))
	case 2: // without a word
		return ws.CloseNow()
	}
	_, err = c.Write(update(1)) // in the middle of a flood
	if err == nil {
		_, err = io.CopyN(io.Discard, c, 100_000)
	}
	return errors.Join(err, ws.CloseNow())
}
