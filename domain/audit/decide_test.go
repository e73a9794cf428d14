package audit

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var (
	t0      = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
)

func TestDecide(t *testing.T) {
	t.Parallel()
	full := LogInFailed{Written{LogIns: Window{t0, PerHour}}}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "the first", When: FailLogIn{t0}, Then: []Event{LogInFailed{Written{LogIns: Window{t0, 1}}}}},
		{Name: "the second", Given: []Event{LogInFailed{Written{LogIns: Window{t0, 1}}}}, When: FailLogIn{t0.Add(time.Minute)},
			Then: []Event{LogInFailed{Written{LogIns: Window{t0, 2}}}}},
		{Name: "one too many", Given: []Event{full}, When: FailLogIn{t0.Add(time.Hour - 1)}},
		{Name: "another hour", Given: []Event{full}, When: FailLogIn{t0.Add(time.Hour)}, Then: []Event{LogInFailed{Written{LogIns: Window{t0.Add(time.Hour), 1}}}}},
		{Name: "a clock that went back", Given: []Event{full}, When: FailLogIn{t0.Add(-1)}, Then: []Event{LogInFailed{Written{LogIns: Window{t0.Add(-1), 1}}}}},
		{Name: "another kind has its own share", Given: []Event{full}, When: HandOutKeys{"i", t0},
			Then: []Event{KeysHandedOut{"i", Written{LogIns: Window{t0, PerHour}, Keys: Window{t0, 1}}}}},
		{Name: "a report", When: ReadDiagnostics{"i", "log", t0}, Then: []Event{DiagnosticsRead{"i", "log", Written{Diagnostics: Window{t0, 1}}}}},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

// Whatever is recorded, and however fast, no hour after a first event has more than PerHour events of a kind.
func TestNoFloodWritesMoreThanItsShare(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		now := t0
		var failed []time.Time
		for range rapid.IntRange(0, 200).Draw(t, "commands") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, 20 * time.Minute}).Draw(t, "wait"))
			c := rapid.SampledFrom([]Command{FailLogIn{now}, HandOutKeys{"i", now}, ReadDiagnostics{"i", "log", now}}).Draw(t, "what")
			events, err := Decide(s, c)
			if err != nil || len(events) > 1 {
				t.Fatalf("got %v, %v, want no error and at most one event", events, err)
			}
			for _, e := range events {
				s = Evolve(State{Written{Keys: Window{t0, 7}}}, e) // the previous state does not matter
				if _, ok := e.(LogInFailed); ok {
					failed = append(failed, now)
				}
			}
		}
		for i := range failed {
			if j := i + 2*PerHour; j < len(failed) && failed[j].Sub(failed[i]) < time.Hour {
				t.Fatalf("got %d failed log-ins within %s, want at most %d within %s", 2*PerHour+1, failed[j].Sub(failed[i]), 2*PerHour, time.Hour)
			}
		}
	})
}

func TestGolden(t *testing.T) {
	t.Parallel()
	w := Written{Window{t0, 1}, Window{t0, 2}, Window{t0, 3}}
	domaintest.Golden[Event](t, Codec,
		LogInFailed{w}, KeysHandedOut{"01JINSTANCE", w}, DiagnosticsRead{"01JINSTANCE", "log", w})
}
