// Package idle decides when a desktop stops by itself: after a time without any activity that is known, and in any case
// at a ceiling. Its inputs are a policy and what is known of the desktop's use; its output is a verdict with a reason.
//
// The one thing to know: what is not known is not idle. Time counts from the first fresh report, and only the ceiling ends
// a desktop that reports nothing.
package idle

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Policy says when a desktop stops by itself. Durations are whole seconds.
type Policy struct {
	// After is how long a desktop may be idle; 0: it does not stop for being idle.
	After int64 `json:"after_s"`
	// Warn is how long before the stop its user is warned.
	Warn int64 `json:"warn_s"`
	// Ceiling is how long a desktop may run without its user, even if the agent works or nothing is known; 0: no ceiling.
	Ceiling int64 `json:"ceiling_s"`
	// KeepUntil forbids a stop before this time.
	KeepUntil time.Time `json:"keep_until,omitzero"`
	// Jobs says what becomes of a job of the agent's schedule that is due while the desktop is stopped.
	Jobs Jobs `json:"jobs"`
}

// Jobs is Wake or Sleep.
type Jobs string

const (
	Wake  Jobs = "wake"  // the desktop is started for the job, unless its ceiling stopped it
	Sleep Jobs = "sleep" // the job is late: the agent runs it after the next start
)

// Limits of a policy.
const (
	LongestAfter   = 7 * 24 * time.Hour
	LongestWarn    = time.Hour
	LongestCeiling = 90 * 24 * time.Hour
	LongestKeep    = 90 * 24 * time.Hour
)

// Default is the policy of an account that has set none: it never stops a desktop by surprise within a working day.
func Default() Policy {
	return Policy{After: seconds(time.Hour), Warn: seconds(5 * time.Minute), Ceiling: seconds(24 * time.Hour), Jobs: Wake}
}

// Same reports whether two policies are the same; nil is a policy that is not set.
func Same(a, b *Policy) bool {
	if a == nil || b == nil {
		return a == b
	}
	kept := a.KeepUntil.Equal(b.KeepUntil)
	x, y := *a, *b
	x.KeepUntil, y.KeepUntil = time.Time{}, time.Time{}
	return kept && x == y
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// Check returns why a user may not set the policy at a time, as a *domain.Error that names the field. shortest is the least
// After and Ceiling that the operator allows.
func (p Policy) Check(shortest time.Duration, now time.Time) error {
	refuse := func(field, text string, args ...any) error {
		return &domain.Error{Kind: domain.Invalid, Code: "invalid_idle_policy", Field: field, Msg: fmt.Sprintf(text, args...)}
	}
	switch {
	case p.After != 0 && (p.After < seconds(shortest) || p.After > seconds(LongestAfter)):
		return refuse("after_s", "A desktop may be idle for %s to %s, or without limit (0).", Duration(shortest), Duration(LongestAfter))
	case p.Ceiling != 0 && (p.Ceiling < max(p.After, seconds(shortest)) || p.Ceiling > seconds(LongestCeiling)):
		return refuse("ceiling_s", "The ceiling is at least the idle limit and at most %s, or there is none (0).", Duration(LongestCeiling))
	case p.Warn < 0 || p.Warn > seconds(LongestWarn) || tooEarly(p.Warn, p.After) || tooEarly(p.Warn, p.Ceiling):
		return refuse("warn_s", "The warning comes at most %s before the stop, and after the first quarter of the limit.", Duration(LongestWarn))
	case p.KeepUntil.After(now.Add(LongestKeep)):
		return refuse("keep_until", "A desktop can be kept running for at most %s.", Duration(LongestKeep))
	case p.Jobs != Wake && p.Jobs != Sleep:
		return refuse("jobs", "Say what happens to a job that is due while the desktop is stopped: wake or sleep.")
	}
	return nil
}

// tooEarly reports whether a warning would come in the first quarter of a limit. Its user would be warned at each short
// pause, and the log would hold each warning and its withdrawal.
func tooEarly(warn, limit int64) bool { return limit != 0 && 4*warn > 3*limit }
