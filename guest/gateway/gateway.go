// Package gateway is a stand-in for the OpenClaw gateway, for machines without one. It uses the same frames of protocol 4
// and refuses what the original refuses. Its answers echo the message and say that there is no model. A few words, listed
// in script.go, make it show what else an agent does: work on the desktop, tools, approvals, questions, a cold start.
package gateway

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net/http"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// MaxPayload is the largest frame that it accepts, as stated in hello-ok.
const MaxPayload = 25 << 20

// Config configures a gateway. All fields except Token have useful zero values.
type Config struct {
	Token   string                   // that connect must present; "" admits no client
	Tick    time.Duration            // between tick events; 0: 30 s
	Pace    time.Duration            // between two deltas of an answer; 0: 40 ms
	Keys    func() map[string]string // the current API keys, of which only the names are used; nil: none
	Version string                   // shown to clients

	// Screen returns the whole environment with which a program reaches the X display that the user sees (DISPLAY,
	// XAUTHORITY, HOME, PATH, …), and the user that it runs as (nil: the guest's own). Without a display at present the
	// environment is empty. nil: there is never one.
	Screen func() (env map[string]string, user *proc.User)
	Home   string       // whose folder .cloudbot-stand-in keeps the sessions; "": they are kept in memory only
	Logger *slog.Logger // nil: none
}

// Gateway is one gateway with its sessions.
type Gateway struct {
	c       Config
	log     *slog.Logger
	ready   atomic.Bool
	started time.Time

	mu       sync.Mutex
	sessions map[string]*session
	clients  map[*client]struct{}
	runs     map[string]*run    // running answers, by idempotency key
	prompts  map[string]*prompt // prompts that wait for a person, by id
	demoing  bool               // a run of /demo uses the desktop
	window   *window            // that the latest demo left open; nil: none
	store    *store             // nil: none
	allowed  []permission       // what users allowed always
	history  []answered         // approvals that ended, newest first
	jobs     []*job             // of the schedule
	closed   bool
	answers  sync.WaitGroup
}

// New returns a gateway that answers UNAVAILABLE until Ready is called.
func New(c Config) *Gateway {
	c.Tick = cmp.Or(c.Tick, 30*time.Second)
	c.Pace = cmp.Or(c.Pace, 40*time.Millisecond)
	if c.Keys == nil {
		c.Keys = func() map[string]string { return nil }
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	g := &Gateway{
		c: c, log: c.Logger, started: time.Now(),
		sessions: map[string]*session{},
		clients:  map[*client]struct{}{},
		runs:     map[string]*run{},
		prompts:  map[string]*prompt{},
	}
	if c.Home != "" {
		g.store = &store{home: c.Home, log: c.Logger}
		g.restore()
	}
	if g.sessions[mainKey] == nil {
		g.sessions[mainKey] = &session{Key: mainKey, Kind: "direct", Label: "Main", UpdatedAt: g.started.UnixMilli()}
	}
	return g
}

// Ready admits clients, and starts the schedule.
func (g *Gateway) Ready() {
	g.ready.Store(true)
	g.startJobs()
}

// Close aborts running answers, disconnects the clients, and waits until the answers have ended.
func (g *Gateway) Close() {
	g.mu.Lock()
	g.closed = true
	for _, r := range g.runs {
		r.cancel()
	}
	for _, j := range g.jobs {
		if j.timer != nil {
			j.timer.Stop()
		}
	}
	for c := range g.clients {
		c.event("shutdown", map[string]any{"reason": "stopping"})
		c.cancel()
	}
	g.mu.Unlock()
	g.answers.Wait()
	g.keepWindow(nil)
}

// ServeHTTP answers the health endpoints and upgrades all requests for a WebSocket.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/healthz" || r.URL.Path == "/health":
		reply(w, http.StatusOK, map[string]any{"ok": true, "status": "live"})
	case r.URL.Path == "/readyz" || r.URL.Path == "/startupz" || r.URL.Path == "/ready":
		if !g.ready.Load() {
			reply(w, http.StatusServiceUnavailable, map[string]any{"ready": false, "failing": []string{"startup-sidecars"}})
			return
		}
		reply(w, http.StatusOK, map[string]any{"ready": true, "failing": []string{}})
	case forwarded(r):
		// The original trusts no proxy, so a forwarder must strip these headers.
		http.Error(w, "untrusted proxy headers", http.StatusForbidden)
	case r.Header.Get("Upgrade") != "":
		g.serveSocket(w, r)
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("CloudBot's stand-in for the OpenClaw gateway. There is no control UI here.\n"))
	}
}

func forwarded(r *http.Request) bool {
	for _, h := range [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Forwarded"} {
		if r.Header.Get(h) != "" {
			return true
		}
	}
	return false
}

func (g *Gateway) admits(token string) bool {
	return g.c.Token != "" && subtle.ConstantTimeCompare([]byte(g.c.Token), []byte(token)) == 1
}

// keyNames returns the names of the configured keys, in order.
func (g *Gateway) keyNames() []string {
	names := []string{}
	for n := range g.c.Keys() {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// broadcast queues an event for every client that wants it.
func (g *Gateway) broadcast(event string, payload any, listens func(*client) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.broadcastLocked(event, payload, listens)
}

func (g *Gateway) broadcastLocked(event string, payload any, listens func(*client) bool) {
	for c := range g.clients {
		if listens(c) {
			c.event(event, payload)
		}
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
