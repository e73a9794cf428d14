// Package hostile_test puts tunnels and bridges together, and a hostile machine beside a good one. Whatever the hostile
// one does, the other tenant is served.
package hostile_test

import (
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store holds the machines' keys. A machine's account has the machine's name.
type store map[string]ed25519.PrivateKey

func (s store) Enroll(context.Context, string, []byte) (string, error) {
	return "", instance.ErrEnrolment
}

func (s store) Guest(_ context.Context, id string) ([]byte, string, error) {
	if s[id] == nil {
		return nil, "", instance.ErrNotFound
	}
	return s[id].Public().(ed25519.PublicKey), id, nil
}

func (store) Reached(context.Context, string, string, instance.Phase, string) error { return nil }
func (store) ModelCost(context.Context, string, string, int64) error                { return nil }
func (store) Versions(context.Context, string, string, map[string]string) error     { return nil }
func (store) Keys(context.Context, string, string) (map[string]string, error)       { return nil, nil }

// server is a control plane's tunnels and bridges. Its paths are /vnc/ or /agent/ and a machine.
type server struct {
	url    string
	hub    *tunnel.Hub
	bridge *bridge.Bridge
}

// serve starts a server with a connected machine for each of services.
func serve(t *testing.T, services map[string]map[string]func(net.Conn)) *server {
	t.Helper()
	keys := store{}
	for id := range services {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		keys[id] = key
	}
	hub, err := tunnel.New(tunnel.Config{Machines: keys})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{hub: hub, bridge: bridge.New(bridge.Config{Opener: hub})}
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", hub.GuestHandler())
	session := func(r *http.Request) access.BridgeSession {
		return access.BridgeSession{Account: r.PathValue("id"), Instance: r.PathValue("id"), Mode: "control"}
	}
	mux.HandleFunc("/vnc/{id}", func(w http.ResponseWriter, r *http.Request) { s.bridge.ServeVNC(w, r, session(r)) })
	mux.HandleFunc("/agent/{id}", func(w http.ResponseWriter, r *http.Request) { s.bridge.ServeAgent(w, r, session(r)) })
	front := httptest.NewServer(mux)
	s.url = front.URL
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = hub.Run(ctx) })
	all.Go(func() { _ = s.bridge.Run(ctx) })
	var guests sync.WaitGroup
	var tunnels []*hostile.Tunnel
	t.Cleanup(func() {
		stop()
		all.Wait()
		for _, tun := range tunnels {
			tun.Close()
		}
		guests.Wait()
		front.Close()
	})
	for id, of := range services {
		tun, err := hostile.Machine{URL: s.url, Instance: id, Boot: "b", Process: "p", Key: keys[id]}.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tunnels = append(tunnels, tun)
		guests.Go(func() { tun.Serve(of) })
	}
	return s
}

func (s *server) dial(ctx context.Context, path string) (*websocket.Conn, *http.Response, error) {
	c, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.url, "http")+path, &websocket.DialOptions{
		Subprotocols: []string{"binary"}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
	if c != nil {
		c.SetReadLimit(-1)
	}
	return c, res, err
}

// chats sends a message to the good machine's agent and reads the answer.
func (s *server) chats(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, _, err := s.dial(ctx, "/agent/good")
	if err != nil {
		t.Fatal("the other tenant's agent:", err)
	}
	defer c.CloseNow()
	if _, _, err := c.Read(ctx); err != nil { // hello-ok
		t.Fatal(err)
	}
	const frame = `{"type":"req","id":"1","method":"chat.history","params":{}}`
	if err := c.Write(ctx, websocket.MessageText, []byte(frame)); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.Read(ctx); err != nil || string(got) != frame {
		t.Errorf("the other tenant's agent: got %q, %v, want %q", got, err, frame)
	}
}

func echo(ctx context.Context, c *websocket.Conn) {
	for {
		typ, b, err := c.Read(ctx)
		if err != nil || c.Write(ctx, typ, b) != nil {
			return
		}
	}
}

// mute accepts a connection and sends nothing on it.
func mute(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// While a machine greets each of its 16 sessions with 8 MiB, or accepts connections and never answers, another tenant's
// agent answers. The machine's sessions end with a status and leave nothing in memory.
func TestHostileMachineBesideAnother(t *testing.T) {
	t.Parallel()
	good := map[string]func(net.Conn){wire.Agent: hostile.Gateway{After: echo}.Serve}
	for name, tt := range map[string]struct {
		bad    func(net.Conn)
		status int
	}{
		"a greeting of 8 MiB": {hostile.Gateway{Padded: 8 << 20}.Serve, http.StatusBadGateway},
		"endless frames":      {hostile.Gateway{Before: hostile.EndlessFrames(64 << 10)}.Serve, http.StatusBadGateway},
		"no answer":           {mute, http.StatusBadGateway},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, map[string]map[string]func(net.Conn){"good": good, "bad": {wire.Agent: tt.bad, wire.VNC: tt.bad}})
			served := make(chan struct{})
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for { // repeated until the other tenant was served
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						_, res, err := s.dial(ctx, "/agent/bad")
						cancel()
						if err == nil || res == nil || res.StatusCode != tt.status {
							t.Errorf("the bad machine's session: got %v, %v, want status %d", res, err, tt.status)
							return
						}
						select {
						case <-served:
							return
						default:
						}
					}
				})
			}
			for range 3 {
				s.chats(t)
			}
			close(served)
			all.Wait()
			deadline := time.NewTimer(time.Minute)
			defer deadline.Stop()
			for tick := time.NewTicker(5 * time.Millisecond); ; {
				sessions, bytes := s.bridge.Greetings()
				if sessions == 0 && bytes == 0 && s.bridge.Len() == 0 {
					break
				}
				select {
				case <-tick.C:
				case <-deadline.C:
					t.Fatalf("left: got %d greetings with %d bytes and %d sessions, want none", sessions, bytes, s.bridge.Len())
				}
			}
		})
	}
}
