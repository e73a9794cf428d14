// Package tunnel is the control plane's end of the machines' tunnels: each guest dials in, proves
// who it is, and from then on the hub opens streams to its desktop, agent and diagnostics, takes its
// boot phases, and hands it the API keys.
//
// The one thing to know: one tunnel owns a machine. A machine whose tunnel another replica holds is
// reached there, in one authenticated hop; nobody forwards twice.
package tunnel

import (
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

// What Open may answer; compare with errors.Is.
var (
	ErrNotConnected = wire.ErrNotConnected
	ErrNotReady     = wire.ErrNotReady
	ErrBusy         = wire.ErrBusy
)

// Secret is what a machine's services ask of who enters. It prints as a placeholder.
type Secret = wire.Secret

// Machines is what the hub knows of machines and tells about them. A *domain.Error is final, any
// other error worth another try.
type Machines interface {
	// Enroll redeems a token for the machine that holds publicKey. The same pair may come twice.
	Enroll(ctx context.Context, token string, publicKey []byte) (instanceID string, err error)
	// Guest returns the enrolled key and the owner of an instance that is not gone.
	Guest(ctx context.Context, instanceID string) (publicKey []byte, account string, err error)
	// Reached notes how far a boot is.
	Reached(ctx context.Context, instanceID, boot string, phase instance.Phase, detail string) error
	// Versions notes what a machine runs, by name.
	Versions(ctx context.Context, instanceID, boot string, versions map[string]string) error
	// Keys returns the account's API keys, environment name to key.
	Keys(ctx context.Context, account, instance string) (map[string]string, error)
}

// Presence tells replicas who holds a machine's tunnel.
type Presence interface {
	// Claim says that the replica at url does, until release is called. A later claim by another
	// replica wins: lost is closed, and release must not undo it.
	Claim(ctx context.Context, instanceID, url string) (release func(), lost <-chan struct{}, err error)
	// Lookup returns the url of the replica that does, "" for none.
	Lookup(ctx context.Context, instanceID string) (url string, err error)
	// Left notes when a machine was last heard whose tunnel ended.
	Left(ctx context.Context, instanceID string, heard time.Time) error
	// Heard returns what Left noted; zero where that is not known.
	Heard(ctx context.Context, instanceID string) (time.Time, error)
}

// Config is what a hub needs.
type Config struct {
	Machines  Machines
	Presence  Presence     // nil: there is one replica
	Advertise string       // this replica's own base URL, as the others reach it: "http://10.0.0.3:8000"
	HopKey    []byte       // at least 32 bytes, the same on all replicas; nil: no hops
	Logger    *slog.Logger // nil: none

	// ClientAddr is the address of the client behind trusted proxies; nil: the connection's own.
	ClientAddr func(*http.Request) netip.Addr
	// Changed is called when a machine fell silent, and when it is heard again; nil: not. It must return at once.
	Changed func(account, instanceID string)
}

// Hub holds the tunnels of this replica.
type Hub struct {
	c    Config
	log  *slog.Logger
	hops *hopKeys // nil: no hops

	greetings  *fair.Places // of connections that did not prove anything yet
	enrolments *fair.Places
	greetTries tries
	enrolTries tries
	ownTries   tries // enrolments for one machine from one network, which enrolTries counted already
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
		c: c, log: c.Logger, tunnels: map[string]*tunnel{}, absent: map[string]*absence{}, now: time.Now, began: time.Now(), greetings: fair.NewPlaces(maxGreetings),
		enrolments: fair.NewPlaces(maxEnrolments), greetTries: newTries(greetTries), enrolTries: newTries(enrolTries), ownTries: newTries(enrolTries), connects: newTries(connects),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
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

// Run serves until ctx ends, then tells the guests to dial again at once and returns when their
// tunnels are closed.
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

// Len is the number of tunnels this replica holds.
func (h *Hub) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tunnels)
}

// PushKeys sends the account's API keys, as they are now, to its machines on this replica. It
// returns at once; what fails is repeated while the tunnel lasts.
func (h *Hub) PushKeys(_ context.Context, account string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.tunnels {
		if t.account == account {
			t.wantKeys()
		}
	}
}

// Open connects to a service of the machine: wire.VNC, wire.Agent or wire.HTTP. Errors:
// ErrNotConnected, ErrNotReady, ErrBusy, or what broke on the way. The connection is the caller's to close.
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

// local returns the tunnel this replica holds, or nil.
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
