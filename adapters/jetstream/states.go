package jetstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// States shares between replicas what the agents need from their users. Only states other than the zero State are
// written, in the bucket of Presence. Each replica follows them and answers from its memory.
type States struct {
	bucket  *bucket
	log     *slog.Logger
	renew   time.Duration
	replica string // distinguishes our entries from those of other replicas

	mu sync.Mutex
	by map[string]kept // of other replicas, by the bucket's key
}

// kept is an entry of another replica, and when it expires.
type kept struct {
	stateEntry
	until time.Time
}

type stateEntry struct {
	Account  string     `json:"account"`
	Instance string     `json:"instance"`
	Replica  string     `json:"replica"`
	State    wire.State `json:"state"`
}

// statePrefix begins the keys of states. NATS accounts may be limited to the number of buckets that exist, so states
// share one with presence.
const statePrefix = "agent."

// removal is the header that NATS's clients set on a message that removes a key.
const removal = "KV-Operation"

// NewStates returns a States. Its TTL is that of Presence. It may be called while NATS is unreachable.
func NewStates(cfg PresenceConfig) *States {
	ttl := cmp.Or(cfg.TTL, 30*time.Second)
	return &States{
		bucket: &bucket{conn: cfg.Conn, name: presenceBucket, prefix: statePrefix, ttl: ttl, replicas: cfg.Replicas},
		log:    cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)), renew: cmp.Or(cfg.Renew, ttl/3),
		replica: rand.Text(), by: map[string]kept{},
	}
}

// State returns what another replica shares about an instance; the zero State if there is nothing. It reads memory only.
func (s *States) State(instanceID string) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.by) == 0 { // hashing keys is what costs here
		return wire.State{}
	}
	if k, ok := s.by[s.bucket.key(instanceID)]; ok && time.Now().Before(k.until) {
		return k.State
	}
	return wire.State{}
}

// Share writes the latest of the states, renews it, and removes it when ctx ends. A failed write is tried again.
func (s *States) Share(ctx context.Context, account, instanceID string, states <-chan wire.State) {
	w := stateWriter{States: s, entry: stateEntry{Account: account, Instance: instanceID, Replica: s.replica}}
	for {
		var again <-chan time.Time
		switch {
		case w.failed:
			again = time.After(min(s.renew, 500*time.Millisecond))
		case w.revision != 0:
			again = time.After(s.renew)
		}
		select {
		case <-ctx.Done():
			w.end(ctx)
			return
		case w.entry.State = <-states:
			w.write(ctx, true)
		case <-again:
			w.write(ctx, false)
		}
	}
}

// stateWriter is the entry of one tunnel's machine.
type stateWriter struct {
	*States
	entry    stateEntry
	revision uint64 // of our entry; 0: none
	failed   bool   // the last write
	unsure   []byte // what was written without an answer; NATS may have it all the same
}

// write makes the entry what it should be. A changed state replaces any entry: our guest reports it. A renewal
// replaces only ours, because the machine may have reported to another replica since.
func (w *stateWriter) write(ctx context.Context, changed bool) {
	err := w.try(ctx, changed || w.failed)
	if err != nil && !w.failed && ctx.Err() == nil {
		w.log.InfoContext(ctx, "agent's state not shared, will retry", "instance", w.entry.Instance, "err", err)
	}
	w.failed = err != nil
}

func (w *stateWriter) try(ctx context.Context, over bool) (err error) {
	if w.entry.State == (wire.State{}) {
		if w.revision == 0 && w.unsure == nil {
			return nil
		}
		err = w.bucket.removeOurs(ctx, w.entry.Instance, w.revision, func(value []byte) bool { return bytes.Equal(value, w.unsure) })
		if err == nil {
			w.revision, w.unsure = 0, nil
		}
		return err
	}
	value, err := json.Marshal(w.entry)
	if err != nil {
		return err
	}
	revision := w.revision
	if !over {
		revision, err = w.bucket.replace(ctx, w.entry.Instance, value, w.revision)
		if errors.Is(err, errMoved) {
			var there []byte
			if there, _, err = w.bucket.get(ctx, w.entry.Instance); err != nil {
				return err
			}
			if other, err := parse[stateEntry](there); err == nil && other.Replica != w.replica {
				w.revision = 0 // our tunnel will end
				return nil
			}
			over = true // the bucket was wiped
		}
	}
	if over {
		revision, err = w.bucket.put(ctx, w.entry.Instance, value)
	}
	if err != nil {
		w.unsure = value
		return err
	}
	w.revision, w.unsure = revision, nil
	return nil
}

// end removes the entry after ctx has ended.
func (w *stateWriter) end(ctx context.Context) {
	w.entry.State = wire.State{}
	err := w.bucket.finally(ctx, func(ctx context.Context) error { return w.try(ctx, false) })
	if err != nil {
		w.log.InfoContext(ctx, "agent's state not removed, it will expire", "instance", w.entry.Instance, "err", err)
	}
}

// Follow keeps what other replicas share in memory until ctx ends, and calls changed after each change. changed must
// return immediately.
func (s *States) Follow(ctx context.Context, changed func(account, instanceID string)) error {
	wait := retry.Backoff{First: 300 * time.Millisecond, Max: 10 * time.Second, Jitter: true}
	for {
		began := time.Now()
		err := s.follow(ctx, changed)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > 2*wait.Max {
			wait.Reset()
		}
		s.log.DebugContext(ctx, "agents' states not followed, will retry", "err", err)
		for rest := time.Now().Add(wait.Next()); time.Now().Before(rest); {
			if retry.Sleep(ctx, min(time.Until(rest), s.renew)) != nil {
				return nil
			}
			s.expire(changed)
		}
	}
}

// follow reads the bucket's entries and then its changes, until something fails.
func (s *States) follow(ctx context.Context, changed func(account, instanceID string)) error {
	conn := s.bucket.conn
	if !conn.IsConnected() {
		return errAway
	}
	status := conn.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer conn.RemoveStatusListener(status)
	entries, trouble, stop, err := s.consume(ctx)
	if err != nil {
		return fmt.Errorf("follow the bucket: %w", err)
	}
	defer stop()
	tick := time.NewTicker(s.renew)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-status:
			return errAway
		case err := <-trouble:
			return fmt.Errorf("follow the bucket: %w", err)
		case m := <-entries:
			key := strings.TrimPrefix(m.Subject(), s.bucket.subjectPrefix())
			s.heard(key, m.Headers().Get(removal) != "", m.Data(), changed)
		case <-tick.C:
			s.expire(changed)
		}
	}
}

// consume reads the latest message of each key and then all later ones.
func (s *States) consume(ctx context.Context) (entries <-chan jetstream.Msg, trouble <-chan error, stop func(), err error) {
	call, done := context.WithTimeout(ctx, callTimeout)
	defer done()
	if _, err := s.bucket.open(call); err != nil { // makes it
		return nil, nil, nil, err
	}
	js, err := jetstream.New(s.bucket.conn, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		return nil, nil, nil, err
	}
	consumer, err := js.CreateConsumer(call, s.bucket.stream(), jetstream.ConsumerConfig{
		Description:   "a replica that follows what agents need",
		FilterSubject: s.bucket.subjects(), DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		AckPolicy:     jetstream.AckNonePolicy, // after a failure all keys are read again
		MemoryStorage: true, Replicas: 1, InactiveThreshold: 10 * time.Second,
	})
	if err != nil {
		s.bucket.reset() // most likely the bucket was wiped
		return nil, nil, nil, err
	}
	during, cancel := context.WithCancel(ctx)
	messages, failed := make(chan jetstream.Msg, 64), make(chan error, 1)
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		select {
		case messages <- m:
		case <-during.Done():
		}
	}, jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
		select {
		case failed <- err:
		default: // one error is enough
		}
	}), jetstream.PullExpiry(10*time.Second), jetstream.PullHeartbeat(2*time.Second))
	if err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return messages, failed, func() {
		cancel()
		consuming.Stop()
		if s.bucket.conn.IsConnected() { // else the server removes it
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout/4)
			defer cancel()
			_ = js.DeleteConsumer(ctx, s.bucket.stream(), consumer.CachedInfo().Name)
		}
	}, nil
}

// heard takes a written or removed entry.
func (s *States) heard(key string, removed bool, value []byte, changed func(account, instanceID string)) {
	e, err := parse[stateEntry](value)
	valid := !removed && err == nil && s.bucket.key(e.Instance) == key && e.Replica != s.replica
	s.mu.Lock()
	old, was := s.by[key]
	if valid {
		s.by[key] = kept{e, time.Now().Add(s.bucket.ttl)}
	} else {
		delete(s.by, key)
	}
	s.mu.Unlock()
	if valid && (!was || old.State != e.State) {
		changed(e.Account, e.Instance)
	} else if !valid && was {
		changed(old.Account, old.Instance)
	}
}

// expire forgets the entries that were not renewed: their replica died.
func (s *States) expire(changed func(account, instanceID string)) {
	now := time.Now()
	var gone []kept
	s.mu.Lock()
	for key, k := range s.by {
		if !now.Before(k.until) {
			delete(s.by, key)
			gone = append(gone, k)
		}
	}
	s.mu.Unlock()
	for _, k := range gone {
		changed(k.Account, k.Instance)
	}
}
