package instance

import (
	"cmp"

	"github.com/cloudbot-ai/control-plane/domain"
)

func decideObserve(s State, c Observe) []Event {
	if s.Final() || s.Machine == "" || s.Machine != c.Machine {
		return nil
	}
	if c.Seen == SeenMissing {
		return decideMissing(s, c)
	}
	events := decideSeen(s, c)
	if !s.Missed.IsZero() {
		return append([]Event{MachineFound{}}, events...)
	}
	return events
}

func decideSeen(s State, c Observe) []Event {
	switch c.Seen {
	case SeenRunning:
		if s.Running && s.restarted(c.Launched) { // it was stopped and started again between two looks
			e := MachineRunning{Address: c.Address, At: c.At, Launched: c.Launched}
			if !c.RanUntil.IsZero() {
				e.RanUntil = domain.Later(c.RanUntil, s.RunAt)
			}
			return []Event{e}
		}
		if !s.Running || s.Outside && s.Called.Equal(s.Since) { // the stop was a stale report: the saga has not made the call
			return []Event{MachineRunning{Address: c.Address, At: c.At, Launched: c.Launched}}
		}
		if c.Address != s.Address {
			return []Event{AddressChanged{Address: c.Address}}
		}
	case SeenStopping:
		if s.Status == Running {
			return []Event{StopRequested{At: c.At, Outside: true}}
		}
	case SeenStopped:
		switch s.Status {
		case Stopped, Terminating: // a machine that is being terminated stays so
			return nil
		case Starting:
			return decideUndone(s, c)
		}
		return []Event{MachineStopped{Asked: s.Status == Stopping && !s.Outside, RunEnded: c.runEnded(s)}}
	case SeenGone:
		return gone(s, c)
	}
	return nil
}

// decideMissing gives a machine up once the cloud has not listed it for MissingFor. After an accepted terminate call
// the shorter MissingGrace is enough: the cloud lists an ended machine only for a while.
func decideMissing(s State, c Observe) []Event {
	believed := MissingFor
	if s.Status == Terminating && !s.Called.IsZero() {
		believed = MissingGrace
	}
	switch {
	case c.At.Sub(s.LaunchedAt) < MissingGrace:
		return nil
	case c.Sure:
	case s.Missed.IsZero():
		return []Event{MachineMissed{At: c.At}}
	case c.At.Sub(domain.Later(s.Missed, c.MissedSince)) < believed:
		return nil
	}
	if s.Status == Terminating {
		return []Event{MachineGone{Asked: true, Missing: true, RunEnded: c.goneSince(s)}, ending(s)}
	}
	return []Event{MachineGone{Missing: true, RunEnded: c.goneSince(s)}, Failed{Code: codeLost, Reason: "The cloud no longer lists the machine; it was probably terminated from outside the control plane."}}
}

// decideUndone records a start that the cloud accepted but that had no lasting effect: there was no capacity after all,
// or the disk's key could not be used.
func decideUndone(s State, c Observe) []Event {
	if s.Called.IsZero() || c.At.Sub(s.Called) < StartLag {
		return nil
	}
	e := CallRefused{
		Call: CallStart, Tries: s.Undone + 1, Verdict: Again, Code: codeUndone, Undone: true,
		Reason: cmp.Or(c.Reason, "The machine stopped again right after it started."), RetryAt: c.At.Add(StartLag),
	}
	if e.Tries >= MaxUndone {
		e.Verdict = Never
	}
	return []Event{e}
}

func gone(s State, c Observe) []Event {
	if s.Status == Terminating || c.Reason == "" {
		return []Event{MachineGone{Asked: s.Status == Terminating, RunEnded: c.goneSince(s)}, ending(s)}
	}
	return []Event{MachineGone{RunEnded: c.goneSince(s)}, Failed{Code: codeGone, Reason: c.Reason}}
}

// runEnded returns until when the machine ran. A time before the run began says nothing about this run, nor does the end of
// a later run, which no look saw.
func (c Observe) runEnded(s State) (e RunEnded) {
	if !s.Running {
		return e
	}
	if !c.Ended.IsZero() && !c.Ended.Before(s.Launched) && !s.restarted(c.Launched) {
		e.Ended = c.Ended
	}
	if !c.RanUntil.IsZero() && !c.RanUntil.Before(s.RunAt) {
		e.RanUntil = c.RanUntil
	}
	return e
}

// goneSince returns until when a machine ran that is gone, or existed if it was stopped.
func (c Observe) goneSince(s State) RunEnded {
	e := c.runEnded(s)
	if !s.Running && c.Existed.After(s.LaunchedAt) {
		e.RanUntil = c.Existed
	}
	return e
}

const (
	codeGone   = "machine_gone"
	codeLost   = "machine_lost"
	codeUndone = "start_undone"
)

// ending returns the final event of an instance without a machine.
func ending(s State) Event {
	switch {
	case s.Abandoned != nil:
		return Failed{Code: s.Abandoned.Code, Reason: s.Abandoned.Reason}
	case s.Status == Terminating:
		return Terminated{}
	}
	return Failed{Code: codeGone, Reason: "The machine was terminated from outside the control plane."}
}
