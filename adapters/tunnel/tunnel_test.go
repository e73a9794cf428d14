package tunnel

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
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

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "01INSTANCE"

// machines knows one machine by its key; it can be made to fail.
type machines struct {
	mu      sync.Mutex
	key     ed25519.PublicKey
	private ed25519.PrivateKey
	down    int // how many calls of Reached fail
	reached []string
	keys    map[string]string
	phases  chan struct{}

	versions []string
	named    chan struct{}

	costs []string     // "meter total"
	costy func() error // nil: every cost is accepted
}

func newMachines(t *testing.T) *machines {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &machines{key: pub, private: private, keys: map[string]string{"OPENAI_API_KEY": "one"}, phases: make(chan struct{}, 100), named: make(chan struct{}, 100)}
}

func (m *machines) Enroll(_ context.Context, token string, key []byte) (string, error) {
	if token != "good" || !bytes.Equal(key, m.key) {
		return "", instance.ErrEnrolment
	}
	return id, nil
}

func (m *machines) Guest(_ context.Context, i string) ([]byte, string, error) {
	if i != id {
		return nil, "", instance.ErrNotFound
	}
	return m.key, "account", nil
}

func (m *machines) Reached(_ context.Context, i, boot string, p instance.Phase, _ string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down > 0 {
		m.down--
		return errors.New("the store is unavailable")
	}
	m.reached = append(m.reached, boot+" "+string(p))
	m.phases <- struct{}{}
	return nil
}

func (m *machines) Versions(_ context.Context, _, boot string, versions map[string]string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.versions = append(m.versions, fmt.Sprint(boot, " ", versions))
	m.named <- struct{}{}
	return nil
}

func (m *machines) ModelCost(_ context.Context, _, meter string, total int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.costy != nil {
		if err := m.costy(); err != nil {
			return err
		}
	}
	m.costs = append(m.costs, fmt.Sprint(meter, " ", total))
	return nil
}

func (m *machines) Keys(context.Context, string, string) (map[string]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys, nil
}

// presence is the replicas' shared table.
type presence struct {
	mu    sync.Mutex
	who   map[string]string
	lost  map[string]chan struct{}
	heard map[string]time.Time
}

func (p *presence) Left(_ context.Context, i string, at time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heard == nil {
		p.heard = map[string]time.Time{}
	}
	p.heard[i] = at
	return nil
}

func (p *presence) Heard(_ context.Context, i string) (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[i], nil
}

func (p *presence) Claim(_ context.Context, i, url string) (func(), <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == nil {
		p.lost = map[string]chan struct{}{}
	}
	if other := p.lost[i]; other != nil {
		close(other)
	}
	mine := make(chan struct{})
	p.who[i], p.lost[i] = url, mine
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lost[i] == mine {
			delete(p.who, i)
			delete(p.lost, i)
		}
	}, mine, nil
}

func (p *presence) Lookup(_ context.Context, i string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.who[i], nil
}

type replica struct {
	hub  *Hub
	url  string
	stop func()
}

func newReplica(t *testing.T, m Machines, p Presence) *replica {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	c := Config{Machines: m}
	if p != nil {
		c.Presence, c.Advertise, c.HopKey = p, server.URL, bytes.Repeat([]byte("k"), 32)
	}
	h, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/api/guest/", h.GuestHandler())
	mux.Handle(HopPrefix, h.HopHandler())
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { _ = h.Run(ctx) })
	r := &replica{hub: h, url: server.URL, stop: func() { cancel(); run.Wait() }}
	t.Cleanup(func() { r.stop(); server.Close() })
	return r
}

// fakeGuest is a guest's end of a tunnel; the test decides every message.
type fakeGuest struct {
	t       *testing.T
	session *mux.Session
	control *mux.Stream
	lines   chan wire.Message // from the control plane; closed at the end
}

// dialAs greets as boot with the key; the error is the greeting's.
func dialAs(t *testing.T, url, boot string, key ed25519.PrivateKey, spoil func(*wire.Proof)) (*fakeGuest, error) {
	t.Helper()
	ws, under, _, err := frames.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+wire.TunnelPath, &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { ws.CloseNow() })
	var c wire.Challenge
	if _, b, err := ws.Read(t.Context()); err != nil || json.Unmarshal(b, &c) != nil {
		return nil, err
	}
	p := wire.Proof{Version: wire.Version, Instance: id, Boot: boot, Signature: ed25519.Sign(key, wire.SignedBytes(c.Nonce, id, boot))}
	if spoil != nil {
		spoil(&p)
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	if err := ws.Write(t.Context(), websocket.MessageText, b); err != nil {
		return nil, err
	}
	if _, _, err := ws.Read(t.Context()); err != nil {
		return nil, err
	}
	session := wire.Session(ws, under, true)
	g := &fakeGuest{t: t, session: session, lines: make(chan wire.Message, 100)}
	t.Cleanup(func() { session.Close() })
	if g.control, err = session.OpenStream(); err != nil {
		return nil, err
	}
	go func() {
		defer close(g.lines)
		lines := wire.NewLines(g.control)
		for {
			m, err := lines.Next()
			if err != nil {
				return
			}
			g.lines <- m
		}
	}()
	g.say(wire.Message{Hello: &wire.Hello{Version: "fake", Boot: boot, VNCPassword: "vnc-secret", GatewayToken: "gateway-secret"}})
	return g, nil
}

func mustDial(t *testing.T, url, boot string, key ed25519.PrivateKey) *fakeGuest {
	t.Helper()
	g, err := dialAs(t, url, boot, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *fakeGuest) say(m wire.Message) {
	g.t.Helper()
	if err := wire.WriteLine(g.control, m, wire.MaxLine); err != nil {
		g.t.Fatal(err)
	}
}

// hear waits for a matching message.
func (g *fakeGuest) hear(what string, fits func(wire.Message) bool) {
	g.t.Helper()
	late := time.After(60 * time.Second)
	for {
		select {
		case m, ok := <-g.lines:
			if !ok {
				g.t.Fatalf("the tunnel ended before %s", what)
			}
			if fits(m) {
				return
			}
		case <-late:
			g.t.Fatalf("no %s", what)
		}
	}
}

// echo serves one stream: it names the service and sends back all data.
func (g *fakeGuest) echo() {
	for {
		s, err := g.session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			defer s.Close()
			var o wire.Open
			if wire.ReadLine(s, &o, wire.MaxHeader) != nil {
				return
			}
			if o.Open == wire.VNC {
				_ = wire.WriteLine(s, wire.Opened{Error: "the desktop is not ready yet"}, wire.MaxHeader)
				return
			}
			_ = wire.WriteLine(s, wire.Opened{OK: true}, wire.MaxHeader)
			_, _ = io.Copy(s, s)
		}()
	}
}

func closeCode(t *testing.T, err error, want websocket.StatusCode) {
	t.Helper()
	if got := websocket.CloseStatus(err); got != want {
		t.Errorf("refused with %d (%v), want %d", got, err, want)
	}
}

func TestEnrol(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	for body, want := range map[string]int{
		`{"token":"good","public_key":"` + b64(m.key) + `"}`:               200,
		`{"token":"bad","public_key":"` + b64(m.key) + `"}`:                403,
		`{"token":"good","public_key":"AAAA"}`:                             422,
		`{"token":"good","public_key":"` + b64(m.key) + `","x":1}`:         422,
		`{"token":"` + strings.Repeat("x", 9<<10) + `","public_key":"AA"}`: 422,
	} {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Post(r.url+wire.EnrollPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%.60s: %d, want %d", body, res.StatusCode, want)
		}
	}
}

func b64(b []byte) string { t, _ := json.Marshal(b); return strings.Trim(string(t), `"`) }

func TestGreetingRefusals(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	_, stranger, _ := ed25519.GenerateKey(nil)
	_, err := dialAs(t, r.url, "b", stranger, nil)
	closeCode(t, err, wire.CloseUnauthorized)
	_, err = dialAs(t, r.url, "b", m.private, func(p *wire.Proof) { p.Instance = "01OTHER" })
	closeCode(t, err, wire.CloseGone)
	_, err = dialAs(t, r.url, "b", m.private, func(p *wire.Proof) { p.Boot = "another" })
	closeCode(t, err, wire.CloseUnauthorized)
	_, err = dialAs(t, r.url, "b", m.private, func(p *wire.Proof) { p.Instance = "../x" })
	closeCode(t, err, wire.CloseUnauthorized)
	// A proof that was valid on another connection.
	old := ed25519.Sign(m.private, wire.SignedBytes(make([]byte, 32), id, "b"))
	_, err = dialAs(t, r.url, "b", m.private, func(p *wire.Proof) { p.Signature = old })
	closeCode(t, err, wire.CloseUnauthorized)
	if r.hub.Connected(id) || r.hub.Len() != 0 {
		t.Errorf("got %d tunnels, want 0", r.hub.Len())
	}
}

func TestOpenAndSecret(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	if _, _, err := r.hub.Open(t.Context(), id, wire.Agent); !errors.Is(err, ErrNotConnected) {
		t.Errorf("before the tunnel: got %v, want %v", err, ErrNotConnected)
	}
	g := mustDial(t, r.url, "b", m.private)
	go g.echo()
	c, secret, err := r.hub.Open(t.Context(), id, wire.Agent)
	if err != nil {
		t.Fatal(err)
	}
	if secret.VNCPassword != "vnc-secret" || secret.GatewayToken != "gateway-secret" || strings.Contains(secret.String(), "vnc") {
		t.Errorf("secret: got %v, want both parts, printed as a placeholder", secret)
	}
	roundTrip(t, c)
	blocked := make(chan error, 1)
	go func() { _, err := c.Read(make([]byte, 1)); blocked <- err }()
	c.Close()
	if err := <-blocked; err == nil {
		t.Errorf("blocked read after Close: got no error, want one")
	}
	if _, _, err := r.hub.Open(t.Context(), id, wire.VNC); !errors.Is(err, ErrNotReady) {
		t.Errorf("a service that is down: got %v, want %v", err, ErrNotReady)
	}
	var open []net.Conn
	for range wire.MaxStreams {
		c, _, err := r.hub.Open(t.Context(), id, wire.Agent)
		if err != nil {
			t.Fatalf("stream %d: %v", len(open), err)
		}
		open = append(open, c)
	}
	if _, _, err := r.hub.Open(t.Context(), id, wire.Agent); !errors.Is(err, ErrBusy) {
		t.Errorf("one stream too many: got %v, want %v", err, ErrBusy)
	}
	for _, c := range open {
		c.Close()
		c.Close()
	}
	if c, _, err := r.hub.Open(t.Context(), id, wire.Agent); err != nil {
		t.Errorf("after closing all streams: got %v, want a stream", err)
	} else {
		c.Close()
	}
}

func roundTrip(t *testing.T, c net.Conn) {
	t.Helper()
	want := bytes.Repeat([]byte("0123456789"), 50_000) // more than a window
	go func() { _, _ = c.Write(want) }()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("round trip: got %d other bytes and %v, want those sent", len(got), err)
	}
}

func TestSameBootSupersedesAnotherIsRefused(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	first := mustDial(t, r.url, "b", m.private)
	_, err := dialAs(t, r.url, "clone", m.private, nil)
	closeCode(t, err, wire.CloseOwned)
	second := mustDial(t, r.url, "b", m.private)
	<-first.session.Done()
	if r.hub.Len() != 1 {
		t.Errorf("tunnels: got %d, want 1", r.hub.Len())
	}
	second.session.Close()
	// The owner is gone: another boot may connect once the hub has noticed.
	for {
		if _, err := dialAs(t, r.url, "next", m.private, nil); err == nil {
			break
		} else if websocket.CloseStatus(err) != wire.CloseOwned {
			t.Fatal(err)
		}
	}
}

func TestPhasesInOrderThroughAnOutage(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	m.down = 3
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	if _, err := g.control.Write([]byte(`{"log":{"line":"of a guest that still sends them"}}` + "\n")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"booting", "nonsense", "requested", "installing", "desktop", "agent", "ready"} {
		g.say(wire.Message{Phase: &wire.Phase{Phase: p}})
	}
	for range 5 {
		select {
		case <-m.phases:
		case <-time.After(60 * time.Second):
			t.Fatal("phases do not arrive")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := strings.Join(m.reached, ","); got != "b booting,b installing,b desktop,b agent,b ready" {
		t.Errorf("phases: got %s, want b booting,b installing,b desktop,b agent,b ready", got)
	}
}

// A machine's reported versions are delivered when they change, sanitized for the log.
func TestVersionsAreBoundedAndToldOnce(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	hello := func(versions map[string]string) {
		g.say(wire.Message{Hello: &wire.Hello{Boot: "b", Versions: versions}})
	}
	hostile := map[string]string{
		"": "no name", "os": "", "bell": "\a", "line\n": "1", "bytes": "\xff", "turned": "\u202e1", strings.Repeat("n", maxProgram+1): "1",
		"long": strings.Repeat("v", maxVersion+1),
	}
	for i := range 2 * maxVersions {
		hostile[fmt.Sprintf("x%02d", i)] = "1"
	}
	for _, versions := range []map[string]string{{"guest": "1"}, {"guest": "1"}, {"guest": "1", "node": "22"}, hostile} {
		hello(versions)
	}
	for range 3 {
		select {
		case <-m.named:
		case <-time.After(60 * time.Second):
			t.Fatal("versions do not arrive")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	want := map[string]string{"long": strings.Repeat("v", maxVersion)}
	for i := range maxVersions - 1 {
		want[fmt.Sprintf("x%02d", i)] = "1"
	}
	if got := m.versions; got[0] != "b map[guest:1]" || got[1] != "b map[guest:1 node:22]" || got[2] != fmt.Sprint("b ", want) {
		t.Errorf("versions: got %s, want guest, then guest and node, then %v", got, want)
	}
}

func TestKeysOnConnectAndOnPush(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	g.hear("keys on connect", func(l wire.Message) bool { return l.Keys != nil && l.Keys.Env["OPENAI_API_KEY"] == "one" })
	m.mu.Lock()
	m.keys = map[string]string{"OPENAI_API_KEY": "two"}
	m.mu.Unlock()
	r.hub.PushKeys(t.Context(), "another account")
	r.hub.PushKeys(t.Context(), "account")
	g.hear("pushed keys", func(l wire.Message) bool { return l.Keys != nil && l.Keys.Env["OPENAI_API_KEY"] == "two" })
}

func TestGoAway(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	g.hear("keys", func(l wire.Message) bool { return l.Keys != nil })
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.stop() }()
	g.hear("goaway", func(l wire.Message) bool { return l.GoAway != nil })
	g.session.Close()
	<-stopped
	if _, err := dialAs(t, r.url, "b", m.private, nil); err == nil {
		t.Errorf("a stopped hub: got a tunnel, want a refusal")
	}
}

func TestMisbehavingGuests(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(*fakeGuest){
		// Opening, like writing below, may already fail because of the end that it causes.
		"opens streams": func(g *fakeGuest) {
			if s, err := g.session.OpenStream(); err == nil {
				_, _ = s.Write([]byte("x"))
			}
		},
		"a line too long": func(g *fakeGuest) { _, _ = g.control.Write(bytes.Repeat([]byte("x"), wire.MaxLine+1)) },
		"no JSON":         func(g *fakeGuest) { _, _ = g.control.Write([]byte("hello\n")) },
		// The write may already fail because of the end that it causes.
		"another boot": func(g *fakeGuest) {
			_ = wire.WriteLine(g.control, wire.Message{Hello: &wire.Hello{Boot: "other"}}, wire.MaxLine)
		},
		"floods": func(g *fakeGuest) {
			for wire.WriteLine(g.control, wire.Message{Health: &wire.Health{}}, wire.MaxLine) == nil {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachines(t)
			r := newReplica(t, m, nil)
			g := mustDial(t, r.url, "b", m.private)
			misbehave(g)
			select {
			case <-g.session.Done():
			case <-time.After(60 * time.Second):
				t.Error("the tunnel stays")
			}
		})
	}
}

func TestHop(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	p := &presence{who: map[string]string{}}
	a, b := newReplica(t, m, p), newReplica(t, m, p)
	g := mustDial(t, a.url, "b", m.private)
	go g.echo()
	g.hear("keys", func(l wire.Message) bool { return l.Keys != nil })
	var c net.Conn
	var secret Secret
	for { // presence is claimed concurrently with the greeting
		var err error
		if c, secret, err = b.hub.Open(t.Context(), id, wire.Agent); err == nil {
			break
		} else if !errors.Is(err, ErrNotConnected) {
			t.Fatal(err)
		}
	}
	if secret.GatewayToken != "gateway-secret" {
		t.Errorf("token: got %q, want gateway-secret", secret.GatewayToken)
	}
	roundTrip(t, c)
	c.Close()
	if _, _, err := b.hub.Open(t.Context(), id, wire.VNC); !errors.Is(err, ErrNotReady) {
		t.Errorf("a service that is down: got %v, want %v", err, ErrNotReady)
	}
	// The guest reconnects to the other replica, and the first one releases it. Another boot may not connect.
	_, err := dialAs(t, b.url, "clone", m.private, nil)
	closeCode(t, err, wire.CloseOwned)
	mustDial(t, b.url, "b", m.private)
	<-g.session.Done()
	if a.hub.Len() != 0 || b.hub.Len() != 1 {
		t.Errorf("tunnels: got %d and %d, want 0 and 1", a.hub.Len(), b.hub.Len())
	}
	// A replica claims a machine that it does not hold: one hop, and no further.
	p.mu.Lock()
	p.who["01GHOST"] = a.url
	p.mu.Unlock()
	if _, _, err := b.hub.Open(t.Context(), "01GHOST", wire.Agent); !errors.Is(err, ErrNotConnected) {
		t.Errorf("a stale presence: got %v, want %v", err, ErrNotConnected)
	}
}

func TestHopProof(t *testing.T) {
	t.Parallel()
	keys := func(secret, self string) *hopKeys {
		k, err := newHopKeys(bytes.Repeat([]byte(secret), 32), self)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	now := time.Now()
	request := func(sign func(*http.Request)) *http.Request {
		r := httptest.NewRequest(http.MethodGet, HopPrefix+"i/agent", nil)
		sign(r)
		return r
	}
	a, b := keys("k", "http://a"), keys("k", "http://b")
	good := request(func(r *http.Request) { a.sign(r, "http://b", now) })
	if err := b.check(good, now); err != nil {
		t.Errorf("a valid proof: got %v, want no error", err)
	}
	for name, r := range map[string]*http.Request{
		"seen before":       good,
		"none":              request(func(*http.Request) {}),
		"another key":       request(func(r *http.Request) { keys("x", "http://a").sign(r, "http://b", now) }),
		"for another":       request(func(r *http.Request) { a.sign(r, "http://c", now) }),
		"too old":           request(func(r *http.Request) { a.sign(r, "http://b", now.Add(-32*time.Second)) }),
		"from the future":   request(func(r *http.Request) { a.sign(r, "http://b", now.Add(32*time.Second)) }),
		"another path":      request(func(r *http.Request) { a.sign(r, "http://b", now); r.URL.Path += "x" }),
		"another method":    request(func(r *http.Request) { a.sign(r, "http://b", now); r.Method = http.MethodPost }),
		"nonce exchanged":   request(func(r *http.Request) { a.sign(r, "http://b", now); r.Header.Set(hopNonce, "0123456789abcdefgh") }),
		"time made current": request(func(r *http.Request) { a.sign(r, "http://b", now.Add(-time.Minute)); r.Header.Set(hopTime, "0") }),
	} {
		if b.check(r, now) == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	sealed, err := a.seal(Secret{VNCPassword: "p", GatewayToken: "t"}, "nonce")
	if err != nil || strings.Contains(sealed, "p\"") {
		t.Fatal(err)
	}
	if s, err := b.unseal(sealed, "nonce"); err != nil || s.GatewayToken != "t" {
		t.Errorf("unseal: got %v with %v, want the sealed secret", s, err)
	}
	if _, err := b.unseal(sealed, "other"); err == nil {
		t.Errorf("a secret of another hop: got no error, want one")
	}
	if _, err := newHopKeys([]byte("short"), "x"); err == nil {
		t.Errorf("a short key: got no error, want one")
	}
}

func TestTenantsOwnBrowserCannotDialIn(t *testing.T) {
	t.Parallel()
	r := newReplica(t, newMachines(t), nil)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+wire.TunnelPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Origin", "https://evil.example")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("got %d, want 403", res.StatusCode)
	}
}
