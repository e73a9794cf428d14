package jetstream

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// ErrNoTunnel says that no replica holds a tunnel to the instance's machine.
var ErrNoTunnel = &domain.Error{Kind: domain.Unavailable, Code: "machine_not_connected", Msg: "The machine is not connected."}

// PresenceConfig configures where tunnels are registered.
type PresenceConfig struct {
	Conn     *nats.Conn    // required; may be disconnected
	Logger   *slog.Logger  // nil: silent
	Replicas int           // 0: as many as the cluster's size allows, 1 or 3
	TTL      time.Duration // after which the entry of a dead replica expires; 0: 30 s
	Renew    time.Duration // how often a live replica renews; 0: a third of TTL
}

// Presence knows which replica holds the tunnel to an instance's machine.
type Presence struct {
	bucket *bucket
	heard  *bucket // when machines without a tunnel were last heard from
	log    *slog.Logger
	renew  time.Duration
}

// presenceBucket has the tunnels and, with keys of their own, the States.
const presenceBucket = "presence"

// NewPresence returns a Presence. It may be called while NATS is unreachable.
func NewPresence(cfg PresenceConfig) *Presence {
	ttl := cmp.Or(cfg.TTL, 30*time.Second)
	return &Presence{
		bucket: &bucket{conn: cfg.Conn, name: presenceBucket, ttl: ttl, replicas: cfg.Replicas},
		heard:  &bucket{conn: cfg.Conn, name: "heard", ttl: heardFor, replicas: cfg.Replicas},
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), renew: cmp.Or(cfg.Renew, ttl/3),
	}
}

// heardFor is how long the time a machine was last heard from is kept.
const heardFor = 30 * 24 * time.Hour

// Left records when a machine whose tunnel ended was last heard from.
func (p *Presence) Left(ctx context.Context, instanceID string, heard time.Time) error {
	text := ""
	if !heard.IsZero() {
		text = heard.UTC().Format(time.RFC3339)
	}
	if _, err := p.heard.put(ctx, instanceID, []byte(text)); err != nil {
		return fmt.Errorf("note when a machine was heard: %w", err)
	}
	return nil
}

// Heard returns what Left recorded since the machine last connected; zero if that is unknown.
func (p *Presence) Heard(ctx context.Context, instanceID string) (time.Time, error) {
	value, _, err := p.heard.get(ctx, instanceID)
	if err != nil {
		return time.Time{}, fmt.Errorf("look up when a machine was heard: %w", err)
	}
	at, err := time.Parse(time.RFC3339, string(value))
	if err != nil {
		return time.Time{}, nil // no entry, or the machine connected since
	}
	return at, nil
}

type place struct {
	URL   string    `json:"url"`
	Owner string    `json:"owner"` // one claim, not one replica
	Since time.Time `json:"since"`
}

// Claim registers this replica as the one that holds an instance's tunnel, under a URL that other replicas
// can reach, and takes over from the replica registered before. The claim is renewed until release is called
// or ctx ends, and is then removed, unless another replica has taken over. If NATS is unreachable, that is no error:
// the claim is made when it is back. release may be called more than once and waits for the removal. lost is
// closed when another replica takes over.
func (p *Presence) Claim(ctx context.Context, instanceID, url string) (release func(), lost <-chan struct{}, err error) {
	if instanceID == "" || url == "" {
		return nil, nil, errors.New("claim presence: no instance or no url")
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("claim presence: %w", err)
	}
	c := &claim{presence: p, instance: instanceID, place: place{URL: url, Owner: rand.Text(), Since: time.Now().UTC()}}
	c.write(ctx, true)
	ctx, cancel := context.WithCancel(ctx)
	done, taken := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer crash.Logged(p.log, "presence")
		c.keep(ctx)
		if c.lost {
			close(taken)
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
	}), taken, nil
}

// Lookup returns the URL of the replica that holds the instance's tunnel, or ErrNoTunnel.
func (p *Presence) Lookup(ctx context.Context, instanceID string) (url string, err error) {
	value, _, err := p.bucket.get(ctx, instanceID)
	if err != nil {
		return "", fmt.Errorf("look up tunnel: %w", err)
	}
	if at, err := parse[place](value); err == nil && at.URL != "" {
		return at.URL, nil
	}
	return "", ErrNoTunnel
}

// claim is one replica's entry for one tunnel.
type claim struct {
	presence *Presence
	instance string
	place    place
	revision uint64 // of our entry; 0: not written yet, or wiped
	lost     bool   // a later claim has replaced ours
}

// keep renews the claim until ctx ends, and then removes it.
func (c *claim) keep(ctx context.Context) {
	// A replica that is killed records nothing at its end, and an earlier record must not stand for it.
	_ = c.presence.Left(ctx, c.instance, time.Time{})
	wait := c.presence.renew
	for !c.lost {
		if c.revision == 0 {
			wait = min(c.presence.renew, 500*time.Millisecond)
		}
		if retry.Sleep(ctx, wait) != nil {
			break
		}
		wait = c.presence.renew
		c.write(ctx, false)
	}
	if c.lost {
		return
	}
	err := c.presence.bucket.finally(ctx, func(ctx context.Context) error {
		return c.presence.bucket.removeOurs(ctx, c.instance, c.revision, func(value []byte) bool {
			at, err := parse[place](value)
			return err == nil && at.Owner == c.place.Owner
		})
	})
	if err != nil {
		c.presence.log.WarnContext(ctx, "presence not removed, it will expire", "instance", c.instance, "err", err)
	}
}

// write records the claim. A new claim (coming) replaces any entry. After that, an entry of another replica in place
// of ours is a later claim. Clocks may differ, so they decide only between two claims that could not be written when
// they were made.
func (c *claim) write(ctx context.Context, coming bool) {
	value, err := json.Marshal(c.place)
	if err != nil {
		return // cannot happen: the entry is strings and a time
	}
	over := c.revision
	for range 5 {
		var revision uint64
		if revision, err = c.presence.bucket.replace(ctx, c.instance, value, over); err == nil {
			c.revision = revision
			return
		}
		if !errors.Is(err, errMoved) {
			break
		}
		var there []byte
		if there, over, err = c.presence.bucket.get(ctx, c.instance); err != nil {
			c.revision = 0
			break
		}
		at, parseErr := parse[place](there)
		if parseErr == nil && at.Owner != c.place.Owner && (c.revision != 0 || !coming && at.Since.After(c.place.Since)) {
			c.lost = true
			return
		}
	}
	if err != nil && ctx.Err() == nil {
		c.presence.log.WarnContext(ctx, "presence update failed", "instance", c.instance, "err", err)
	}
}
