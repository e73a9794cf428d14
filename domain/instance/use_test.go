package instance

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

func TestDecideUse(t *testing.T) {
	t.Parallel()
	policy := &idle.Policy{After: 3600, Warn: 300, Ceiling: 86400, Jobs: idle.Wake}
	warned := IdleWarned{At: t0, StopAt: t0.Add(5 * time.Minute), Cause: CauseIdle, Why: "No input."}
	later := warned
	later.StopAt = t0.Add(time.Hour)
	extended := IdleExtended{At: t0, Until: t0.Add(time.Hour)}
	stop := StopBecause{At: t0, Cause: CauseIdle, Why: "No input.", WakeAt: t0.Add(time.Hour), Jobs: idle.Wake, NextJob: t0.Add(2 * time.Hour)}
	stopRequested := StopRequested{At: t0, Cause: CauseIdle, Why: "No input.", WakeAt: t0.Add(time.Hour), Jobs: idle.Wake, NextJob: t0.Add(2 * time.Hour)}
	start := StartRequested{At: t0, Cause: CauseJob, Why: "A job is due."}
	cost := func(meter string, total int64) ReportModelCost {
		return ReportModelCost{Meter: meter, Total: total, At: t0}
	}
	costs := ModelCostReported{Meter: "m1", Total: 250, Added: 250, At: t0}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "set a policy", Given: running, When: SetIdlePolicy{policy}, Then: []Event{IdlePolicySet{policy}}},
		{Name: "set it again", Given: after(running, IdlePolicySet{policy}), When: SetIdlePolicy{&idle.Policy{After: 3600, Warn: 300, Ceiling: 86400, Jobs: idle.Wake}}},
		{Name: "set it while it is stopped", Given: stopped, When: SetIdlePolicy{policy}, Then: []Event{IdlePolicySet{policy}}},
		{Name: "remove it", Given: after(running, IdlePolicySet{policy}), When: SetIdlePolicy{}, Then: []Event{IdlePolicySet{}}},
		{Name: "remove none", Given: running, When: SetIdlePolicy{}},
		{Name: "set it while it is terminating", Given: terminating, When: SetIdlePolicy{policy}, Err: ErrGone},
		{Name: "set it of one that failed", Given: failed, When: SetIdlePolicy{policy}, Err: ErrGone},

		{Name: "extend", Given: running, When: Extend(extended), Then: []Event{extended}},
		{Name: "extend for less", Given: after(running, extended), When: Extend{At: t0, Until: t0.Add(time.Minute)}},
		{Name: "extend for less after a warning", Given: after(running, extended, warned), When: Extend{At: t0, Until: t0.Add(time.Minute)}, Then: []Event{extended}},
		{Name: "extend into the past", Given: running, When: Extend{At: t0, Until: t0}, Err: ErrExtension},
		{Name: "extend for a day", Given: running, When: Extend{At: t0, Until: t0.Add(LongestExtension)}, Then: []Event{IdleExtended{At: t0, Until: t0.Add(LongestExtension)}}},
		{Name: "extend for longer", Given: running, When: Extend{At: t0, Until: t0.Add(LongestExtension + 1)}, Err: ErrExtension},
		{Name: "extend what is stopped", Given: stopped, When: Extend(extended), Err: ErrNotRunning},
		{Name: "extend what is stopping", Given: stopping, When: Extend(extended), Err: ErrNotRunning},

		{Name: "warn", Given: running, When: Warn(warned), Then: []Event{warned}},
		{Name: "warn again", Given: after(running, warned), When: Warn(warned)},
		{Name: "warn of another time", Given: after(running, warned), When: Warn(later), Then: []Event{later}},
		{Name: "warn after an extension", Given: after(running, warned, extended), When: Warn(warned), Then: []Event{warned}},
		{Name: "warn while it is stopping", Given: stopping, When: Warn(warned)},
		{Name: "withdraw", Given: after(running, warned), When: Withdraw{t0}, Then: []Event{IdleWithdrawn{t0}}},
		{Name: "withdraw twice", Given: after(running, warned, IdleWithdrawn{t0}), When: Withdraw{t0}},
		{Name: "withdraw after an extension", Given: after(running, warned, extended), When: Withdraw{t0}},
		{Name: "withdraw after a restart", Given: after(running, warned, stopRequested, MachineStopped{Asked: true}, StartRequested{At: t0}, MachineRunning{At: t0}), When: Withdraw{t0}},

		{Name: "stop because", Given: after(running, warned), When: stop, Then: []Event{stopRequested}},
		{Name: "stop because, twice", Given: after(running, stopRequested), When: stop},
		{Name: "stop because, while it starts", Given: starting, When: stop},
		{Name: "stop because, while it terminates", Given: terminating, When: stop, Err: ErrGone},
		{Name: "start because", Given: after(running, stopRequested, MachineStopped{Asked: true}), When: StartBecause(start), Then: []Event{start}},
		{Name: "start because, twice", Given: after(stopped, start), When: StartBecause(start)},
		{Name: "start because, while it stops", Given: after(running, stopRequested), When: StartBecause(start)},

		{Name: "cost", Given: running, When: cost("m1", 250), Then: []Event{costs}},
		{Name: "the same cost", Given: after(running, costs), When: cost("m1", 250)},
		{Name: "a late cost", Given: after(running, costs), When: cost("m1", 100)},
		{Name: "more cost", Given: after(running, costs), When: cost("m1", 400), Then: []Event{ModelCostReported{Meter: "m1", Total: 400, Added: 150, At: t0}}},
		{Name: "another meter", Given: after(running, costs), When: cost("m2", 100), Then: []Event{ModelCostReported{Meter: "m2", Total: 100, Added: 100, At: t0}}},
		{Name: "no meter", Given: running, When: cost("", 100)},
		{Name: "a negative cost", Given: running, When: cost("m1", -1)},
		{Name: "the last cost of a machine that is terminating", Given: after(terminating, costs), When: cost("m1", 400), Then: []Event{ModelCostReported{Meter: "m1", Total: 400, Added: 150, At: t0}}},
		{Name: "a cost of one that has ended", Given: after(terminating, MachineGone{Asked: true}, Terminated{}), When: cost("m1", 400), Err: ErrGone},
		{Name: "an absurd cost", Given: running, When: cost("m1", MaxModelCost+1)},
	})
}

func TestEvolveUse(t *testing.T) {
	t.Parallel()
	warned := IdleWarned{At: t0, StopAt: t0.Add(5 * time.Minute), Cause: CauseIdle, Why: "No input."}
	extended := IdleExtended{At: t0.Add(time.Minute), Until: t0.Add(time.Hour)}
	s := decider.Fold(after(running, warned, extended)...)
	if s.Warned != nil || !s.Extended.Equal(extended.Until) || !s.Asked.Equal(extended.At) || !s.RunAt.Equal(t0.Add(2*time.Second)) {
		t.Errorf("got %+v, want an extension and no warning", s)
	}
	again := after(running, extended, warned, StopRequested{At: t0, WakeAt: t0.Add(time.Hour)}, MachineStopped{Asked: true})
	if s := decider.Fold(again...); s.Warned != nil || !s.WakeAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("got %+v, want a stop with a start to come", s)
	}
	if s := decider.Fold(after(again, StartRequested{At: t0}, MachineRunning{At: t0.Add(2 * time.Hour)})...); !s.Extended.IsZero() || !s.Asked.IsZero() || !s.WakeAt.IsZero() || !s.RunAt.Equal(t0.Add(2*time.Hour)) {
		t.Errorf("got %+v, want a run without an extension", s)
	}
	// It was started and stopped outside the control plane, and no look saw it stopping: the start for a job was of before.
	if s := decider.Fold(after(again, MachineRunning{At: t0.Add(time.Minute)}, MachineStopped{})...); s.Status != Stopped || !s.WakeAt.IsZero() {
		t.Errorf("got %+v, want a stop without a start to come", s)
	}
	// It was stopped and started between two looks: the extension was of the run before.
	if s := decider.Fold(after(running, extended, warned, MachineRunning{At: t0.Add(time.Hour), RanUntil: t0})...); s.Warned != nil || !s.Extended.IsZero() || !s.RunAt.Equal(t0.Add(time.Hour)) {
		t.Errorf("got %+v, want another run", s)
	}
}
