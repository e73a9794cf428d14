package tunnel

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// states shares between the hubs of a test.
type states struct {
	mu sync.Mutex
	by map[string]wire.State
}

func (s *states) Share(ctx context.Context, _, instance string, latest <-chan wire.State) {
	for {
		var now wire.State
		select {
		case <-ctx.Done():
		case now = <-latest:
		}
		s.mu.Lock()
		s.by[instance] = now
		s.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *states) State(instance string) wire.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[instance]
}

// What an agent needs is known at every replica, from its guest's report until the report changes or the tunnel ends.
func TestStateAtEveryReplica(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	p, shared := &presence{who: map[string]string{}}, &states{by: map[string]wire.State{}}
	a, b := newReplica(t, m, p), newReplica(t, m, p)
	changes := make(chan string, 10)
	for _, r := range []*replica{a, b} {
		r.hub.c.States = shared
		r.hub.c.StateChanged = func(account, instance string) { changes <- account + " " + instance }
	}
	g := mustDial(t, a.url, "b", m.private)
	until := time.Now().Add(10 * time.Minute).UTC().Truncate(time.Second)
	see := func(what string, want wire.State) {
		t.Helper()
		select {
		case got := <-changes:
			if got != "account "+id {
				t.Errorf("%s: got a change of %s, want one of account %s", what, got, id)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: got no change, want one", what)
		}
		for name, r := range map[string]*replica{"here": a, "elsewhere": b} {
			eventually(t, what+" "+name, func() bool { return r.hub.State(id) == want })
		}
	}
	if got := a.hub.State(id); got != (wire.State{}) {
		t.Errorf("before a report: got %+v, want the zero State", got)
	}
	g.say(wire.Message{State: &wire.State{Approvals: 1, Until: until}})
	see("an approval", wire.State{Approvals: 1, Until: until})
	g.say(wire.Message{State: &wire.State{Approvals: 1, Until: until}}) // unchanged: no change is reported
	g.say(wire.Message{State: &wire.State{Questions: 2, Held: true, Until: until}})
	see("two questions", wire.State{Questions: 2, Held: true, Until: until})
	g.say(wire.Message{State: &wire.State{}})
	see("nothing", wire.State{})
	g.say(wire.Message{State: &wire.State{Held: true}})
	see("control", wire.State{Held: true})
	g.session.Close()
	see("the tunnel's end", wire.State{})
	if len(changes) != 0 {
		t.Errorf("further changes: got %d, want 0", len(changes))
	}
}

// A machine's report is bounded, whatever it contains.
func TestReportedStateIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 23, 0, 0, 0, time.UTC)
	for _, c := range []struct{ report, want wire.State }{
		{wire.State{Approvals: -1, Questions: -5, Until: now.Add(time.Minute)}, wire.State{}},
		{wire.State{Approvals: 1 << 40, Questions: 100}, wire.State{Approvals: 99, Questions: 99}},
		{wire.State{Approvals: 1, Until: now.Add(-time.Second)}, wire.State{Approvals: 1}},
		{wire.State{Approvals: 1, Until: now.AddDate(9000, 0, 0)}, wire.State{Approvals: 1, Until: now.Add(24 * time.Hour)}},
		{wire.State{Held: true, Until: now.Add(time.Minute)}, wire.State{Held: true}},
		{wire.State{Viewers: -3}, wire.State{}},
		{wire.State{Viewers: 1}, wire.State{}},
		{wire.State{Viewers: 1 << 40}, wire.State{Viewers: 99}},
		{wire.State{Questions: 3, Until: now.Add(1500*time.Millisecond + 300).In(time.FixedZone("", 3600))}, wire.State{Questions: 3, Until: now.Add(1500 * time.Millisecond)}},
	} {
		if got := bounded(c.report, now); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.report, got, c.want)
		}
	}
}

// A machine that reports a new state in every line changes pages and the bucket seldom; its last report counts.
func TestStateFloodIsShownSeldom(t *testing.T) {
	t.Parallel()
	m := newMachines(t)
	r := newReplica(t, m, nil)
	var changes atomic.Int64
	r.hub.c.StateChanged = func(string, string) { changes.Add(1) }
	g := mustDial(t, r.url, "b", m.private)
	began := time.Now()
	for i := range linesBurst - 10 {
		g.say(wire.Message{State: &wire.State{Approvals: 1 + i%2}})
	}
	g.say(wire.Message{State: &wire.State{Questions: 7}})
	eventually(t, "the last report", func() bool { return r.hub.State(id) == wire.State{Questions: 7} })
	if got, most := changes.Load(), int64(statesBurst+statesPerSecond*(1+time.Since(began)/time.Second)); got > most {
		t.Errorf("changes shown: got %d, want at most %d", got, most)
	}
}
