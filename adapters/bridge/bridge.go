// Package bridge joins a browser's WebSocket to a machine: to its desktop (ServeVNC) or its agent
// (ServeAgent). The caller has authenticated the user and checked Origin and ticket. The connection to the
// machine always comes from the instance's own tunnel.
//
// The one thing to know: the machine is reached and unlocked before the upgrade, so an unreachable machine is
// an HTTP status. After the upgrade, the end of one leg ends both, with a close code.
package bridge

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// Opener connects to a machine's services: wire.VNC, wire.Agent or wire.Operator. Errors: wire.ErrNotConnected,
// wire.ErrNotReady, wire.ErrBusy, or any other for an unreachable machine.
type Opener interface {
	Open(ctx context.Context, instance, service string) (net.Conn, wire.Secret, error)
}

// Config is what a bridge needs.
type Config struct {
	Opener         Opener
	Logger         *slog.Logger  // nil: none
	PingEvery      time.Duration // between pings to the browser; 0: 20 s
	PongWithin     time.Duration // for the browser to answer a ping; 0: 10 s
	WriteWithin    time.Duration // for the browser to accept a frame; 0: 10 s. A slower one is disconnected
	LargeWithin    time.Duration // for the rest of a frame above 256 KiB to arrive, and to reach the machine; 0: 7 min each, as 26 MiB take at 64 KiB/s
	LargeLook      time.Duration // between two checks of the progress of such a frame; 0: 3 s
	LargeWait      time.Duration // for such a frame to get a place; 0: 5 s. Less than PongWithin: meanwhile no pong is read
	OpenWithin     time.Duration // to reach and unlock the machine; 0: 10 s
	MaxPerInstance int           // open sessions; 0: 16
	MaxPerAccount  int           // open sessions; 0: 32

	MaxVNCRate           int // bytes a second to one viewer of a desktop; 0: no limit
	MaxVNCRatePerAccount int // to all of an account's viewers together; 0: no limit

	RetryAfter time.Duration // the wait that browsers get when this server stops, plus or minus half; 0: 1 s
	Spread     time.Duration // in which the sessions end, at random times; 0: all immediately
	First      time.Duration // of Spread, in which machines move: only sessions end whose machine does; 0: none
}

// Close codes, as in the contract.
const (
	CloseSignedOut   websocket.StatusCode = 4401
	CloseForbidden   websocket.StatusCode = 4403
	CloseGone        websocket.StatusCode = 4404
	CloseUnreachable                      = websocket.StatusInternalError  // 1011
	CloseRestart                          = websocket.StatusServiceRestart // 1012
	CloseNotReady                         = websocket.StatusTryAgainLater  // 1013
)

// Bridge holds the open sessions.
type Bridge struct {
	c       Config
	log     *slog.Logger
	stop    chan struct{} // closed when Run ends
	buffers sync.Pool     // of *[]byte, bigBuffer long: an agent's frames
	large   *room         // places of browsers' large frames

	greetings, greetingBytes atomic.Int64 // see Greetings

	instances *fair.Places // sessions by instance
	accounts  *fair.Places // sessions by account

	mu       sync.Mutex
	stopping bool
	paces    map[string]*shared // by account
	all      sync.WaitGroup
}

const bigBuffer = 64 << 10

// New returns a bridge; Run it.
func New(c Config) *Bridge {
	c.PingEvery = cmp.Or(c.PingEvery, 20*time.Second)
	c.PongWithin = cmp.Or(c.PongWithin, 10*time.Second)
	c.WriteWithin = cmp.Or(c.WriteWithin, 10*time.Second)
	c.LargeWithin = cmp.Or(c.LargeWithin, 7*time.Minute)
	c.LargeLook = cmp.Or(c.LargeLook, 3*time.Second)
	c.LargeWait = cmp.Or(c.LargeWait, 5*time.Second)
	c.OpenWithin = cmp.Or(c.OpenWithin, 10*time.Second)
	c.RetryAfter = cmp.Or(c.RetryAfter, time.Second)
	c.MaxPerInstance = cmp.Or(c.MaxPerInstance, 16)
	c.MaxPerAccount = cmp.Or(c.MaxPerAccount, 32)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return &Bridge{
		c: c, log: c.Logger, stop: make(chan struct{}),
		buffers: sync.Pool{New: func() any { b := make([]byte, bigBuffer); return &b }},
		large:   newRoom(maxLarge), instances: fair.NewPlaces(math.MaxInt), accounts: fair.NewPlaces(math.MaxInt),
		paces: map[string]*shared{},
	}
}

// Run serves until ctx ends, then closes the sessions with 1012, spread over Config.Spread. It returns when
// all have ended; meanwhile new sessions are refused.
func (b *Bridge) Run(ctx context.Context) error {
	<-ctx.Done()
	b.mu.Lock()
	b.stopping = true
	b.mu.Unlock()
	close(b.stop)
	b.all.Wait()
	return nil
}

// Len returns the number of open sessions.
func (b *Bridge) Len() int {
	n, _ := b.accounts.Used()
	return n
}

// enter counts a session and returns the function that ends the count. If the session may not start, enter
// answers the request and returns nil.
func (b *Bridge) enter(w http.ResponseWriter, r *http.Request, s access.BridgeSession) (leave func()) {
	if closed(s.Revoked) {
		refuse(w, r, http.StatusUnauthorized, "signed_out", "You are no longer signed in.", 0)
		return nil
	}
	if closed(s.Gone) {
		refuse(w, r, http.StatusNotFound, "instance_gone", "This desktop no longer exists.", 0)
		return nil
	}
	if !b.starts() {
		refuse(w, r, http.StatusServiceUnavailable, "restarting", "The server is restarting; try again.", b.c.RetryAfter)
		return nil
	}
	ofInstance, _ := b.instances.Take(fair.Claim{Key: s.Instance, Max: b.c.MaxPerInstance})
	if ofInstance == nil {
		b.all.Done()
		refuse(w, r, http.StatusTooManyRequests, "too_many_sessions", "Too many viewers are connected to this desktop; close one and try again.", 5*time.Second)
		return nil
	}
	ofAccount, _ := b.accounts.Take(fair.Claim{Key: s.Account, Max: b.c.MaxPerAccount})
	if ofAccount == nil {
		ofInstance()
		b.all.Done()
		refuse(w, r, http.StatusTooManyRequests, "too_many_sessions", "You have too many desktops and chats open; close some and try again.", 5*time.Second)
		return nil
	}
	return func() { ofAccount(); ofInstance(); b.all.Done() }
}

// starts reports whether a session may start, and has Run wait for it.
func (b *Bridge) starts() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopping {
		b.all.Add(1)
	}
	return !b.stopping
}

// Check reaches and unlocks the machine as a session of this kind would, then disconnects from it. If the
// machine cannot be reached, Check answers the request and returns false.
func (b *Bridge) Check(w http.ResponseWriter, r *http.Request, kind string, s access.BridgeSession) bool {
	leave := b.enter(w, r, s)
	if leave == nil {
		return false
	}
	defer leave()
	var machine io.Closer
	var err error
	if kind == access.KindVNC {
		machine, _, err = b.desktop(r.Context(), s)
	} else {
		machine, _, err = b.gateway(r.Context(), s)
	}
	if err != nil {
		b.unreachable(w, r, s, err)
		return false
	}
	_ = machine.Close()
	return true
}

// unreachable answers a request whose machine cannot be reached.
func (b *Bridge) unreachable(w http.ResponseWriter, r *http.Request, s access.BridgeSession, err error) {
	b.log.Info("bridge refused", "instance", s.Instance, "err", err)
	var starting *startingError
	switch {
	case errors.As(err, &starting):
		refuse(w, r, http.StatusServiceUnavailable, "agent_starting", "The agent is still starting; try again in a few seconds.", starting.after)
	case errors.Is(err, wire.ErrNotReady):
		refuse(w, r, http.StatusServiceUnavailable, "not_ready", "The machine is not ready yet; try again in a few seconds.", time.Second)
	case errors.Is(err, wire.ErrBusy):
		refuse(w, r, http.StatusServiceUnavailable, "busy", "The machine has too many open connections; try again in a few seconds.", 5*time.Second)
	case errors.Is(err, errGreeting):
		refuse(w, r, http.StatusBadGateway, "agent_greeting_too_large", "The desktop's agent sent too much before it was ready. Restart the desktop.", 0)
	default:
		refuse(w, r, http.StatusBadGateway, "machine_unreachable", "The machine cannot be reached; try again in a few seconds.", 0)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// refuse answers a request for a bridge that cannot be opened.
func refuse(w http.ResponseWriter, r *http.Request, status int, code, detail string, retry time.Duration) {
	problem.Write(w, r, problem.Problem{Status: status, Code: code, Detail: detail, RetryAfter: retry})
}

// accept upgrades the browser's request.
func (b *Bridge) accept(w http.ResponseWriter, r *http.Request) (*websocket.Conn, *frames.Conn, error) {
	return frames.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols: []string{"binary", "cloudbot"}, CompressionMode: websocket.CompressionDisabled,
		InsecureSkipVerify: true, // the front has checked Origin against its list
	}, mux.Small)
}
