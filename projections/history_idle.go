package projections

import (
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// phraseUse is phraseInstance for the events of a desktop's use. What its models cost is no part of the history: an event
// every few minutes would bury the others.
func phraseUse(ev instance.Event) (string, facts) {
	switch ev := ev.(type) {
	case instance.IdlePolicySet:
		return either(ev.Policy != nil, "Its idle policy was set.", "Its idle policy was removed; the account's applies."), facts{"policy": ev.Policy}
	case instance.IdleWarned:
		return "The desktop stops at " + idle.Clock(ev.StopAt, ev.At) + " (UTC) unless you extend it. " + ev.Why,
			facts{"stop_at": ev.StopAt, "cause": ev.Cause, "why": ev.Why}
	case instance.IdleExtended:
		return "It was extended: it keeps running until " + idle.Clock(ev.Until, ev.At) + " (UTC) or longer.", facts{"until": ev.Until}
	case instance.IdleWithdrawn:
		return "The warning was withdrawn: the desktop keeps running.", facts{}
	}
	return "", nil
}

// phraseStop phrases a stop by the control plane itself, with what becomes of the agent's next job.
func phraseStop(ev instance.StopRequested) (string, facts) {
	sentence := "The control plane stops the desktop. " + ev.Why
	data := facts{"cause": ev.Cause, "why": ev.Why}
	if ev.Jobs == "" {
		return sentence, data
	}
	data["jobs"], data["next_job_at"] = ev.Jobs, ev.NextJob
	if ev.WakeAt.IsZero() {
		return sentence + " Its agent's next job is due at " + idle.Clock(ev.NextJob, ev.At) + " (UTC) and runs after the next start.", data
	}
	data["wake_at"] = ev.WakeAt
	return sentence + " It starts again at " + idle.Clock(ev.WakeAt, ev.At) + " (UTC) for a job of the agent.", data
}
