// Package bridged plays a browser against guest, tunnel and bridge, joined as cmd/cloudbot joins them.
package bridged_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest"
	"github.com/cloudbot-ai/control-plane/guest/paths"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machines is a small control plane that knows one instance.
type machines struct {
	mu     sync.Mutex
	key    []byte
	keys   map[string]string
	phases chan instance.Phase
	cost   int64 // of the models, the latest total
}

func (m *machines) Enroll(_ context.Context, token string, key []byte) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if token != "one-time-token" || m.key != nil && !bytes.Equal(m.key, key) {
		return "", instance.ErrEnrolment
	}
	m.key = key
	return "01INSTANCE", nil
}

func (m *machines) Guest(_ context.Context, id string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if id != "01INSTANCE" {
		return nil, "", instance.ErrNotFound
	}
	return m.key, "account", nil
}

func (m *machines) Reached(_ context.Context, _, _ string, p instance.Phase, _ string) error {
	m.phases <- p
	return nil
}

func (m *machines) Versions(context.Context, string, string, map[string]string) error { return nil }

func (m *machines) ModelCost(_ context.Context, _, _ string, total int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cost = total
	return nil
}

func (m *machines) Keys(context.Context, string, string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys, nil
}

// world is a guest, a hub and a bridge, joined as cmd/cloudbot joins them.
type world struct {
	hub    *tunnel.Hub
	bridge *bridge.Bridge
	url    string
	m      *machines
	log    *syncBuffer
	uses   *uses
	end    func() // stops the guest
}

func newWorld(t *testing.T, session access.BridgeSession, desktop string) *world {
	t.Helper()
	return newPacedWorld(t, session, desktop, 0)
}

// newPacedWorld returns a world whose agent makes a step each so many milliseconds; 0: as a person reads.
func newPacedWorld(t *testing.T, session access.BridgeSession, desktop string, pace int) *world {
	t.Helper()
	w := &world{m: &machines{phases: make(chan instance.Phase, 100), keys: map[string]string{"OPENAI_API_KEY": "sk-canary-0123456789abcdef"}}, log: &syncBuffer{}, uses: &uses{}}
	log := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if w.hub, err = tunnel.New(tunnel.Config{Machines: w.m, Uses: w.uses, Logger: log}); err != nil {
		t.Fatal(err)
	}
	// Its clients answer pings only while they read.
	w.bridge = bridge.New(bridge.Config{Opener: w.hub, Logger: log, PingEvery: time.Hour})
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", w.hub.GuestHandler())
	session.Account, session.Instance = "account", "01INSTANCE"
	mux.HandleFunc("/vnc", func(rw http.ResponseWriter, r *http.Request) { w.bridge.ServeVNC(rw, r, session) })
	mux.HandleFunc("/cloudbot", func(rw http.ResponseWriter, r *http.Request) { w.bridge.ServeAgent(rw, r, session) })
	visitor := session
	visitor.Mode = "view"
	mux.HandleFunc("/visit", func(rw http.ResponseWriter, r *http.Request) { w.bridge.ServeAgent(rw, r, visitor) })
	server := httptest.NewServer(mux)
	w.url = server.URL

	config, err := json.Marshal(map[string]any{
		"control_plane_url": server.URL, "instance": "01INSTANCE", "token": "one-time-token", "boot": "boot-1",
		"desktop": map[string]any{"kind": desktop}, "agent": map[string]any{"kind": "stand-in", "pace_ms": pace},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := guest.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := guest.New(c, "test", w.log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("guest: %v", err)
		}
	})
	w.end = func() { cancel(); all.Wait() }
	back, stop := context.WithCancel(context.Background())
	var behind sync.WaitGroup
	behind.Go(func() { _ = w.bridge.Run(back) })
	behind.Go(func() { _ = w.hub.Run(back) })
	t.Cleanup(func() {
		stop()
		behind.Wait()
		w.end()
		server.Close()
		_ = os.RemoveAll(paths.Home(c.StateDir)) // outside the test's folder if the desktop's user cannot reach that
		if t.Failed() {
			t.Log(w.log.String())
		}
		if strings.Contains(w.log.String(), "sk-canary") {
			t.Error("the log: got an API key, want none")
		}
	})
	for _, want := range []instance.Phase{instance.PhaseBooting, instance.PhaseInstalling, instance.PhaseDesktop, instance.PhaseAgent, instance.PhaseReady} {
		select {
		case got := <-w.m.phases:
			if got != want {
				t.Fatalf("phase %s, want %s", got, want)
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("phase %s does not come", want)
		}
	}
	return w
}

func (w *world) dial(t *testing.T, path string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(w.url, "http")+path, &websocket.DialOptions{Subprotocols: []string{"binary"}, HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		if res != nil {
			b, _ := io.ReadAll(res.Body)
			t.Logf("answer: %s", b)
		}
		t.Fatal(err)
	}
	if c.Subprotocol() != "binary" {
		t.Errorf("subprotocol: got %q, want binary", c.Subprotocol())
	}
	c.SetReadLimit(-1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// viewer is a small RFB client.
type viewer struct {
	t    *testing.T
	c    net.Conn
	w, h int
	name string
	fb   []uint32
}

func newViewer(t *testing.T, c *websocket.Conn) *viewer {
	t.Helper()
	v := &viewer{t: t, c: websocket.NetConn(t.Context(), c, websocket.MessageBinary)}
	if got := string(v.read(12)); got != rfb.Version {
		t.Fatalf("version: got %q, want %q", got, rfb.Version)
	}
	v.write([]byte(rfb.Version))
	if got := v.read(2); !bytes.Equal(got, []byte{1, rfb.SecurityNone}) {
		t.Fatalf("security types: got %v, want None only", got)
	}
	v.write([]byte{rfb.SecurityNone})
	if got := v.read(4); !bytes.Equal(got, make([]byte, 4)) {
		t.Fatalf("security result: got %v, want 0", got)
	}
	v.write([]byte{1})
	init := v.read(24)
	v.w, v.h = int(binary.BigEndian.Uint16(init)), int(binary.BigEndian.Uint16(init[2:]))
	v.name = string(v.read(int(binary.BigEndian.Uint32(init[20:]))))
	v.fb = make([]uint32, v.w*v.h)
	// 32 bits, little endian, 8 bits per colour, regardless of what the server prefers.
	v.write([]byte{rfb.SetPixelFormat, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0})
	v.write([]byte{rfb.SetEncodings, 0, 0, 1, 0, 0, 0, rfb.EncodingRaw})
	return v
}

func (v *viewer) read(n int) []byte {
	v.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(v.c, b); err != nil {
		v.t.Fatal(err)
	}
	return b
}

func (v *viewer) write(b []byte) {
	v.t.Helper()
	if _, err := v.c.Write(b); err != nil {
		v.t.Fatal(err)
	}
}

func (v *viewer) ask(incremental bool) {
	b := []byte{rfb.FramebufferUpdateRequest, 0, 0, 0, 0, 0}
	if incremental {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint16(b, uint16(v.w))
	v.write(binary.BigEndian.AppendUint16(b, uint16(v.h)))
}

// update reads one framebuffer update and returns how many pixels changed inside the given area.
func (v *viewer) update(inside func(x, y int) bool) (changed int) {
	for {
		switch kind := v.read(1)[0]; kind {
		case rfb.Bell:
			continue
		case rfb.ServerCutText:
			v.read(int(binary.BigEndian.Uint32(v.read(7)[3:])))
			continue
		case rfb.FramebufferUpdate:
		default:
			v.t.Fatalf("message: got %d, want %d", kind, rfb.FramebufferUpdate)
		}
		break
	}
	u := binary.BigEndian.Uint16
	for range u(v.read(3)[1:]) {
		r := v.read(12)
		x0, y0, w, h := int(u(r)), int(u(r[2:])), int(u(r[4:])), int(u(r[6:]))
		px := v.read(4 * w * h)
		for y := range h {
			for x := range w {
				p := binary.LittleEndian.Uint32(px[4*(y*w+x):]) & 0xffffff
				at := &v.fb[(y0+y)*v.w+x0+x]
				if *at != p && (inside == nil || inside(x0+x, y0+y)) {
					changed++
				}
				*at = p
			}
		}
	}
	return changed
}

func (v *viewer) colours() int {
	seen := map[uint32]bool{}
	for _, p := range v.fb {
		seen[p] = true
	}
	return len(seen)
}

func (v *viewer) key(sym uint32) {
	for _, down := range []byte{1, 0} {
		v.write(binary.BigEndian.AppendUint32([]byte{rfb.KeyEvent, down, 0, 0}, sym))
	}
}

// belowBar excludes the built-in screen's clock.
func belowBar(_, y int) bool { return y > 60 }

func TestDesktopThroughTheWholePath(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"built-in", "x11"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == "x11" && !(installed("xterm") && (installed("Xvnc") || installed("Xvfb", "x11vnc"))) {
				t.Skip("xterm, and Xvnc or Xvfb with x11vnc, are not installed")
			}
			w := newWorld(t, access.BridgeSession{Mode: "control"}, kind)
			v := newViewer(t, w.dial(t, "/vnc"))
			if v.w != 1280 || v.h != 800 {
				t.Errorf("screen: got %d × %d, want 1280 × 800", v.w, v.h)
			}
			v.ask(false)
			v.update(nil)
			for v.colours() < 3 { // a real desktop is drawn gradually
				v.ask(true)
				v.update(nil)
			}
			if kind == "x11" {
				// The pointer into the terminal, for the focus.
				v.write([]byte{rfb.PointerEvent, 0, 1, 144, 1, 44})
				v.write([]byte{rfb.PointerEvent, 1, 1, 144, 1, 44})
				v.write([]byte{rfb.PointerEvent, 0, 1, 144, 1, 44})
			}
			for changed := 0; changed < 20; {
				for _, k := range "echo hello" {
					v.key(uint32(k))
				}
				v.ask(true)
				changed += v.update(belowBar)
			}
		})
	}
}

func TestViewOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, access.BridgeSession{Mode: "view"}, "built-in")
	v := newViewer(t, w.dial(t, "/vnc"))
	v.ask(false)
	v.update(nil)
	for _, k := range "rm -rf" {
		v.key(uint32(k))
	}
	v.write([]byte{rfb.PointerEvent, 1, 1, 44, 1, 144})
	v.write(append([]byte{rfb.ClientCutText, 0, 0, 0, 0, 0, 0, 5}, "paste"...))
	v.ask(false) // answered after the input would have taken effect
	if changed := v.update(belowBar); changed != 0 {
		t.Errorf("pixels changed by a viewer without control: got %d, want 0", changed)
	}
	c := newChat(t, w.dial(t, "/cloudbot"))
	if r := c.ask("chat.send", map[string]any{"sessionKey": "main", "message": "hi", "idempotencyKey": "k"}); r.OK {
		t.Error("a message of a viewer without control: got accepted, want refused")
	}
	if r := c.ask("chat.history", map[string]any{"sessionKey": "main"}); !r.OK {
		t.Errorf("history: got %s, want it for a viewer without control", r.Error)
	}
}

type chat struct {
	t     *testing.T
	c     *websocket.Conn
	n     int
	hello map[string]any
	heard []answer // all frames
}

type answer struct {
	Type, ID, Event string
	OK              bool
	Payload         payload
	Error           json.RawMessage
}

// payload is an object; other values are left out.
type payload map[string]any

func (p *payload) UnmarshalJSON(b []byte) error {
	var m map[string]any
	_ = json.Unmarshal(b, &m)
	*p = m
	return nil
}

func newChat(t *testing.T, c *websocket.Conn) *chat {
	t.Helper()
	ch := &chat{t: t, c: c}
	a := ch.next()
	if a.Type != "res" || a.Payload["type"] != "hello-ok" {
		t.Fatalf("first frame: got %+v, want hello-ok", a)
	}
	ch.hello = a.Payload
	return ch
}

func (c *chat) next() answer {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	_, b, err := c.c.Read(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal(b, &a); err != nil {
		c.t.Fatal(err)
	}
	c.heard = append(c.heard, a)
	return a
}

func (c *chat) ask(method string, params any) answer {
	c.t.Helper()
	c.n++
	id := fmt.Sprint("r", c.n)
	b, err := json.Marshal(map[string]any{"type": "req", "id": id, "method": method, "params": params})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.c.Write(c.t.Context(), websocket.MessageText, b); err != nil {
		c.t.Fatal(err)
	}
	for {
		if a := c.next(); a.Type == "res" && a.ID == id {
			return a
		}
	}
}

func TestChatThroughTheWholePath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, access.BridgeSession{Mode: "control"}, "built-in")
	c := newChat(t, w.dial(t, "/cloudbot"))
	if auth, _ := json.Marshal(c.hello["auth"]); strings.Contains(strings.ToLower(string(auth)), "token") {
		t.Errorf("the hello: got %s, want no credentials", auth)
	}
	if r := c.ask("connect", map[string]any{"minProtocol": 4, "maxProtocol": 4}); r.OK {
		t.Error("a second connect: got accepted, want refused")
	}
	if r := c.ask("sessions.messages.subscribe", map[string]any{"key": "agent:main:main"}); !r.OK {
		t.Fatalf("subscribe: got %s, want accepted", r.Error)
	}
	if r := c.ask("chat.send", map[string]any{"sessionKey": "main", "message": "good morning", "idempotencyKey": "k1"}); r.Payload["status"] != "started" || r.Payload["runId"] != "k1" {
		t.Fatalf("send: got %+v, want run k1 started", r)
	}
	var text string
	deltas := 0
	for {
		a := c.next()
		if a.Event != "chat" {
			continue
		}
		switch a.Payload["state"] {
		case "delta":
			deltas++
			text += a.Payload["deltaText"].(string)
			continue
		case "final":
		default:
			continue
		}
		break
	}
	if deltas < 3 || !strings.Contains(text, "good morning") || !strings.Contains(text, "OPENAI_API_KEY") || strings.Contains(text, "sk-canary") {
		t.Errorf("answer: got %d deltas, %q, want 3 or more with the message and no key", deltas, text)
	}
	if r := c.ask("chat.send", map[string]any{"sessionKey": "main", "message": "good morning", "idempotencyKey": "k1"}); !r.OK || r.Payload["status"] == "started" {
		t.Errorf("the same message again: got %+v, want accepted and not started again", r)
	}
	for path, want := range map[string]string{"/log": "tunnel connected", "/check": "x11vnc", "/debug": "OPENAI_API_KEY"} {
		status, body := w.diagnose(t, path)
		if status != 200 || !strings.Contains(body, want) || strings.Contains(body, "sk-canary") {
			t.Errorf("%s: got %d and %q, want 200 and %q without the key", path, status, body, want)
		}
	}
}

// diagnose gets a path of the machine's diagnostics server.
func (w *world) diagnose(t *testing.T, path string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.hub.Dial(ctx, "01INSTANCE")
	}}
	res, err := (&http.Client{Transport: transport}).Get("http://machine" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func installed(names ...string) bool {
	for _, n := range names {
		if _, err := os.Stat("/usr/bin/" + n); err != nil {
			return false
		}
	}
	return true
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
