package keeper_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/keeper"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// world is a log, lists of desktops that the test writes, and a budget.
type world struct {
	*commandstest.World
	owner  commands.Origin
	desks  []keeper.Desk
	waking []keeper.Wake
	use    map[string]commands.Activity
	err    error

	checks, asked atomic.Int64
	refuses       error
}

func (w *world) Running(context.Context) ([]keeper.Desk, time.Time, error) {
	return w.desks, w.Log.Now(), w.err
}
func (w *world) Waking(context.Context) ([]keeper.Wake, error) { return w.waking, w.err }
func (w *world) Activity(_ context.Context, id string) (commands.Activity, time.Time, error) {
	return w.use[id], w.Log.Now(), w.err
}
func (w *world) ActivitiesOf(context.Context, string) (map[string]commands.Activity, time.Time, error) {
	return nil, time.Time{}, errors.New("the keeper does not ask")
}
func (w *world) Check(context.Context) error {
	w.checks.Add(1)
	return errors.New("a check that fails is repeated")
}
func (w *world) MayStart(context.Context, string, string) error {
	w.asked.Add(1)
	return w.refuses
}

// in runs f in a bubble, with a keeper that is not running yet.
func in(t *testing.T, f func(t *testing.T, w *world, k *keeper.Keeper)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{World: commandstest.NewWorld(9), use: map[string]commands.Activity{}}
		w.Clock.ShowTime()
		w.owner, _ = w.SignUp(t, "ada@example.org")
		f(t, w, &keeper.Keeper{Log: w.Log, Desks: w, Budgets: w, Logger: slog.New(slog.DiscardHandler)})
	})
}

// desk makes a running desktop that was not used for long, and lists it.
func (w *world) desk(t *testing.T) string {
	t.Helper()
	out, err := w.Instances.Create(t.Context(), w.owner, "", "")
	if err != nil {
		t.Fatal(err)
	}
	id := out.Answer.ID
	now := w.Log.Now()
	for _, c := range []instance.Command{
		instance.Attempt{At: now, Spec: instance.Spec{ClientToken: id, TokenKey: "k1"}}, instance.Launched{Attempt: 1, Machine: "m", At: now},
		instance.Observe{Machine: "m", Seen: instance.SeenRunning, At: now}, instance.SetIdlePolicy{Policy: &idle.Policy{After: 600, Jobs: idle.Wake}},
	} {
		if _, err := w.Log.ExecuteInstance(t.Context(), id, c); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// list lists the running desktops as the log has them, and says when they were used.
func (w *world) list(t *testing.T, used time.Duration, ids ...string) {
	w.desks = nil
	for _, id := range ids {
		now := w.Log.Now()
		w.use[id] = commands.Activity{Instance: id, Since: now.Add(-24 * time.Hour), Known: now.Add(-24 * time.Hour), Reported: now, Input: now.Add(-used)}
		s, err := w.Log.Instance(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		w.desks = append(w.desks, keeper.Desk{ID: id, State: s, Activity: w.use[id]})
	}
}

func (w *world) status(t *testing.T, id string, want instance.Status) {
	t.Helper()
	if s, err := w.Log.Instance(t.Context(), id); err != nil || s.Status != want {
		t.Errorf("got %s, %v, want %s", s.Status, err, want)
	}
}

// A list that is out of date stops nothing: the use is read again before a stop.
func TestLookReadsAgain(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world, k *keeper.Keeper) {
		a, b, c := w.desk(t), w.desk(t), w.desk(t)
		time.Sleep(time.Hour)
		w.list(t, 30*time.Minute, a, b, c)
		use := w.use[a]
		use.Agent = use.Reported
		w.use[a] = use
		if _, err := w.Instances.Terminate(t.Context(), w.owner, c); err != nil {
			t.Fatal(err)
		}
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.status(t, a, instance.Running)
		w.status(t, b, instance.Stopping)
		w.status(t, c, instance.Terminating)
	})
}

// A desktop that cannot be decided about does not keep the keeper from the others.
func TestLookGoesOn(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world, k *keeper.Keeper) {
		a := w.desk(t)
		time.Sleep(time.Hour)
		w.list(t, 30*time.Minute, a)
		w.desks = append([]keeper.Desk{{ID: strings.Repeat("x", 999), State: w.desks[0].State, Activity: w.desks[0].Activity}}, w.desks...)
		_ = k.Look(t.Context())
		w.status(t, a, instance.Stopping)
	})
}

// A start for a job that a budget refuses is asked for again a minute later, and not before.
func TestStartThatABudgetRefuses(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world, k *keeper.Keeper) {
		id := w.desk(t)
		at := w.Log.Now().Add(time.Minute)
		for _, c := range []instance.Command{
			instance.StopBecause{At: w.Log.Now(), Cause: instance.CauseIdle, Why: "Idle.", WakeAt: at, Jobs: idle.Wake, NextJob: at.Add(idle.WakeLead)},
			instance.Observe{Machine: "m", Seen: instance.SeenStopped, At: w.Log.Now()},
		} {
			if _, err := w.Log.ExecuteInstance(t.Context(), id, c); err != nil {
				t.Fatal(err)
			}
		}
		w.waking = []keeper.Wake{{ID: id, Account: w.owner.Account, At: at}}
		w.refuses = &domain.Error{Kind: domain.Conflict, Code: "budget_reached", Msg: "The budget is used up."}
		for range 10 {
			if err := k.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		w.status(t, id, instance.Stopped)
		if n := w.asked.Load(); n != 1 {
			t.Errorf("got %d questions in 50 s, want 1", n)
		}
		w.refuses = nil
		time.Sleep(time.Minute)
		if err := k.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.status(t, id, instance.Starting)
	})
}

// Run looks every few seconds and checks the budgets every minute, whether or not that works, until its context ends.
func TestRun(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world, k *keeper.Keeper) {
		id := w.desk(t)
		time.Sleep(time.Hour)
		w.list(t, 30*time.Minute, id)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()
		time.Sleep(time.Second)
		w.status(t, id, instance.Stopping)
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := w.checks.Load(); n != 11 {
			t.Errorf("got %d checks of budgets in ten minutes, want 11", n)
		}
	})
}
