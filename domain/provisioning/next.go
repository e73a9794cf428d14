// Package provisioning is the saga's table: which step an instance's state calls for.
//
// The one thing to know: Next looks at the state and not at the event that woke it, so
// duplicates, delays and reordering all lead to the same step.
package provisioning

import (
	"cmp"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Do names what a step does.
type Do string

const (
	Nothing  Do = "nothing"  // final, or never requested
	Watch    Do = "watch"    // the next news comes from the cloud or the guest
	Attempt  Do = "attempt"  // freeze a launch request in the log
	Call     Do = "call"     // make Step.Call
	Abandon  Do = "abandon"  // give the launch up
	Stall    Do = "stall"    // say that the boot is overdue
	Conclude Do = "conclude" // no machine is left: end it
)

// Step is what is due, and from when. A Watch with a time is a deadline: look again then.
type Step struct {
	Do   Do
	Call instance.Call // of a Call
	At   time.Time     // zero: at once; for Watch, zero: no deadline
	Why  string        // of Abandon: its code
}

// Policy holds the saga's patience. Zero values mean the defaults in brackets.
type Policy struct {
	Attempts   int           // launches tried before giving up [6]
	Tries      int           // refusals of one launch in a row before giving up [10]
	LaunchTime time.Duration // from launch call to running [10 min]
	BootTime   time.Duration // from running to ready, before BootStalled is said [15 min]
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

// Next is the saga: the step that s calls for at time now.
func Next(s instance.State, p Policy, now time.Time) Step {
	p = p.WithDefaults()
	switch {
	case !s.Exists() || s.Final():
		return Step{Do: Nothing}
	case s.Status == instance.Launching:
		return nextLaunch(s, p, now)
	case s.Status == instance.Terminating && s.Open:
		// The cancelled launch may have made a machine. Repeating the call with its ClientToken is the one way to know.
		return Step{Do: Call, Call: instance.CallLaunch, At: s.RetryAt}
	case s.Status == instance.Terminating && s.Machine == "":
		return Step{Do: Conclude}
	case s.Status == instance.Terminating:
		return call(s, p, instance.CallTerminate, now)
	case s.Status == instance.Stopping:
		return call(s, p, instance.CallStop, now)
	case s.Status == instance.Starting:
		return call(s, p, instance.CallStart, now)
	case s.Status == instance.Running && s.Phase != instance.PhaseReady && !s.Stalled:
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

// call makes c until the cloud takes it, then waits for its effect, and repeats it when that stays away.
func call(s instance.State, p Policy, c instance.Call, now time.Time) Step {
	if s.Called.IsZero() {
		return Step{Do: Call, Call: c, At: s.RetryAt}
	}
	if overdue := s.Called.Add(p.CallTime); now.Before(overdue) {
		return Step{Do: Watch, At: overdue}
	}
	return Step{Do: Call, Call: c, At: s.RetryAt}
}
