// Package tunnel is the control plane's end of the machines' tunnels. Each guest dials in and proves its
// identity. Then the hub opens streams to its desktop, agent and diagnostics, records its boot phases, and
// sends it the API keys.
//
// The one thing to know: one tunnel owns a machine. If another replica holds a machine's tunnel, the machine
// is reached through that replica, in one authenticated hop and never more.
package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Errors of Open; compare with errors.Is.
var (
	ErrNotConnected = wire.ErrNotConnected
	ErrNotReady     = wire.ErrNotReady
	ErrBusy         = wire.ErrBusy
)

// Secret holds the credentials of a machine's services. It prints as a placeholder.
type Secret = wire.Secret

// Machines is the hub's port to the machines' records. A *domain.Error is final unless it is Unavailable or
// Exhausted; any other error is retried.
type Machines interface {
	// Enroll redeems a token for the machine that holds publicKey. The same pair may be redeemed again.
	Enroll(ctx context.Context, token string, publicKey []byte) (instanceID string, err error)
	// Guest returns the enrolled key and the account of an instance that still exists.
	Guest(ctx context.Context, instanceID string) (publicKey []byte, account string, err error)
	// Reached records that a boot reached a phase.
	Reached(ctx context.Context, instanceID, boot string, phase instance.Phase, detail string) error
	// Versions records the versions of what a machine runs, by name.
	Versions(ctx context.Context, instanceID, boot string, versions map[string]string) error
	// Keys returns the account's API keys by environment name.
	Keys(ctx context.Context, account, instance string) (map[string]string, error)
}

// Presence is where replicas share which of them holds a machine's tunnel.
type Presence interface {
	// Claim records that the replica at url holds the tunnel, until release is called. A later claim by another
	// replica wins: lost is closed, and release must not undo that claim.
	Claim(ctx context.Context, instanceID, url string) (release func(), lost <-chan struct{}, err error)
	// Lookup returns the url of the replica that holds the tunnel; "" if none does.
	Lookup(ctx context.Context, instanceID string) (url string, err error)
	// Left records when a machine was last heard, after its tunnel ended.
	Left(ctx context.Context, instanceID string, heard time.Time) error
	// Heard returns the time that Left recorded; zero if it is unknown.
	Heard(ctx context.Context, instanceID string) (time.Time, error)
}

// Config is what a hub needs.
type Config struct {
	Machines  Machines
	Presence  Presence     // nil: there is only one replica
	Advertise string       // the base URL at which other replicas reach this one: "http://10.0.0.3:8000"
	HopKey    []byte       // at least 32 bytes, the same on all replicas; nil: no hops
	Logger    *slog.Logger // nil: none

	// ClientAddr is the address of the client behind trusted proxies; nil: the connection's own.
	ClientAddr func(*http.Request) netip.Addr
	// Changed is called when a machine stops or resumes responding; nil: never. It must return immediately.
	Changed func(account, instanceID string)
}

// Hub holds the tunnels of this replica.
type Hub struct {
	c    Config
	log  *slog.Logger
	hops *hopKeys // nil: no hops

	greetings  *fair.Places // connections whose guest has not proved its identity yet
	enrolments *fair.Places
	greetTries tries
	enrolTries tries
	ownTries   tries // enrolments for one machine from one network; enrolTries counts them, too
	connects   tries
	refusals   *refusals

	now   func() time.Time
	began time.Time

	mu      sync.Mutex
	tunnels map[string]*tunnel
	absent  map[string]*absence // by instance
	closing bool
	all     sync.WaitGroup
}

// New returns a hub; Run it, and mount GuestHandler and HopHandler.
func New(c Config) (*Hub, error) {
	h := &Hub{
		c: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), now: time.Now, began: time.Now(),
		tunnels: map[string]*tunnel{}, absent: map[string]*absence{},
		greetings: fair.NewPlaces(maxGreetings), enrolments: fair.NewPlaces(maxEnrolments),
		greetTries: newTries(greetTries), enrolTries: newTries(enrolTries), ownTries: newTries(enrolTries), connects: newTries(connects),
	}
	h.refusals = &refusals{log: h.log, count: map[string]int{}}
	if h.c.ClientAddr == nil {
		h.c.ClientAddr = remote
	}
	if c.Machines == nil {
		return nil, errors.New("tunnel: Machines is needed")
	}
	if c.HopKey != nil {
		if c.Advertise == "" || c.Presence == nil {
			return nil, errors.New("tunnel: a HopKey needs Advertise and Presence")
		}
		var err error
		if h.hops, err = newHopKeys(c.HopKey, c.Advertise); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// Run serves until ctx ends. Then it asks the guests to dial again and returns when their tunnels are closed.
func (h *Hub) Run(ctx context.Context) error {
	h.refusals.run(ctx)
	h.mu.Lock()
	h.closing = true
	open := make([]*tunnel, 0, len(h.tunnels))
	for _, t := range h.tunnels {
		open = append(open, t)
	}
	for id := range h.absent {
		h.found(id)
	}
	h.mu.Unlock()
	for _, t := range open {
		h.all.Go(t.goAway)
	}
	h.all.Wait()
	return nil
}

// Len returns the number of tunnels that this replica holds.
func (h *Hub) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tunnels)
}

// PushKeys sends the account's current API keys to its machines on this replica. It returns immediately;
// failures are retried while the tunnel exists.
func (h *Hub) PushKeys(_ context.Context, account string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.tunnels {
		if t.account == account {
			t.wantKeys()
		}
	}
}

// Open connects to a service of the machine: wire.VNC, wire.Agent, wire.Operator or wire.HTTP. Errors:
// ErrNotConnected, ErrNotReady, ErrBusy, or why the connection failed. The caller closes the connection.
func (h *Hub) Open(ctx context.Context, instanceID, service string) (net.Conn, Secret, error) {
	if t := h.local(instanceID); t != nil {
		return t.open(ctx, service)
	}
	if h.hops == nil {
		return nil, Secret{}, ErrNotConnected
	}
	url, err := h.c.Presence.Lookup(ctx, instanceID)
	if err != nil {
		return nil, Secret{}, fmt.Errorf("look up who holds the tunnel of %s: %w", instanceID, err)
	}
	if url == "" || url == h.c.Advertise {
		return nil, Secret{}, ErrNotConnected
	}
	return h.hop(ctx, url, instanceID, service)
}

// Dial connects to the machine's diagnostics server, which speaks HTTP/1.1. Errors are those of Open.
func (h *Hub) Dial(ctx context.Context, instanceID string) (net.Conn, error) {
	conn, _, err := h.Open(ctx, instanceID, wire.HTTP)
	return conn, err
}

// ConnectedAnywhere reports whether any replica holds the machine's tunnel.
func (h *Hub) ConnectedAnywhere(ctx context.Context, instanceID string) (bool, error) {
	if h.local(instanceID) != nil {
		return true, nil
	}
	if h.c.Presence == nil {
		return false, nil
	}
	url, err := h.c.Presence.Lookup(ctx, instanceID)
	if err != nil {
		return false, fmt.Errorf("look up who holds the tunnel of %s: %w", instanceID, err)
	}
	return url != "" && url != h.c.Advertise, nil
}

// local returns the machine's tunnel if this replica holds it, or nil.
func (h *Hub) local(instanceID string) *tunnel {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tunnels[instanceID]
}

// GuestHandler serves the guests: wire.EnrollPath and wire.TunnelPath.
func (h *Hub) GuestHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.EnrollPath, h.enroll)
	mux.HandleFunc("GET "+wire.TunnelPath, h.greet)
	return mux
}
