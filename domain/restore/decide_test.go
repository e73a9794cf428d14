package restore

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var (
	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
	t0      = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	first   = Finished{Epoch: 2, Backup: "01JBACKUP", Position: 41, MadeAt: t0, RestoredAt: t0.Add(8 * time.Hour), Sessions: 3, Enrolments: 1, Tokens: 2}
	removed = MachineRemoved{Machine: "i-0a", Instance: "01JINSTANCE", Account: "01JACCOUNT"}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "finish", When: Finish(first), Then: []Event{first}},
		{Name: "finish twice", Given: []Event{first}, When: Finish(first)},
		{Name: "finish the next", Given: []Event{first}, When: Finish{Epoch: 3}, Then: []Event{Finished{Epoch: 3}}},
		{Name: "remove", When: Remove(removed), Then: []Event{removed}},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

// A time is lost from the backup to its restore, and a little around that, because clocks differ.
func TestWithin(t *testing.T) {
	t.Parallel()
	s := Evolve(State{}, first)
	s = Evolve(s, Finished{Epoch: 3, MadeAt: t0.Add(24 * time.Hour), RestoredAt: t0.Add(25 * time.Hour)})
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{
		{-Slack - 1, false}, {-Slack, true}, {0, true}, {4 * time.Hour, true}, {8 * time.Hour, true}, {8*time.Hour + Slack, true},
		{8*time.Hour + Slack + 1, false}, {23 * time.Hour, false}, {24 * time.Hour, true}, {26 * time.Hour, false},
	} {
		if got := s.Within(t0.Add(c.after)); got != c.want {
			t.Errorf("%v after the backup: got %v, want %v", c.after, got, c.want)
		}
	}
	if (State{}).Within(t0) {
		t.Error("a log that was never restored: got a lost time, want none")
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, first, removed)
}
