package instance

import (
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// LongestExtension is how far ahead a user can keep a desktop running with one Extend.
const LongestExtension = 24 * time.Hour

// MaxModelCost is the largest total, in micro-dollars, that a machine's meter may report: a million dollars.
const MaxModelCost = 1_000_000_000_000

// Refusals.
var (
	ErrNotRunning = &domain.Error{Kind: domain.Conflict, Code: "instance_not_running", Msg: "The desktop is not running, so there is no time to extend."}
	ErrExtension  = &domain.Error{Kind: domain.Invalid, Code: "invalid_extension", Field: "until", Msg: "A desktop can be kept running for up to 24 hours at a time."}
)

// decideUse decides what concerns the desktop's use: its idle policy, warnings, stops and starts by the control plane, and
// what its models cost.
func decideUse(s State, c Command) ([]Event, error) {
	cost, reported := c.(ReportModelCost)
	switch {
	case s.Final(), s.Status == Terminating && !reported:
		return nil, ErrGone
	case reported: // the last one comes while the machine is terminating
		return decideModelCost(s, cost), nil
	}
	switch c := c.(type) {
	case SetIdlePolicy:
		if idle.Same(s.Idle, c.Policy) {
			return nil, nil
		}
		return []Event{IdlePolicySet(c)}, nil
	case Extend:
		switch {
		case s.Status != Running:
			return nil, ErrNotRunning
		case !c.Until.After(c.At) || c.Until.After(c.At.Add(LongestExtension)):
			return nil, ErrExtension
		case s.Warned == nil && !c.Until.After(s.Extended):
			return nil, nil
		}
		// A later time that was asked for before stays: an extension never brings the stop forward.
		return []Event{IdleExtended{At: c.At, Until: domain.Later(c.Until, s.Extended)}}, nil
	case Warn:
		if s.Status != Running || s.Warned != nil && s.Warned.Cause == c.Cause && s.Warned.StopAt.Equal(c.StopAt) {
			return nil, nil
		}
		return []Event{IdleWarned(c)}, nil
	case Withdraw:
		if s.Warned == nil {
			return nil, nil
		}
		return []Event{IdleWithdrawn(c)}, nil
	case StopBecause:
		if s.Status != Running {
			return nil, nil
		}
		return []Event{StopRequested{At: c.At, Cause: c.Cause, Why: c.Why, WakeAt: c.WakeAt, Jobs: c.Jobs, NextJob: c.NextJob}}, nil
	case StartBecause:
		if s.Status != Stopped {
			return nil, nil
		}
		return []Event{StartRequested(c)}, nil
	}
	return nil, &domain.Error{Kind: domain.Invalid, Code: "unknown_command", Msg: "Unknown instance command."}
}

// decideModelCost counts what a meter shows more than before. A lower total of the same meter is a late report.
func decideModelCost(s State, c ReportModelCost) []Event {
	before := s.Metered
	if c.Meter != s.Meter {
		before = 0
	}
	if c.Meter == "" || c.Total <= before || c.Total > MaxModelCost {
		return nil
	}
	return []Event{ModelCostReported{Meter: c.Meter, Total: c.Total, Added: c.Total - before, At: c.At}}
}
