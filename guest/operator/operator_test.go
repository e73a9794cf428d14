package operator_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/guest/gateway"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// machine is a gateway with an operator.
type machine struct {
	t    testing.TB
	o    *operator.Operator
	dial func(context.Context) (func(context.Context, net.Conn) error, error)
}

type dialer = func(context.Context) (func(context.Context, net.Conn) error, error)

// standIn returns a dialer of a stand-in, and stop to end it.
func standIn(t testing.TB) (dial dialer, stop func()) {
	g := gateway.New(gateway.Config{Token: hostile.Token, Pace: time.Millisecond})
	l := pipe.NewListener()
	ctx, cancel := context.WithCancel(context.Background())
	s := &http.Server{Handler: g, BaseContext: func(net.Listener) context.Context { return ctx }}
	g.Ready()
	var all sync.WaitGroup
	all.Go(func() { _ = s.Serve(l) })
	stop = sync.OnceFunc(func() { g.Close(); cancel(); s.Close(); all.Wait() })
	t.Cleanup(stop)
	return func(context.Context) (func(context.Context, net.Conn) error, error) { return l.Hand, nil }, stop
}

func operate(t testing.TB, dial dialer) *machine {
	t.Helper()
	return operateLooking(t, dial, 20*time.Millisecond)
}

func operateLooking(t testing.TB, dial dialer, look time.Duration) *machine {
	t.Helper()
	m := &machine{t, operator.New(operator.Config{Dial: dial, Token: hostile.Token, Wait: time.Millisecond, Look: look}), dial}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = m.o.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	return m
}

// plane is the control plane's end of a stream.
type plane struct {
	t     testing.TB
	c     net.Conn
	lines *bufio.Scanner
	n     int
	seen  []wire.OperatorLine // events that came before an answer
	err   chan error          // of Serve
}

func (m *machine) open() *plane {
	near, far := net.Pipe()
	p := &plane{t: m.t, c: near, lines: bufio.NewScanner(near), err: make(chan error, 1)}
	p.lines.Buffer(nil, wire.MaxOperator)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { p.err <- m.o.Serve(ctx, far) }()
	m.t.Cleanup(func() {
		near.Close()
		cancel()
		select {
		case <-p.err:
		case <-time.After(60 * time.Second):
			m.t.Error("a stream does not end")
		}
	})
	return p
}

func (p *plane) next() wire.OperatorLine {
	p.t.Helper()
	_ = p.c.SetReadDeadline(time.Now().Add(60 * time.Second)) // a real gateway's first turn is slow
	if !p.lines.Scan() {
		p.t.Fatalf("the stream ended: %v", p.lines.Err())
	}
	var l wire.OperatorLine
	if err := json.Unmarshal(p.lines.Bytes(), &l); err != nil {
		p.t.Fatal(err)
	}
	return l
}

func (p *plane) until(event string) map[string]any {
	p.t.Helper()
	for len(p.seen) > 0 {
		l := p.seen[0]
		if p.seen = p.seen[1:]; l.Event == event {
			return object(l.Payload)
		}
	}
	for {
		if l := p.next(); l.Event == event {
			return object(l.Payload)
		}
	}
}

func object(raw json.RawMessage) map[string]any {
	var m map[string]any
	_ = json.Unmarshal(raw, &m)
	return m
}

func (p *plane) ask(method, params string) wire.OperatorLine {
	p.t.Helper()
	p.n++
	r := wire.OperatorRequest{ID: fmt.Sprint("r", p.n), Method: method, Params: json.RawMessage(params)}
	if err := wire.WriteLine(p.c, r, wire.MaxOperator); err != nil {
		p.t.Fatal(err)
	}
	for {
		l := p.next()
		if l.ID == r.ID {
			return l
		}
		p.seen = append(p.seen, l)
	}
}

// connected opens a stream once the operator is connected.
func (m *machine) connected() *plane {
	m.t.Helper()
	p := m.open()
	for !p.ask("exec.approval.list", `{}`).OK {
	}
	return p
}

// client is a connection to the gateway as the control plane makes one for a browser.
type client struct {
	t  testing.TB
	ws *websocket.Conn
}

func (m *machine) client() *client {
	return m.clientWith(`"operator.read","operator.write","operator.approvals","operator.questions"`)
}

func (m *machine) clientWith(scopes string) *client {
	m.t.Helper()
	serve, err := m.dial(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _ = serve(context.Background(), far) }()
	ws, _, err := websocket.Dial(m.t.Context(), "ws://127.0.0.1:18789/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return near, nil }, DisableKeepAlives: true,
	}}})
	if err != nil {
		m.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	m.t.Cleanup(func() { ws.CloseNow(); near.Close(); <-done })
	c := &client{m.t, ws}
	c.send("connect", `{"minProtocol":4,"maxProtocol":4,"client":{"id":"gateway-client","version":"0.1.0","platform":"linux","mode":"backend"},"role":"operator","scopes":[`+scopes+`],"caps":["tool-events"],"auth":{"token":"`+hostile.Token+`"}}`)
	c.until(func(f map[string]any) bool { return f["id"] == "connect" && f["ok"] == true })
	c.send("sessions.messages.subscribe", `{"key":"agent:main:main"}`)
	return c
}

func (c *client) send(method, params string) {
	c.t.Helper()
	if err := c.ws.Write(c.t.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"req","id":%q,"method":%q,"params":%s}`, method, method, params)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) say(text, key string) {
	c.t.Helper()
	c.send("chat.send", fmt.Sprintf(`{"sessionKey":"main","message":%q,"idempotencyKey":%q}`, text, key))
}

func (c *client) until(match func(map[string]any) bool) map[string]any {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, b, err := c.ws.Read(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		if f := object(b); match(f) {
			return f
		}
	}
}

// ended waits for the end of a run and returns its last event.
func (c *client) ended(run string) map[string]any {
	c.t.Helper()
	f := c.until(func(f map[string]any) bool {
		p, _ := f["payload"].(map[string]any)
		return f["event"] == "chat" && p["runId"] == run && (p["state"] == "final" || p["state"] == "aborted" || p["state"] == "error")
	})
	return f["payload"].(map[string]any)
}

func TestOtherMethodsAreRefused(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	p := m.connected()
	m.client().say("/approve", "run")
	id := p.until("exec.approval.requested")["id"].(string)
	const method, params = "does not carry out that method", "invalid parameters"
	for _, tt := range []struct{ method, params, want string }{
		{"connect", `{}`, method},
		{"config.get", `{}`, method},
		{"config.set", `{"raw":"{}"}`, method},
		{"exec.approvals.set", `{}`, method},
		{"exec.approval.request", `{"command":"id"}`, method},
		{"approval.resolve", `{"id":"` + id + `","kind":"exec","decision":"deny"}`, method},
		{"sessions.delete", `{"key":"two"}`, method},
		{"sessions.abort", `{"key":"main"}`, method},
		{"chat.send", `{"sessionKey":"main","message":"m","idempotencyKey":"k"}`, method},
		{"chat.history", `{"sessionKey":"main"}`, method},
		{"CHAT.ABORT", `{"sessionKey":"main"}`, method},
		{"", `{}`, method},
		{"chat.abort", `{}`, params},
		{"chat.abort", `{"sessionKey":"global"}`, params},
		{"chat.abort", `{"sessionKey":" Global "}`, params},
		{"chat.abort", `{"sessionKey":"main","agentId":"another"}`, params},
		{"chat.abort", `{"sessionKey":"` + strings.Repeat("k", 600) + `"}`, params},
		{"chat.abort", `"main"`, params},
		{"exec.approval.resolve", `{"id":"` + id + `","decision":"perhaps"}`, params},
		{"exec.approval.resolve", `{"id":"` + id + `","decision":"deny","reviewer":{"channel":"c","accountId":"a","senderId":"s"}}`, params},
		{"exec.approval.resolve", `{"id":"` + id + `","decision":"allow-always","grantExpiresInDays":3650}`, params},
		{"exec.approval.resolve", `{"id":"` + id[:8] + `","decision":"deny"}`, "unknown or expired"},
		{"plugin.approval.resolve", `{"id":"` + id + `","decision":"deny"}`, "unknown or expired"},
		{"question.resolve", `{"id":"` + id + `","cancel":true}`, "unknown or expired"},
		{"question.resolve", `{"id":"q"}`, params},
		{"question.resolve", `{"id":"q","answers":{"answers":{"a":["` + strings.Repeat("x", 9<<10) + `"]}}}`, params},
	} {
		if got := p.ask(tt.method, tt.params); got.OK || !strings.Contains(string(got.Error), tt.want) {
			t.Errorf("%s %.80s: got %v %s, want %q", tt.method, tt.params, got.OK, got.Error, tt.want)
		}
	}
	if got := p.ask("exec.approval.resolve", `{"id":"`+id+`","decision":"deny"}`); !got.OK {
		t.Errorf("a decision: got %s, want it accepted", got.Error)
	}
}

// A prompt that waits is sent to each new stream; one that its run gives up is reported to all.
func TestPromptsOfARunThatIsStopped(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	p := m.connected()
	m.client().say("/approve", "run")
	id := p.until("exec.approval.requested")["id"]
	late := m.open()
	if got := late.until("exec.approval.requested")["id"]; got != id {
		t.Errorf("a new stream: got %v, want %v", got, id)
	}
	if got := late.ask("exec.approval.list", `{}`); !strings.Contains(string(got.Payload), id.(string)) {
		t.Errorf("list: got %s, want %v", got.Payload, id)
	}
	if got := p.ask("chat.abort", `{"sessionKey":"agent:main:main","runId":"run"}`); !got.OK || object(got.Payload)["aborted"] != true {
		t.Errorf("stop: got %s %s, want it stopped", got.Payload, got.Error)
	}
	if got := late.until("exec.approval.resolved")["id"]; got != id {
		t.Errorf("resolved: got %v, want %v", got, id)
	}
}

// A gateway that restarts gives up what waited, and the operator says so once it is connected again.
func TestGatewayRestarts(t *testing.T) {
	t.Parallel()
	first, stop := standIn(t)
	second, _ := standIn(t)
	var mu sync.Mutex
	now := first
	m := operate(t, func(ctx context.Context) (func(context.Context, net.Conn) error, error) {
		mu.Lock()
		defer mu.Unlock()
		if now == nil {
			return nil, errors.New("not ready")
		}
		return now(ctx)
	})
	p := m.connected()
	m.client().say("/approve", "run")
	id := p.until("exec.approval.requested")["id"]
	mu.Lock()
	now = nil
	mu.Unlock()
	stop()
	for p.ask("exec.approval.list", `{}`).OK {
	}
	if got := p.ask("chat.abort", `{"sessionKey":"main"}`); !strings.Contains(string(got.Error), "UNAVAILABLE") {
		t.Errorf("while the agent is away: got %s, want UNAVAILABLE", got.Error)
	}
	mu.Lock()
	now = second
	mu.Unlock()
	for name, p := range map[string]*plane{"a stream from before": p, "a new stream": m.open()} {
		if got := p.until("exec.approval.resolved"); got["id"] != id || got["reason"] != "gateway-restart" {
			t.Errorf("%s: got %v, want %v cancelled because of gateway-restart", name, got, id)
		}
	}
}

// Before the gateway is stopped, what waits is denied and called cancelled.
func TestSettle(t *testing.T) {
	t.Parallel()
	dial, _ := standIn(t)
	m := operate(t, dial)
	p := m.connected()
	c := m.client()
	c.say("/approve", "run")
	p.until("exec.approval.requested")
	m.o.Settle(t.Context())
	if got := p.until("exec.approval.resolved"); got["status"] != "cancelled" || got["reason"] != "gateway-restart" {
		t.Errorf("settled: got %v, want cancelled because of gateway-restart", got)
	}
	if text := fmt.Sprint(c.ended("run")["message"]); !strings.Contains(text, "denied") {
		t.Errorf("the run: got %q, want that it was denied", text)
	}
	c.say("/approve", "again")
	if text := fmt.Sprint(c.ended("again")["message"]); !strings.Contains(text, "denied") {
		t.Errorf("a run before the gateway has stopped: got %q, want that it was denied", text)
	}
}
