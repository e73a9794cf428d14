// Package provisioning is the saga's table: the step that an instance's state requires.
//
// The one thing to know: Next reads only the state, not the event that woke the saga. So duplicates, delays and
// reordering all lead to the same step.
package provisioning

import (
	"cmp"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Do names what a step does.
type Do string

const (
	Nothing  Do = "nothing"  // it has ended, or was never requested
	Watch    Do = "watch"    // wait for the cloud or the guest
	Attempt  Do = "attempt"  // freeze a launch request in the log
	Call     Do = "call"     // make Step.Call
	Abandon  Do = "abandon"  // give the launch up
	Stall    Do = "stall"    // record that the boot is overdue
	Conclude Do = "conclude" // no machine is left: end the instance
)

// Step is a step and the time from which it is due. The time of a Watch is a deadline: call Next again then.
type Step struct {
	Do   Do
	Call instance.Call // of a Call
	At   time.Time     // zero: immediately; of a Watch, zero: no deadline
	Why  string        // of Abandon: its code
}

// Policy limits the saga's tries and waits. Zero values mean the defaults in brackets.
type Policy struct {
	Attempts   int           // launch attempts before giving up [6]
	Tries      int           // refusals of one launch in a row before giving up [10]
	LaunchTime time.Duration // from launch call to running [10 min]
	BootTime   time.Duration // from running to ready, before BootStalled is recorded [15 min]
	CallTime   time.Duration // from an accepted call to its effect, before it is repeated [5 min]
}

// WithDefaults returns p with the defaults in place of its zero values.
func (p Policy) WithDefaults() Policy {
	p.Attempts = cmp.Or(p.Attempts, 6)
	p.Tries = cmp.Or(p.Tries, 10)
	p.LaunchTime = cmp.Or(p.LaunchTime, 10*time.Minute)
	p.BootTime = cmp.Or(p.BootTime, 15*time.Minute)
	p.CallTime = cmp.Or(p.CallTime, 5*time.Minute)
	return p
}

// Next returns the step that s requires at time now.
func Next(s instance.State, p Policy, now time.Time) Step {
	p = p.WithDefaults()
	switch {
	case !s.Exists() || s.Final():
		return Step{Do: Nothing}
	case s.Status == instance.Launching:
		return nextLaunch(s, p, now)
	case s.Status == instance.Terminating && s.Open:
		// The cancelled launch may have made a machine. Only repeating the call with its ClientToken can show that.
		return Step{Do: Call, Call: instance.CallLaunch, At: s.RetryAt}
	case s.Status == instance.Terminating && s.Machine == "":
		return Step{Do: Conclude}
	case s.Status == instance.Terminating:
		return call(s, p, instance.CallTerminate, now)
	case s.Status == instance.Stopping:
		return call(s, p, instance.CallStop, now)
	case s.Status == instance.Starting:
		return call(s, p, instance.CallStart, now)
	case s.Status == instance.Running && s.Phase != instance.PhaseReady && !s.Stalled && !s.Guestless():
		if overdue := s.Since.Add(p.BootTime); now.Before(overdue) {
			return Step{Do: Watch, At: overdue}
		}
		return Step{Do: Stall}
	}
	return Step{Do: Watch}
}

func nextLaunch(s instance.State, p Policy, now time.Time) Step {
	switch {
	case s.Open && s.Tries >= p.Tries:
		return Step{Do: Abandon, Why: "launch_refused"}
	case s.Open:
		return Step{Do: Call, Call: instance.CallLaunch, At: s.RetryAt}
	case s.Machine == "" && s.Attempts >= p.Attempts:
		return Step{Do: Abandon, Why: "no_capacity"}
	case s.Machine == "":
		return Step{Do: Attempt, At: s.RetryAt}
	}
	if overdue := s.Since.Add(p.LaunchTime); now.Before(overdue) {
		return Step{Do: Watch, At: overdue}
	}
	return Step{Do: Abandon, Why: "launch_timeout"}
}

// call retries c until the cloud accepts it, waits for its effect, and repeats it if there is none.
func call(s instance.State, p Policy, c instance.Call, now time.Time) Step {
	if s.Called.IsZero() {
		return Step{Do: Call, Call: c, At: s.RetryAt}
	}
	if overdue := s.Called.Add(p.CallTime); now.Before(overdue) {
		return Step{Do: Watch, At: overdue}
	}
	return Step{Do: Call, Call: c, At: s.RetryAt}
}
