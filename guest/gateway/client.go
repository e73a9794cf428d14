package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

const (
	queueFrames = 256 // events a client may lag behind before it is dropped
	connectTime = 10 * time.Second
	writeTime   = 20 * time.Second
)

type request struct {
	Type   string          `json:"type"`
	ID     string          `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

type response struct {
	Type    string   `json:"type"`
	ID      string   `json:"id"`
	OK      bool     `json:"ok"`
	Payload any      `json:"payload,omitempty"`
	Error   *failure `json:"error,omitempty"`
}

type event struct {
	Type    string `json:"type"`
	Event   string `json:"event"`
	Payload any    `json:"payload"`
	Seq     int64  `json:"seq,omitempty"`
}

type failure struct {
	Code         string `json:"code"`
	Message      string `json:"message"`
	Retryable    bool   `json:"retryable,omitempty"`
	RetryAfterMs int    `json:"retryAfterMs,omitempty"`
}

// client is one connection.
type client struct {
	g      *Gateway
	ws     *websocket.Conn
	out    chan []byte
	cancel context.CancelFunc
	scopes []string
	caps   map[string]bool // the capabilities it announced

	mu       sync.Mutex
	seq      int64
	sessions bool            // wants sessions events
	messages map[string]bool // session keys whose messages it wants
}

func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	foreign := r.Header.Get("Origin") != ""
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	if foreign {
		_ = ws.Close(websocket.StatusPolicyViolation, "origin not allowed")
		return
	}
	ws.SetReadLimit(MaxPayload)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	c := &client{g: g, ws: ws, out: make(chan []byte, queueFrames), cancel: cancel, messages: map[string]bool{}}

	written := make(chan struct{})
	go func() { defer close(written); c.write(ctx) }()
	c.event("connect.challenge", map[string]any{"nonce": rand.Text(), "ts": time.Now().UnixMilli()})
	if c.connect(ctx) {
		g.mu.Lock()
		g.clients[c] = struct{}{}
		g.mu.Unlock()
		c.read(ctx)
		g.mu.Lock()
		delete(g.clients, c)
		g.mu.Unlock()
	}
	cancel()
	<-written
}

// connect handles the first request and reports whether the client may continue.
func (c *client) connect(ctx context.Context) bool {
	first, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	req, ok := c.next(first)
	if !ok {
		return false
	}
	var p struct {
		MinProtocol, MaxProtocol int
		Client                   struct{ ID, Mode string }
		Scopes, Caps             []string
		Auth                     struct{ Token string }
	}
	refuse := func(code websocket.StatusCode, f failure) bool {
		// Directly to the socket: the close that follows would cut the queue off.
		b, _ := json.Marshal(response{Type: "res", ID: req.ID, Error: &f})
		wctx, cancel := context.WithTimeout(ctx, writeTime)
		defer cancel()
		_ = c.ws.Write(wctx, websocket.MessageText, b)
		_ = c.ws.Close(code, f.Message)
		return false
	}
	switch {
	case req.Method != "connect" || json.Unmarshal(req.Params, &p) != nil:
		return refuse(websocket.StatusPolicyViolation, failure{Code: "INVALID_REQUEST", Message: "the first request must be connect"})
	case !c.g.ready.Load():
		return refuse(websocket.StatusTryAgainLater, failure{Code: "UNAVAILABLE", Message: "gateway starting", Retryable: true, RetryAfterMs: 500})
	case p.MinProtocol > 4 || p.MaxProtocol < 4:
		return refuse(websocket.StatusPolicyViolation, failure{Code: "INVALID_REQUEST", Message: "protocol mismatch: 4 is spoken here"})
	case !knownClients[p.Client.ID]:
		return refuse(websocket.StatusPolicyViolation, failure{Code: "INVALID_REQUEST", Message: "unknown client id"})
	case !c.g.admits(p.Auth.Token):
		return refuse(websocket.StatusPolicyViolation, failure{Code: "UNAUTHORIZED", Message: "unauthorized: gateway token mismatch"})
	}
	c.scopes, c.caps = p.Scopes, map[string]bool{}
	for _, name := range p.Caps {
		c.caps[name] = true
	}
	c.answer(req.ID, c.g.hello(p.Scopes), nil)
	return true
}

var knownClients = map[string]bool{"gateway-client": true, "webchat": true, "webchat-ui": true, "cli": true, "test": true}

var eventNames = []string{
	"connect.challenge", "chat", "agent", "sessions.changed", "session.message", "exec.approval.requested", "exec.approval.resolved",
	"question.requested", "question.resolved", "cron", "tick", "shutdown",
}

func (g *Gateway) hello(scopes []string) map[string]any {
	if scopes == nil {
		scopes = []string{}
	}
	return map[string]any{
		"type": "hello-ok", "protocol": 4,
		"server":   map[string]any{"version": g.c.Version, "connId": rand.Text(), "standIn": true},
		"features": map[string]any{"methods": methodNames(), "events": eventNames},
		"snapshot": map[string]any{
			"uptimeMs":        time.Since(g.started).Milliseconds(),
			"sessionDefaults": map[string]any{"mainSessionKey": mainKey, "defaultAgentId": "main", "mainKey": "main", "modelConfigured": len(g.c.Keys()) > 0},
		},
		"auth": map[string]any{"role": "operator", "scopes": scopes},
		"policy": map[string]any{
			"maxPayload": MaxPayload, "maxBufferedBytes": 2 * MaxPayload, "tickIntervalMs": g.c.Tick.Milliseconds(),
			"attachments": map[string]any{"maxBytes": maxAttachment, "maxImageBytes": maxImage},
		},
	}
}

// next reads one request; false: the connection can no longer be used.
func (c *client) next(ctx context.Context) (request, bool) {
	var req request
	typ, b, err := c.ws.Read(ctx)
	if err != nil {
		return req, false
	}
	if typ != websocket.MessageText || !utf8.Valid(b) {
		_ = c.ws.Close(websocket.StatusInvalidFramePayloadData, "text frames only")
		return req, false
	}
	if json.Unmarshal(b, &req) != nil || req.Type != "req" || req.ID == "" {
		_ = c.ws.Close(websocket.StatusPolicyViolation, "invalid request frame")
		return req, false
	}
	return req, true
}

func (c *client) read(ctx context.Context) {
	for {
		req, ok := c.next(ctx)
		if !ok {
			return
		}
		m, known := methods[req.Method]
		if !known {
			c.answer(req.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "unknown method: " + clip(req.Method, 80)})
			continue
		}
		scope := m.scope
		if scope == "" {
			scope = deleteScope(req.Params)
		}
		if !c.holds(scope) {
			c.answer(req.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "missing scope: " + scope})
			continue
		}
		m.do(c, req)
	}
}

// admin is the scope that contains all others.
const admin = "operator.admin"

func (c *client) holds(scope string) bool {
	for _, s := range c.scopes {
		if s == scope || s == admin || scope == "operator.read" && s == "operator.write" {
			return true
		}
	}
	return false
}

// write is the only writer of a connected client; it also sends the ticks.
func (c *client) write(ctx context.Context) {
	tick := time.NewTicker(c.g.c.Tick)
	defer tick.Stop()
	defer c.cancel()
	for {
		var b []byte
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.event("tick", map[string]any{"ts": time.Now().UnixMilli()})
			continue
		case b = <-c.out:
		}
		wctx, cancel := context.WithTimeout(ctx, writeTime)
		err := c.ws.Write(wctx, websocket.MessageText, b)
		cancel()
		if err != nil {
			return
		}
	}
}

func (c *client) answer(id string, payload any, f *failure) {
	c.queue(response{Type: "res", ID: id, OK: f == nil, Payload: payload, Error: f})
}

func (c *client) event(name string, payload any) {
	c.mu.Lock()
	c.seq++
	seq := c.seq
	c.mu.Unlock()
	c.queue(event{Type: "event", Event: name, Payload: payload, Seq: seq})
}

// queue never blocks: a client that reads too slowly is dropped.
func (c *client) queue(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		c.g.log.Error("encoding a frame of the stand-in failed", "err", err)
		return
	}
	select {
	case c.out <- b:
	default:
		c.cancel()
	}
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
