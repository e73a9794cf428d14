package commands_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

var short = idle.Policy{After: 600, Warn: 60, Ceiling: 7200, Jobs: idle.Wake}

func idleOf(w *world) *commands.Idle { return &commands.Idle{Log: w.Log, Shortest: 5 * time.Minute} }

func TestEffectivePolicy(t *testing.T) {
	t.Parallel()
	long := short
	long.After = 7200
	for name, c := range map[string]struct {
		kind, region   string
		own, ofAccount *idle.Policy
		want           idle.Policy
	}{
		"default":              {"t3.large", "eu", nil, nil, idle.Default()},
		"the account's":        {"t3.large", "eu", nil, &long, long},
		"its own":              {"t3.large", "eu", &short, &long, short},
		"local":                {machines.Local, machines.Local, nil, nil, idle.Policy{Jobs: idle.Wake}},
		"an older local":       {"t3.large", machines.Local, nil, nil, idle.Policy{Jobs: idle.Wake}},
		"local, the account's": {machines.Local, machines.Local, nil, &long, long},
		"local, its own":       {machines.Local, machines.Local, &short, nil, short},
	} {
		if got := commands.EffectivePolicy(instance.State{Type: c.kind, Region: c.region, Idle: c.own}, c.ofAccount); got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestSetPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	c := idleOf(w)
	ada, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	id := w.runningInstance(t, ada)
	first, err := c.SetPolicy(t.Context(), with(ada, "k"), id, &short)
	if err != nil || first.Answer.ID != id || first.Answer.Status != instance.Running || first.Position != w.Last(t) {
		t.Fatalf("got %+v, %v, want the running desktop", first, err)
	}
	if s, err := w.Log.Instance(t.Context(), id); err != nil || !idle.Same(s.Idle, &short) {
		t.Errorf("got %+v, %v, want its policy", s.Idle, err)
	}
	head := w.Last(t)
	if again, err := c.SetPolicy(t.Context(), with(ada, "k"), id, &short); err != nil || !again.Replayed || w.Last(t) != head {
		t.Errorf("got %+v, %v, want the first answer again", again, err)
	}
	if _, err := c.SetPolicy(t.Context(), with(ada, "k"), id, nil); !errors.Is(err, commands.ErrKeyReused) {
		t.Errorf("got %v for another policy, want %v", err, commands.ErrKeyReused)
	}
	if _, err := c.SetPolicy(t.Context(), bob, id, &short); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("got %v for another account, want %v", err, instance.ErrNotFound)
	}
	bad := short
	bad.After = 299
	if _, err := c.SetPolicy(t.Context(), ada, id, &bad); commandstest.Code(err) != "invalid_idle_policy" {
		t.Errorf("got %v, want a refusal of a limit below the shortest", err)
	}
	if _, err := c.SetAccountPolicy(t.Context(), ada, &bad); commandstest.Code(err) != "invalid_idle_policy" {
		t.Errorf("got %v, want a refusal of a limit below the shortest", err)
	}
	if w.Last(t) != head {
		t.Errorf("got %d events of refusals, want none", w.Last(t)-head)
	}
	set, err := c.SetAccountPolicy(t.Context(), with(ada, "acc"), &short)
	if err != nil || !idle.Same(set.Answer.Policy, &short) || set.Position != w.Last(t) {
		t.Errorf("got %+v, %v, want the policy", set, err)
	}
	if again, err := c.SetAccountPolicy(t.Context(), with(ada, "acc"), &short); err != nil || !again.Replayed || !idle.Same(again.Answer.Policy, &short) {
		t.Errorf("got %+v, %v, want the first answer again", again, err)
	}
	if p, err := c.AccountPolicy(t.Context(), ada.Account); err != nil || !idle.Same(p, &short) {
		t.Errorf("got %+v, %v, want ada's policy", p, err)
	}
	if p, err := c.AccountPolicy(t.Context(), bob.Account); err != nil || p != nil {
		t.Errorf("got %+v, %v, want none of bob", p, err)
	}
	if _, err := c.AccountPolicy(t.Context(), "stranger"); err == nil {
		t.Error("got a policy of no account, want an error")
	}
}

func TestExtend(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	c := idleOf(w)
	ada, _ := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	id := w.runningInstance(t, ada)
	if _, err := c.Extend(t.Context(), with(ada, "k"), id, time.Hour); err != nil {
		t.Fatal(err)
	}
	until := w.Clock.Now().Add(time.Hour)
	w.Clock.Advance(time.Minute)
	head := w.Last(t)
	if again, err := c.Extend(t.Context(), with(ada, "k"), id, time.Hour); err != nil || !again.Replayed || w.Last(t) != head {
		t.Errorf("got %+v, %v a minute later, want the first answer and no other event", again, err)
	}
	if s, err := w.Log.Instance(t.Context(), id); err != nil || !s.Extended.Equal(until) || !s.Asked.Equal(until.Add(-time.Hour)) {
		t.Errorf("got %v, asked at %v, %v, want until %v", s.Extended, s.Asked, err, until)
	}
	for name, d := range map[string]time.Duration{"nothing": 0, "the past": -time.Minute, "too long": 25 * time.Hour} {
		if _, err := c.Extend(t.Context(), ada, id, d); !errors.Is(err, instance.ErrExtension) {
			t.Errorf("%s: got %v, want %v", name, err, instance.ErrExtension)
		}
	}
	if _, err := c.Extend(t.Context(), bob, id, time.Hour); !errors.Is(err, instance.ErrNotFound) {
		t.Errorf("got %v for another account, want %v", err, instance.ErrNotFound)
	}
	w.stop(t, ada, id)
	if _, err := c.Extend(t.Context(), ada, id, time.Hour); !errors.Is(err, instance.ErrNotRunning) {
		t.Errorf("got %v for a stopped desktop, want %v", err, instance.ErrNotRunning)
	}
}

// idleUse is the use of a desktop that was not used for as long as the policy short allows.
func (w *world) idleUse(change func(*commands.Activity)) func(context.Context, string) (commands.Activity, time.Time, error) {
	return func(_ context.Context, id string) (commands.Activity, time.Time, error) {
		now := w.Clock.Now()
		a := commands.Activity{Instance: id, Since: now.Add(-time.Hour), Known: now.Add(-time.Hour), Reported: now, Input: now.Add(-30 * time.Minute)}
		if change != nil {
			change(&a)
		}
		return a, now, nil
	}
}

func TestKeepIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, ada)
	w.Clock.Advance(time.Hour)
	keep := func(want idle.Action, wrote bool, change func(*commands.Activity)) idle.Verdict {
		t.Helper()
		head := w.Last(t)
		v, err := w.Log.KeepIdle(t.Context(), id, w.idleUse(change))
		if err != nil || v.Do != want || (w.Last(t) > head) != wrote {
			t.Fatalf("got %+v, %v and %d events, want %s", v, err, w.Last(t)-head, want)
		}
		return v
	}
	keep(idle.Keep, false, nil) // the default is an hour
	if _, err := idleOf(w).SetAccountPolicy(t.Context(), ada, &short); err != nil {
		t.Fatal(err)
	}
	keep(idle.Warn, true, nil)
	keep(idle.Keep, false, nil) // it is warned
	keep(idle.Withdraw, true, func(a *commands.Activity) { a.Agent = a.Reported })
	keep(idle.Warn, true, nil)
	w.Clock.Advance(time.Minute)
	keep(idle.Withdraw, true, func(a *commands.Activity) { a.Blind = true })
	keep(idle.Warn, true, nil)
	w.Clock.Advance(time.Minute)
	next := w.Clock.Now().Add(3 * time.Hour)
	keep(idle.Stop, true, func(a *commands.Activity) { a.NextJob = next })
	s, err := w.Log.Instance(t.Context(), id)
	if err != nil || s.Status != instance.Stopping || !s.WakeAt.Equal(next.Add(-idle.WakeLead)) {
		t.Errorf("got %+v, %v, want it stopping, and a start before its job", s, err)
	}
	keep(idle.Keep, false, nil) // it does not run
	down := errors.New("the database does not answer")
	id = w.runningInstance(t, ada)
	if v, err := w.Log.KeepIdle(t.Context(), id, func(context.Context, string) (commands.Activity, time.Time, error) {
		return commands.Activity{}, time.Time{}, down
	}); !errors.Is(err, down) || v.Do == idle.Stop {
		t.Errorf("got %+v, %v, want %v and no decision", v, err, down)
	}
}

// A stop that was decided beside another change is decided again, by the use of then.
func TestKeepIdleReadsAgainAfterAConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, ada)
	p := short
	p.Warn = 0
	if _, err := idleOf(w).SetPolicy(t.Context(), ada, id, &p); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	reads := 0
	v, err := w.Log.KeepIdle(t.Context(), id, func(ctx context.Context, id string) (commands.Activity, time.Time, error) {
		if reads++; reads == 1 { // its user comes back between the two reads
			defer func() {
				if _, err := w.Instances.Rename(t.Context(), ada, id, "mine"); err != nil {
					t.Error(err)
				}
			}()
			return w.idleUse(nil)(ctx, id)
		}
		return w.idleUse(func(a *commands.Activity) { a.Input = a.Reported })(ctx, id)
	})
	if s, _ := w.Log.Instance(t.Context(), id); err != nil || v.Do != idle.Keep || reads != 2 || s.Status != instance.Running {
		t.Errorf("got %+v, %v, %d reads and status %s, want it kept after the second", v, err, reads, s.Status)
	}
}

// What was read of a desktop's use by a process that was paused meanwhile counts no longer: it is read again.
func TestKeepIdleReadsAgainAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(9)
		ada, _ := w.SignUp(t, "ada@example.org")
		id := w.runningInstance(t, ada)
		p := short
		p.Warn = 0
		if _, err := idleOf(w).SetPolicy(t.Context(), ada, id, &p); err != nil {
			t.Fatal(err)
		}
		w.Clock.Advance(time.Hour)
		reads := 0
		v, err := w.Log.KeepIdle(t.Context(), id, func(ctx context.Context, id string) (commands.Activity, time.Time, error) {
			if reads++; reads == 1 {
				defer time.Sleep(6 * time.Second) // its user comes back
				return w.idleUse(nil)(ctx, id)
			}
			return w.idleUse(func(a *commands.Activity) { a.Input = a.Reported })(ctx, id)
		})
		if s, _ := w.Log.Instance(t.Context(), id); err != nil || v.Do != idle.Keep || reads != 2 || s.Status != instance.Running {
			t.Errorf("got %+v, %v, %d reads and status %s, want it kept after the second", v, err, reads, s.Status)
		}
	})
}

func TestStartForJob(t *testing.T) {
	t.Parallel()
	w := newWorld(9)
	ada, _ := w.SignUp(t, "ada@example.org")
	id := w.runningInstance(t, ada)
	job := w.Clock.Now().Add(3 * time.Hour)
	planned := job.Add(-idle.WakeLead)
	w.execute(t, id, instance.StopBecause{At: w.Clock.Now(), Cause: instance.CauseIdle, Why: "Idle.", WakeAt: planned, Jobs: idle.Wake, NextJob: job})
	start := func(at time.Time, want bool) {
		t.Helper()
		if got, err := w.Log.StartForJob(t.Context(), id, at); err != nil || got != want {
			t.Errorf("got %v, %v, want started %v", got, err, want)
		}
	}
	start(planned, false) // it is still stopping
	w.execute(t, id, instance.Observe{Machine: "m-" + id, Seen: instance.SeenStopped, At: w.Clock.Now()})
	start(planned.Add(time.Second), false) // of a list that is out of date
	operator := &commands.Suspensions{Log: w.Log}
	if err := operator.Suspend(t.Context(), ada.Account, ""); err != nil {
		t.Fatal(err)
	}
	start(planned, false)
	if err := operator.Resume(t.Context(), ada.Account); err != nil {
		t.Fatal(err)
	}
	sleep := idle.Default()
	sleep.Jobs = idle.Sleep
	if _, err := idleOf(w).SetPolicy(t.Context(), ada, id, &sleep); err != nil {
		t.Fatal(err)
	}
	start(planned, false) // its user has changed the policy since the stop
	if _, err := idleOf(w).SetPolicy(t.Context(), ada, id, nil); err != nil {
		t.Fatal(err)
	}
	start(planned, true)
	start(planned, false) // it was started
	var last instance.Event
	for e, err := range w.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		last, _ = instance.Codec.Decode(e.Type, e.Schema, e.Data)
	}
	if e, ok := last.(instance.StartRequested); !ok || e.Cause != instance.CauseJob || !strings.Contains(e.Why, "is due at 06:04 (UTC)") {
		t.Errorf("got %+v, want a start for the job of 06:04", last)
	}
}
