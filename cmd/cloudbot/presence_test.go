package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// oneMachine is ada's only machine.
type oneMachine struct {
	tunnel.Machines
	key ed25519.PublicKey
}

func (m oneMachine) Guest(context.Context, string) ([]byte, string, error) { return m.key, "ada", nil }
func (oneMachine) Keys(context.Context, string, string) (map[string]string, error) {
	return nil, nil
}
func (oneMachine) Versions(context.Context, string, string, map[string]string) error { return nil }
func (oneMachine) ModelCost(context.Context, string, string, int64) error            { return nil }

// What an agent needs reaches the queries and event streams of both replicas, over real NATS, and stays true when the
// machine moves from one replica to the other.
func TestAgentStateAtBothReplicas(t *testing.T) {
	t.Parallel()
	bus := natstest.New(t)
	pub, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const id = "01INSTANCE"
	type replica struct {
		hub     *tunnel.Hub
		url     string
		changes chan string
	}
	start := func() replica {
		mux := http.NewServeMux()
		server := httptest.NewServer(mux)
		r := replica{url: server.URL, changes: make(chan string, 100)}
		changed := func(account, instance string) { r.changes <- account + " " + instance }
		cfg := jetstream.PresenceConfig{Conn: bus.Connect(t), TTL: 5 * time.Second, Renew: 50 * time.Millisecond}
		states := jetstream.NewStates(cfg)
		r.hub, err = tunnel.New(tunnel.Config{
			Machines: oneMachine{key: pub}, Presence: presence{jetstream.NewPresence(cfg)}, States: states, StateChanged: changed,
			Advertise: server.URL, HopKey: bytes.Repeat([]byte("k"), 32),
		})
		if err != nil {
			t.Fatal(err)
		}
		mux.Handle(guestPrefix, r.hub.GuestHandler())
		mux.Handle(tunnel.HopPrefix, r.hub.HopHandler())
		ctx, cancel := context.WithCancel(context.Background())
		var run sync.WaitGroup
		run.Go(func() { _ = r.hub.Run(ctx) })
		run.Go(func() { _ = states.Follow(ctx, changed) })
		t.Cleanup(func() { cancel(); run.Wait(); server.Close() })
		return r
	}
	a, b := start(), start()
	see := func(what string, want wire.State) {
		t.Helper()
		for name, r := range map[string]replica{"a": a, "b": b} {
			for late := time.After(time.Minute); r.hub.State(id) != want; {
				select {
				case got := <-r.changes:
					if got != "ada "+id {
						t.Errorf("%s at %s: got a change of %s, want one of ada %s", what, name, got, id)
					}
				case <-late:
					t.Fatalf("%s at %s: got %+v, want %+v", what, name, r.hub.State(id), want)
				}
			}
		}
	}
	machine := func(r replica) *hostile.Tunnel {
		t.Helper()
		m := hostile.Machine{URL: r.url, Instance: id, Boot: "b", Process: "p", Key: private}
		tunnel, err := m.Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tunnel.Close)
		return tunnel
	}
	say := func(tunnel *hostile.Tunnel, s wire.State) {
		t.Helper()
		if err := tunnel.Say(wire.Message{State: &s}); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Now().Add(10 * time.Minute).UTC().Truncate(time.Second)
	first := machine(a)
	say(first, wire.State{Approvals: 1, Until: until})
	see("an approval", wire.State{Approvals: 1, Until: until})
	second := machine(b) // the same guest, after it lost its connection
	<-first.Ended()
	say(second, wire.State{Approvals: 2, Until: until})
	see("moved", wire.State{Approvals: 2, Until: until})
	say(second, wire.State{})
	see("answered", wire.State{})
	say(second, wire.State{Held: true})
	see("held", wire.State{Held: true})
	second.Close()
	see("gone", wire.State{})
}
