package jetstream_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// stateReplica is a replica that follows the states of others.
type stateReplica struct {
	*jetstream.States
	changes chan string
}

func newStateReplica(t *testing.T, cfg jetstream.PresenceConfig) stateReplica {
	t.Helper()
	r := stateReplica{jetstream.NewStates(cfg), make(chan string, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- r.Follow(ctx, func(account, instance string) { r.changes <- account + " " + instance })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("follow: got %v, want no error", err)
		}
	})
	return r
}

// share shares states until the returned function is called, or the test ends.
func (r stateReplica) share(t *testing.T, instance string) (states chan<- wire.State, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, done := make(chan wire.State), make(chan struct{})
	go func() {
		defer close(done)
		r.Share(ctx, "ada", instance, c)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return c, stop
}

// sees waits for a state and for the report of a change to it.
func (r stateReplica) sees(t *testing.T, instance string, want wire.State) {
	t.Helper()
	eventually(t, func() bool { return r.State(instance) == want }, func() string { return "a state" })
	for late := time.After(time.Minute); ; {
		select {
		case got := <-r.changes:
			if got != "ada "+instance {
				t.Errorf("change: got %s, want ada %s", got, instance)
			}
			return
		case <-late:
			t.Fatal("change: got none, want one")
		}
	}
}

var waiting = wire.State{Approvals: 1, Until: time.Date(2026, 11, 27, 23, 30, 0, 0, time.UTC)}

// Replicas see what others share until it changes or its tunnel ends; those that start later, too. Each change is
// reported once. A replica does not hear itself.
func TestStatesAreShared(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	cfg := func() jetstream.PresenceConfig {
		return jetstream.PresenceConfig{Conn: s.Connect(t), TTL: time.Hour, Renew: 20 * time.Millisecond}
	}
	a, b := newStateReplica(t, cfg()), newStateReplica(t, cfg())
	states, stop := a.share(t, "i")
	states <- waiting
	b.sees(t, "i", waiting)
	newStateReplica(t, cfg()).sees(t, "i", waiting)
	states <- wire.State{Held: true}
	b.sees(t, "i", wire.State{Held: true})
	states <- wire.State{}
	b.sees(t, "i", wire.State{})
	states <- waiting
	b.sees(t, "i", waiting)
	stop()
	b.sees(t, "i", wire.State{})
	if len(a.changes)+len(b.changes) != 0 {
		t.Errorf("further changes: got %d and %d, want 0", len(a.changes), len(b.changes))
	}
	if got := b.State("another"); got != (wire.State{}) {
		t.Errorf("another instance: got %+v, want the zero State", got)
	}
}

// After a guest has moved to another replica, neither the older replica's renewals nor its end touch the newer entry.
func TestStatesOfAMachineThatMoved(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	cfg := func() jetstream.PresenceConfig {
		return jetstream.PresenceConfig{Conn: s.Connect(t), Renew: 20 * time.Millisecond}
	}
	a, b, c := newStateReplica(t, cfg()), newStateReplica(t, cfg()), newStateReplica(t, cfg())
	before, end := a.share(t, "i")
	before <- waiting
	c.sees(t, "i", waiting)
	after, _ := b.share(t, "i")
	after <- wire.State{Questions: 2}
	c.sees(t, "i", wire.State{Questions: 2})
	kv, err := s.JS.KeyValue(t.Context(), "presence")
	if err != nil {
		t.Fatal(err)
	}
	const key = "agent.de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7" // SHA-256 of "i"
	renewed := func() {
		t.Helper()
		first, err := kv.Get(t.Context(), key)
		if err != nil {
			t.Fatalf("entry: got %v, want it to stay", err)
		}
		eventually(t, func() bool {
			e, err := kv.Get(t.Context(), key)
			return err == nil && e.Revision() > first.Revision()+4
		}, func() string { return "renewals" })
	}
	renewed()
	end()
	renewed()
	if got := c.State("i"); got != (wire.State{Questions: 2}) {
		t.Errorf("state: got %+v, want two questions", got)
	}
	if len(c.changes) != 0 {
		t.Errorf("further changes: got %d, want 0", len(c.changes))
	}
}

// The entry of a replica that died expires in every memory, and a forged entry counts as none.
func TestStatesOfTheDead(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	dead := jetstream.NewStates(jetstream.PresenceConfig{Conn: s.Connect(t), TTL: 2 * time.Second, Renew: time.Hour})
	b := newStateReplica(t, jetstream.PresenceConfig{Conn: s.Connect(t), TTL: 2 * time.Second, Renew: 50 * time.Millisecond})
	states, _ := stateReplica{States: dead}.share(t, "i")
	states <- waiting
	b.sees(t, "i", waiting)
	b.sees(t, "i", wire.State{})
	kv, err := s.JS.KeyValue(t.Context(), "presence")
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string, value any) {
		t.Helper()
		text, err := json.Marshal(value)
		if err == nil {
			_, err = kv.Put(t.Context(), key, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const key = "agent.de7d1b721a1e0632b7cf04edf5032c8ecffa9f9a08492152b926f1a5a7e765d7" // SHA-256 of "i"
	entry := map[string]any{"account": "ada", "instance": "i", "replica": "x", "state": waiting}
	entry["command"] = "rm"
	put(key, entry)
	delete(entry, "command")
	entry["instance"] = "another"
	put(key, entry)
	marker, _ := newStateReplica(t, jetstream.PresenceConfig{Conn: s.Connect(t), TTL: 2 * time.Second}).share(t, "marker")
	marker <- waiting
	b.sees(t, "marker", waiting)
	for _, id := range []string{"i", "another"} {
		if got := b.State(id); got != (wire.State{}) {
			t.Errorf("forged entry of %s: got %+v, want the zero State", id, got)
		}
	}
}

// A server that was wiped gets the entries again, and the replicas follow the new bucket.
func TestStatesOutliveAWipe(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	cfg := func() jetstream.PresenceConfig {
		return jetstream.PresenceConfig{Conn: s.Connect(t), TTL: 2 * time.Second, Renew: 50 * time.Millisecond}
	}
	a, b := newStateReplica(t, cfg()), newStateReplica(t, cfg())
	states, _ := a.share(t, "i")
	states <- waiting
	b.sees(t, "i", waiting)
	s.Stop()
	s.Wipe(t)
	b.sees(t, "i", wire.State{}) // unknown while NATS is away
	s.Start(t)
	b.sees(t, "i", waiting)
	states <- wire.State{}
	b.sees(t, "i", wire.State{})
}

// While NATS hangs, a query is answered from memory, what it says expires, and a tunnel's end does not wait long.
func TestStatesWhereNATSHangs(t *testing.T) {
	t.Parallel()
	s := natstest.New(t)
	nc, h := connectHeld(t, s)
	a := newStateReplica(t, jetstream.PresenceConfig{Conn: s.Connect(t), TTL: 2 * time.Second})
	b := newStateReplica(t, jetstream.PresenceConfig{Conn: nc, TTL: 2 * time.Second, Renew: 50 * time.Millisecond})
	states, _ := a.share(t, "i")
	states <- waiting
	b.sees(t, "i", waiting)
	own, stop := b.share(t, "own")
	h.gate.Lock()
	defer h.gate.Unlock()
	own <- waiting
	b.sees(t, "i", wire.State{})
	stop()
}

// A write may have its effect although the answer is lost. The entry is removed all the same when the state ends.
func TestStatesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(states chan<- wire.State, stop func()){
		"the state ends":  func(states chan<- wire.State, _ func()) { states <- wire.State{} },
		"the tunnel ends": func(_ chan<- wire.State, stop func()) { stop() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := natstest.New(t)
			nc, h := connectHeld(t, s)
			a := newStateReplica(t, jetstream.PresenceConfig{Conn: s.Connect(t), TTL: time.Hour})
			b := newStateReplica(t, jetstream.PresenceConfig{Conn: nc, TTL: time.Hour, Renew: time.Minute})
			states, stop := b.share(t, "i")
			states <- wire.State{Held: true}
			a.sees(t, "i", wire.State{Held: true})
			states <- wire.State{}
			a.sees(t, "i", wire.State{})
			h.gate.Lock()
			states <- waiting
			a.sees(t, "i", waiting)
			open := time.AfterFunc(2*time.Second, h.gate.Unlock) // the write has failed by then
			defer open.Stop()
			end(states, stop)
			a.sees(t, "i", wire.State{})
		})
	}
}
