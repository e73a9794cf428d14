package session

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var (
	t0      = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
)

func leaf(n int, id string, at time.Time) Leaf { return Leaf{n, id, at, at.Add(Idle)} }

func TestDecide(t *testing.T) {
	t.Parallel()
	started := Started{"acc", leaf(1, "one", t0), "browser", []byte("sealed")}
	t1 := t0.Add(time.Hour)
	second := Refreshed{leaf(2, "two", t1), ""}
	mine := Refreshed{leaf(2, "two", t1), "mine"}
	t2 := t1.Add(time.Hour)
	third := Refreshed{leaf(3, "three", t2), ""}
	reused := []Event{Ended{Reused}}
	late := Started{"acc", Leaf{40, "late", t0, t0.Add(Lifetime)}, "browser", nil} // a leaf that ends with the session's lifetime
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "start", When: Start{"acc", "one", "browser", []byte("sealed"), t0}, Then: []Event{started}},
		{Name: "start twice", Given: []Event{started}, When: Start{"acc", "x", "browser", nil, t0}, Err: domaintest.ErrAny},

		{Name: "refresh", Given: []Event{started}, When: Refresh{"one", "two", "", t1}, Then: []Event{second}},
		{Name: "refresh again", Given: []Event{started, second}, When: Refresh{"two", "three", "", t2}, Then: []Event{third}},
		{Name: "refresh nothing", When: Refresh{"one", "two", "", t1}, Err: ErrEnded},
		{Name: "refresh with the one before, at once", Given: []Event{started, second}, When: Refresh{"one", "x", "", t1}},
		{Name: "refresh with the one before, in grace", Given: []Event{started, second}, When: Refresh{"one", "x", "", t1.Add(Grace)}},
		{Name: "refresh with the one before, after grace", Given: []Event{started, second}, When: Refresh{"one", "x", "", t1.Add(Grace + 1)}, Then: reused},
		{Name: "refresh as a client", Given: []Event{started}, When: Refresh{"one", "two", "mine", t1}, Then: []Event{mine}},
		{Name: "refresh with the one before, in grace, as the same client", Given: []Event{started, mine}, When: Refresh{"one", "x", "mine", t1.Add(Grace)}},
		{Name: "refresh with the one before, in grace, as another client", Given: []Event{started, mine}, When: Refresh{"one", "x", "other", t1}, Then: reused},
		{Name: "refresh with the one before, in grace, as a client that was not recorded", Given: []Event{started, second}, When: Refresh{"one", "x", "other", t1}},
		{Name: "refresh with the leaf, as another client", Given: []Event{started, mine}, When: Refresh{"two", "three", "other", t2},
			Then: []Event{Refreshed{leaf(3, "three", t2), "other"}}},
		{Name: "refresh with an older one, in grace", Given: []Event{started, second, third}, When: Refresh{"one", "x", "", t2}, Then: reused},
		{Name: "refresh with a strange one", Given: []Event{started}, When: Refresh{"zzz", "x", "", t1}, Then: reused},
		{Name: "refresh with none on the first generation", Given: []Event{started}, When: Refresh{"", "x", "", t1}, Then: reused},
		{Name: "refresh a moment before idle", Given: []Event{started}, When: Refresh{"one", "two", "", t0.Add(Idle - 1)}, Then: []Event{Refreshed{leaf(2, "two", t0.Add(Idle-1)), ""}}},
		{Name: "refresh too idle", Given: []Event{started}, When: Refresh{"one", "two", "", t0.Add(Idle)}, Err: ErrEnded},
		{Name: "refresh up to the lifetime", Given: []Event{late}, When: Refresh{"late", "x", "", t0.Add(Lifetime - time.Hour)},
			Then: []Event{Refreshed{Leaf{41, "x", t0.Add(Lifetime - time.Hour), t0.Add(Lifetime)}, ""}}},
		{Name: "refresh beyond the lifetime", Given: []Event{late}, When: Refresh{"late", "x", "", t0.Add(Lifetime)}, Err: ErrEnded},
		{Name: "refresh an ended one", Given: []Event{started, Ended{LoggedOut}}, When: Refresh{"one", "two", "", t1}, Err: ErrEnded},
		{Name: "reuse after the end", Given: []Event{started, second, Ended{Reused}}, When: Refresh{"two", "x", "", t1}, Err: ErrEnded},

		{Name: "end", Given: []Event{started}, When: End{LoggedOut}, Then: []Event{Ended{LoggedOut}}},
		{Name: "end twice", Given: []Event{started, Ended{LoggedOut}}, When: End{Revoked}},
		{Name: "end nothing", When: End{LoggedOut}, Err: ErrEnded},
		{Name: "unknown command", Given: []Event{started}, Err: domaintest.ErrAny},
	})
}

func TestLive(t *testing.T) {
	t.Parallel()
	s := decider.Fold(Started{"acc", leaf(1, "one", t0), "", nil})
	for _, c := range []struct {
		name string
		s    State
		at   time.Time
		want bool
	}{
		{"none", State{}, t0, false},
		{"fresh", s, t0, true},
		{"a moment before its end", s, t0.Add(Idle - 1), true},
		{"at its end", s, t0.Add(Idle), false},
		{"ended", Evolve(s, Ended{LoggedOut}), t0, false},
	} {
		if c.s.Live(c.at) != c.want {
			t.Errorf("%s: not %v", c.name, c.want)
		}
	}
}

// The laws of a family: there is one leaf at a time, and its generation only grows. Only the leaf makes a new one. No
// event follows the end. No leaf outlives the session's lifetime. Repeating a command at the same time adds nothing.
func TestFamilyLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := t0
		s := decider.Fold(Started{"acc", leaf(1, "id0", now), "", nil})
		issued := []string{"id0"}
		for n := 1; n <= rapid.IntRange(1, 60).Draw(t, "steps"); n++ {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, Grace, 3 * 24 * time.Hour, Idle}).Draw(t, "wait"))
			var c Command = Refresh{rapid.SampledFrom(issued).Draw(t, "presented"), fmt.Sprintf("id%d", n), "", now}
			if rapid.IntRange(0, 20).Draw(t, "what") == 0 {
				c = End{Revoked}
			}
			before := s
			events, err := Decide(s, c)
			for _, e := range events {
				s = Evolve(s, e)
				if r, ok := e.(Refreshed); ok {
					issued = append(issued, r.Leaf.TokenID)
					if c.(Refresh).Presented != before.Leaf.TokenID || r.Leaf.Generation != before.Leaf.Generation+1 {
						t.Fatalf("got %+v become %+v, want token %v presented and generation %v", before.Leaf, r.Leaf, before.Leaf.TokenID, before.Leaf.Generation+1)
					}
					if r.Leaf.ExpiresAt.After(s.StartedAt.Add(Lifetime)) || !r.Leaf.ExpiresAt.After(now) {
						t.Fatalf("got a leaf that ends at %v in a session that began at %v, want its end within the session's lifetime and after %v", r.Leaf.ExpiresAt, s.StartedAt, now)
					}
				}
			}
			if before.Ended != "" && len(events) > 0 {
				t.Fatalf("after the end: got %v, want no events", events)
			}
			if r, ok := c.(Refresh); ok && err == nil && s.Ended == "" && r.Presented != before.Leaf.TokenID && r.Presented != before.Before {
				t.Fatalf("got a token of an older generation accepted, want it refused; the state was %+v", before)
			}
			if again, _ := Decide(s, c); len(again) > 0 {
				t.Fatalf("again: got %v, want no events", again)
			}
		}
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec,
		Started{"01JACCOUNT", leaf(1, "01JTOKEN", t0), "Mozilla/5.0 <&>", []byte("sealed")}, Refreshed{leaf(2, "01JTOKEN2", t0), "keyed hash"}, Ended{LoggedOut})
}
