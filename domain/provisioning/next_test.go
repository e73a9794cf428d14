package provisioning

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func TestNext(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	soon, long := t0.Add(time.Second), t0.Add(-time.Hour)
	base := instance.State{Account: "acc", Since: t0}
	with := func(change func(*instance.State)) instance.State {
		s := base
		change(&s)
		return s
	}
	launching := func(change func(*instance.State)) instance.State {
		return with(func(s *instance.State) { s.Status = instance.Launching; change(s) })
	}
	machine := func(status instance.Status, change func(*instance.State)) instance.State {
		return with(func(s *instance.State) { s.Status, s.Machine = status, "m"; change(s) })
	}
	none := func(*instance.State) {}
	call := func(c instance.Call, at time.Time) Step { return Step{Do: Call, Call: c, At: at} }
	for _, c := range []struct {
		name string
		s    instance.State
		want Step
	}{
		{"never requested", instance.State{}, Step{Do: Nothing}},
		{"terminated", with(func(s *instance.State) { s.Status = instance.StatusTerminated }), Step{Do: Nothing}},
		{"failed", with(func(s *instance.State) { s.Status = instance.StatusFailed }), Step{Do: Nothing}},

		{"requested", launching(none), Step{Do: Attempt}},
		{"refused, elsewhere soon", launching(func(s *instance.State) { s.Attempts, s.RetryAt = 1, soon }), Step{Do: Attempt, At: soon}},
		{"the last attempt refused", launching(func(s *instance.State) { s.Attempts = 6 }), Step{Do: Abandon, Why: "no_capacity"}},
		{"open", launching(func(s *instance.State) { s.Attempts, s.Open = 1, true }), call(instance.CallLaunch, time.Time{})},
		{"open, refused", launching(func(s *instance.State) { s.Attempts, s.Open, s.Tries, s.RetryAt = 6, true, 9, soon }), call(instance.CallLaunch, soon)},
		{"open, refused too often", launching(func(s *instance.State) { s.Attempts, s.Open, s.Tries = 1, true, 10 }), Step{Do: Abandon, Why: "launch_refused"}},
		{"launched", machine(instance.Launching, none), Step{Do: Watch, At: t0.Add(10 * m)}},
		{"launched long ago", machine(instance.Launching, func(s *instance.State) { s.Since = t0.Add(-10 * m) }), Step{Do: Abandon, Why: "launch_timeout"}},

		{"booting", machine(instance.Running, none), Step{Do: Watch, At: t0.Add(15 * m)}},
		{"booting for long", machine(instance.Running, func(s *instance.State) { s.Since = t0.Add(-15 * m) }), Step{Do: Stall}},
		{"booting for long, recorded", machine(instance.Running, func(s *instance.State) { s.Since, s.Stalled = long, true }), Step{Do: Watch}},
		{"taken over long ago, without a guest", machine(instance.Running, func(s *instance.State) { s.Since, s.Type = long, instance.Original }), Step{Do: Watch}},
		{"ready", machine(instance.Running, func(s *instance.State) { s.Since, s.Phase = long, instance.PhaseReady }), Step{Do: Watch}},
		{"stopped", machine(instance.Stopped, none), Step{Do: Watch}},

		{"stopping", machine(instance.Stopping, none), call(instance.CallStop, time.Time{})},
		{"stopping, refused", machine(instance.Stopping, func(s *instance.State) { s.Tries, s.RetryAt = 99, soon }), call(instance.CallStop, soon)},
		{"stopping, accepted", machine(instance.Stopping, func(s *instance.State) { s.Called = t0 }), Step{Do: Watch, At: t0.Add(5 * m)}},
		{"stopping, without effect", machine(instance.Stopping, func(s *instance.State) { s.Called = t0.Add(-5 * m) }), call(instance.CallStop, time.Time{})},
		{"stopping from outside", machine(instance.Stopping, func(s *instance.State) { s.Called, s.Outside = t0, true }), Step{Do: Watch, At: t0.Add(5 * m)}},
		{"stopping from outside without end", machine(instance.Stopping, func(s *instance.State) { s.Called, s.Outside = t0.Add(-5*m), true }), call(instance.CallStop, time.Time{})},
		{"starting", machine(instance.Starting, none), call(instance.CallStart, time.Time{})},
		{"starting, accepted", machine(instance.Starting, func(s *instance.State) { s.Called = t0 }), Step{Do: Watch, At: t0.Add(5 * m)}},

		{"terminating", machine(instance.Terminating, none), call(instance.CallTerminate, time.Time{})},
		{"terminating, always refused", machine(instance.Terminating, func(s *instance.State) { s.Tries, s.RetryAt = 999, soon }), call(instance.CallTerminate, soon)},
		{"terminating, accepted", machine(instance.Terminating, func(s *instance.State) { s.Called = t0 }), Step{Do: Watch, At: t0.Add(5 * m)}},
		{"terminating, without effect", machine(instance.Terminating, func(s *instance.State) { s.Called = long }), call(instance.CallTerminate, time.Time{})},
		{"terminating, no machine", with(func(s *instance.State) { s.Status = instance.Terminating }), Step{Do: Conclude}},
		{"terminating, open", with(func(s *instance.State) { s.Status, s.Open, s.Tries, s.RetryAt = instance.Terminating, true, 99, soon }), call(instance.CallLaunch, soon)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := Next(c.s, Policy{}, t0); got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestPolicyIsObeyed(t *testing.T) {
	t.Parallel()
	p := Policy{Attempts: 1, Tries: 2, LaunchTime: 1, BootTime: 2, CallTime: 3}
	if p.WithDefaults() != p {
		t.Errorf("got %+v with defaults, want %v", p.WithDefaults(), p)
	}
	s := instance.State{Account: "acc", Status: instance.Launching, Attempts: 1}
	if got := Next(s, p, t0); got.Do != Abandon {
		t.Errorf("after the one attempt: got %+v, want got.Do == %v", got, Abandon)
	}
	s.Open, s.Tries = true, 2
	if got := Next(s, p, t0); got.Do != Abandon {
		t.Errorf("after two tries: got %+v, want got.Do == %v", got, Abandon)
	}
}
