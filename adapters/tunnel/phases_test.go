package tunnel

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// inLog has the machines of a real log.
type inLog struct {
	*commands.Guests
}

func (inLog) Keys(context.Context, string, string) (map[string]string, error) { return nil, nil }

func newInLog() inLog {
	var n atomic.Int64
	return inLog{&commands.Guests{Log: commands.Log{
		Store: memory.New(), NewID: func() string { return strconv.FormatInt(n.Add(1), 10) }, Now: time.Now,
	}}}
}

// machine writes a running machine with an enrolled guest into the log.
func (l inLog) machine(t *testing.T, id string) ed25519.PrivateKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := eventstore.Write{Stream: eventstore.StreamID{Aggregate: "instance", ID: id}}
	for _, e := range []instance.Event{
		instance.Requested{Account: "account of " + id}, instance.LaunchAttempted{Attempt: 1, At: time.Now()},
		instance.MachineLaunched{Attempt: 1, Machine: "m-" + id, At: time.Now()}, instance.GuestEnrolled{Attempt: 1, PublicKey: public},
		instance.MachineRunning{At: time.Now()},
	} {
		typ, schema, data, err := instance.Codec.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		w.Events = append(w.Events, eventstore.NewEvent{ID: l.NewID(), Type: typ, Schema: schema, Data: data, Time: time.Now()})
	}
	if _, err := l.Store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{w}}); err != nil {
		t.Fatal(err)
	}
	return private
}

// phases returns the phases in the log.
func (l inLog) phases(t *testing.T, id string) (all []string) {
	t.Helper()
	for e, err := range l.Store.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != "instance.phase_reached" {
			continue
		}
		decoded, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(decoded.(instance.PhaseReached).Phase))
	}
	return all
}

// A machine that invents boots adds a bounded number of events; another machine's boot is recorded meanwhile.
func TestBootFlood(t *testing.T) {
	t.Parallel()
	l := newInLog()
	r := newReplica(t, l, nil)
	bad := hostile.Machine{URL: r.url, Instance: "BAD", Key: l.machine(t, "BAD")}
	good := hostile.Machine{URL: r.url, Instance: "GOOD", Boot: "b", Key: l.machine(t, "GOOD")}
	boots, err := bad.FloodBoots(t.Context(), 1000)
	t.Logf("%d boots, then %v", boots, err)
	if boots > connectsMachine || boots == 0 {
		t.Errorf("boots in a minute: got %d, want 1 to %d", boots, connectsMachine)
	}
	for i := range 500 { // more than the limit
		err := l.Reached(t.Context(), "BAD", fmt.Sprint("more-", i), instance.PhaseBooting, "")
		if err != nil && !errors.Is(err, instance.ErrPhases) {
			t.Fatal(err)
		}
	}
	g, err := good.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if err := g.Say(wire.Message{Phase: &wire.Phase{Phase: "ready"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another machine ready", func() bool { return strings.Join(l.phases(t, "GOOD"), " ") == "ready" })
	if n := len(l.phases(t, "BAD")); n > instance.MaxPhases+instance.ReadyPhases {
		t.Errorf("phases in the log: got %d, want at most %d", n, instance.MaxPhases+instance.ReadyPhases)
	}
}

// A phase above a machine's limit is not lost: the latest one is recorded when the limit allows it.
func TestLatestPhaseWaitsForRoom(t *testing.T) {
	t.Parallel()
	m := &full{machines: newMachines(t)}
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	for _, p := range []string{"booting", "installing", "desktop", "agent", "ready"} {
		g.say(wire.Message{Phase: &wire.Phase{Phase: p}})
	}
	eventually(t, "all but the latest dropped", func() bool { return m.refused.Load() > 6 })
	m.room.Store(true)
	<-m.phases
	if got := strings.Join(m.reached, ","); got != "b ready" {
		t.Errorf("phases: got %s, want b ready", got)
	}
}

// full refuses phases until a test allows them.
type full struct {
	*machines
	room    atomic.Bool
	refused atomic.Int64
}

func (f *full) Reached(ctx context.Context, id, boot string, p instance.Phase, detail string) error {
	if !f.room.Load() {
		f.refused.Add(1)
		return instance.ErrPhases
	}
	return f.machines.Reached(ctx, id, boot, p, detail)
}

// asked counts how often the store gets a phase.
type asked struct {
	*machines
	times atomic.Int64
	ready atomic.Bool // the last phase was asked for
}

func (a *asked) Reached(_ context.Context, _, _ string, phase instance.Phase, _ string) error {
	a.times.Add(1)
	a.ready.CompareAndSwap(false, phase == instance.PhaseReady)
	return nil // already recorded
}

// A machine that repeats the same phases reaches the store at a bounded rate.
func TestPhaseFloodAsksTheStoreSeldom(t *testing.T) {
	t.Parallel()
	m := &asked{machines: newMachines(t)}
	r := newReplica(t, m, nil)
	g := mustDial(t, r.url, "b", m.private)
	began := time.Now()
	for i := range linesBurst - 10 {
		g.say(wire.Message{Phase: &wire.Phase{Phase: []string{"booting", "desktop"}[i%2]}})
	}
	g.say(wire.Message{Phase: &wire.Phase{Phase: "ready"}})
	tunnel := r.hub.local(id)
	eventually(t, "all of it heard", func() bool {
		tunnel.mu.Lock()
		defer tunnel.mu.Unlock()
		last := len(tunnel.reports) - 1
		return m.ready.Load() || last >= 0 && tunnel.reports[last].phase.Phase == "ready" // a slow machine has sent it on already
	})
	t.Logf("%d lines, the store was asked %d times", linesBurst-9, m.times.Load())
	if most := reportsBurst + reportsPerSecond*int64(time.Since(began)/time.Second+1); m.times.Load() > most {
		t.Errorf("the store was asked %d times, want %d at most", m.times.Load(), most)
	}
}
