package fleet

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}

func TestDecide(t *testing.T) {
	t.Parallel()
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "the first", When: Add{"a", 1}, Then: []Event{Grown{"a", 1}}},
		{Name: "the last", Given: []Event{Grown{"a", 1}}, When: Add{"b", 2}, Then: []Event{Grown{"b", 2}}},
		{Name: "full", Given: []Event{Grown{"a", 1}, Grown{"b", 2}}, When: Add{"c", 2}, Err: ErrFull},
		{Name: "beyond a lowered limit", Given: []Event{Counted{5}}, When: Add{"c", 2}, Err: ErrFull},
		{Name: "room again", Given: []Event{Counted{2}, Shrunk{"a", 1}}, When: Add{"c", 2}, Then: []Event{Grown{"c", 2}}},
		{Name: "remove", Given: []Event{Grown{"a", 1}}, When: Remove{"a"}, Then: []Event{Shrunk{"a", 0}}},
		{Name: "remove what was not counted", When: Remove{"a"}, Then: []Event{Shrunk{"a", 0}}},
		{Name: "count", Given: []Event{Grown{"a", 1}}, When: Count{7}, Then: []Event{Counted{7}}},
		{Name: "count the same", Given: []Event{Grown{"a", 1}}, When: Count{1}},
		{Name: "count nothing", When: Count{0}},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

// The last event alone is the state, and the limit holds for any commands in any order.
func TestTheLastEventIsTheState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(0, 4).Draw(t, "limit")
		var s State
		living := map[int]bool{}
		for n := range rapid.IntRange(0, 40).Draw(t, "commands") {
			var c Command = Add{"x", limit}
			if len(living) > 0 && rapid.Bool().Draw(t, "remove") {
				c = Remove{"x"}
			}
			events, err := Decide(s, c)
			if err != nil {
				if len(living) < limit {
					t.Fatalf("got %v at %d of %d, want room", err, len(living), limit)
				}
				continue
			}
			if _, add := c.(Add); add {
				living[n] = true
			} else {
				for k := range living {
					delete(living, k)
					break
				}
			}
			s = Evolve(State{Count: 999}, events[len(events)-1])
			if s.Count != len(living) || s.Count > limit {
				t.Fatalf("got count %d, want %d, at most %d", s.Count, len(living), limit)
			}
		}
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, Grown{"01JINSTANCE", 3}, Shrunk{"01JINSTANCE", 2}, Counted{7})
}
