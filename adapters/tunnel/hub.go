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
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
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
	// ModelCost records what a machine's models cost, in micro-dollars: the total of a meter, which begins at 0 when its guest
	// starts. A total that is not higher than the latest one of the meter changes nothing.
	ModelCost(ctx context.Context, instanceID, meter string, total int64) error
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
	States    States       // nil: there is only one replica
	Chats     Chats        // nil: no chats are saved
	Uses      Uses         // nil: the machines' use is not kept
	Advertise string       // the base URL at which other replicas reach this one: "http://10.0.0.3:8000"
	HopKey    []byte       // at least 32 bytes, the same on all replicas; nil: no hops
	Logger    *slog.Logger // nil: none

	// Lead is how long the tunnels stay after Run's context ends, so that a load balancer stops to send guests here before
	// they dial again. Spread is the time over which they then end. 0: immediately.
	Lead, Spread time.Duration

	// ClientAddr is the address of the client behind trusted proxies; nil: the connection's own.
	ClientAddr func(*http.Request) netip.Addr
	// Standing returns the notice that an instance's desktop should show at present, without text if there is none; nil: none
	// is known. A new tunnel gets it.
	Standing func(ctx context.Context, instanceID string) (wire.Notice, error)
	// Changed is called when a machine stops or resumes responding; nil: never. It must return immediately.
	Changed func(account, instanceID string)
	// StateChanged is called when State changes for a machine of this replica; nil: never. It must return immediately.
	StateChanged func(account, instanceID string)
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
	copies     *fair.Places // of chats being received
	refusals   *refusals

	now   func() time.Time
	began time.Time
	proof time.Duration // proofTime, but in tests

	mu      sync.Mutex
	tunnels map[string]*tunnel
	absent  map[string]*absence // by instance
	costs   map[string]*costs   // by instance
	closing bool
	all     sync.WaitGroup
}

// New returns a hub; Run it, and mount GuestHandler and HopHandler.
func New(c Config) (*Hub, error) {
	h := &Hub{
		c: c, log: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)), now: time.Now, began: time.Now(), proof: proofTime,
		tunnels: map[string]*tunnel{}, absent: map[string]*absence{}, costs: map[string]*costs{},
		greetings: fair.NewPlaces(maxGreetings), enrolments: fair.NewPlaces(maxEnrolments),
		greetTries: newTries(greetTries), enrolTries: newTries(enrolTries), ownTries: newTries(enrolTries), connects: newTries(connects),
		copies: fair.NewPlaces(copiesAtOnce),
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

// Run serves until ctx ends. Then it asks the guests to dial again, each at a random time within Config.Spread after
// Config.Lead, and returns when their tunnels are closed.
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
		h.all.Go(func() {
			wait := h.c.Lead
			if h.c.Spread > 0 {
				wait += rand.N(h.c.Spread)
			}
			_ = retry.Sleep(context.WithoutCancel(ctx), wait)
			t.goAway()
		})
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

// Open connects to a service of the machine: wire.VNC, wire.Agent, wire.Operator or wire.HTTP. It waits for a
// machine that is moving to another replica. Errors: ErrNotConnected, ErrNotReady, ErrBusy, or why the connection
// failed. The caller closes the connection.
func (h *Hub) Open(ctx context.Context, instanceID, service string) (net.Conn, Secret, error) {
	conn, secret, err := h.open(ctx, instanceID, service)
	pause := movePause
	for began := time.Now(); errors.Is(err, ErrNotConnected) && time.Since(began) < moveTime && (time.Since(began) < moveLag || h.moving(ctx, instanceID)); {
		if retry.Sleep(ctx, pause) != nil {
			break
		}
		pause = min(2*pause, maxMovePause) // its owner's viewers may all wait for a machine that is off
		conn, secret, err = h.open(ctx, instanceID, service)
	}
	return conn, secret, err
}

const (
	maxMovePause = 250 * time.Millisecond
	moveTime     = 3 * time.Second        // for a guest to connect to another replica
	movePause    = 50 * time.Millisecond  // doubles until maxMovePause
	moveLag      = 500 * time.Millisecond // for presence to say that it moves: an older replica first forgets it
)

// moving reports whether a machine that cannot be reached was connected moments ago. Its replica stops, and its guest
// connects to another one.
func (h *Hub) moving(ctx context.Context, instanceID string) bool {
	h.mu.Lock()
	gone := h.absent[instanceID]
	recent := gone != nil && h.now().Sub(gone.since) < silentAfter
	closing := h.closing
	h.mu.Unlock()
	switch {
	case closing:
		return false
	case recent, h.c.Presence == nil:
		return recent
	}
	there, heard, err := h.elsewhere(ctx, instanceID)
	return err == nil && (there || h.now().Sub(heard) < silentAfter)
}

func (h *Hub) open(ctx context.Context, instanceID, service string) (net.Conn, Secret, error) {
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
