package commands_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// For any use of two desktops, a minute after a check no desktop runs whose budget is used up, none was stopped whose budget is
// not, and each stop names its reason.
func TestBudgetsForAnyUse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(2)
		b, books := w.budgets(t)
		b.Patience = time.Nanosecond
		ada, _ := w.SignUp(t, "ada@example.org")
		ids := []string{w.rent(t, ada), w.rent(t, ada)}
		stops := 0
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "desktop")
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				scope := rapid.SampledFrom(append(ids, budget.Account)).Draw(rt, "scope")
				limits := rapid.SampledFrom([]int64{0, 1, 5, 30})
				w.set(t, b, ada, scope, limits.Draw(rt, "day")*budget.Dollar, limits.Draw(rt, "month")*budget.Dollar)
			case 1:
				if w.status(t, id) == instance.Stopping {
					w.stopped(t, id)
				}
			case 2:
				refused := b.MayStart(t.Context(), ada.Account, id) != nil
				if w.status(t, id) == instance.Stopped {
					if _, err := w.Instances.Start(t.Context(), ada, id); (err != nil) != refused {
						rt.Fatalf("start: got %v, want a refusal: %v", err, refused)
					}
				}
			case 3:
				if w.status(t, id) == instance.Starting {
					w.write(t, id, instance.MachineRunning{At: w.Clock.Now()})
				}
			default:
				w.Clock.Advance(time.Duration(rapid.IntRange(1, 600).Draw(rt, "minutes")) * time.Minute)
			}
			books.Behind.Store(int64(rapid.IntRange(0, 3).Draw(rt, "behind")))
			_ = b.Check(t.Context())
			books.Behind.Store(0)
			check(t, b)
			now, err := b.Of(t.Context(), ada.Account)
			if err != nil {
				rt.Fatal(err)
			}
			for _, id := range ids {
				if why := now.State.Why(id, now.At); why != "" && w.status(t, id) == instance.Running {
					rt.Fatalf("got a desktop that runs although %s", why)
				}
			}
			for _, data := range w.dataOf(t, "instance.stop_requested")[stops:] {
				stops++
				if !strings.Contains(data, `"cause":"budget"`) || !strings.Contains(data, "is used up") {
					rt.Fatalf("got %s, want a stop with its reason", data)
				}
			}
			for scope, spent := range now.Spent {
				for _, p := range []budget.Period{budget.Day, budget.Month} {
					limit := now.State[scope].Of(p)
					if due := limit.Micros > 0 && spent.In(p) >= limit.Micros; due != limit.Holds(p, now.At) {
						rt.Fatalf("%s of %s: got %+v with %d spent, want it reached: %v", p, scope, limit, spent.In(p), due)
					}
				}
			}
		}
	})
}
