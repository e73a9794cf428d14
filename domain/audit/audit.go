// Package audit decides which events that do not change an account are recorded: failed log-ins, keys handed to a
// machine, diagnostics read. The account's owner sees them in the history.
//
// The one thing to know: each event contains the counts of the current hour. So the last event alone is the state, and
// a flood writes at most PerHour events of a kind.
package audit

import (
	"fmt"
	"time"
)

// PerHour is how many events of a kind are recorded for an account in an hour; further ones are dropped.
const PerHour = 20

// Window counts the events of a kind since a time.
type Window struct {
	Since time.Time `json:"since,omitzero"`
	Count int       `json:"count,omitempty"`
}

// Written counts the recorded events of each kind, including the event that contains it.
type Written struct {
	LogIns      Window `json:"log_ins,omitzero"`
	Keys        Window `json:"keys,omitzero"`
	Diagnostics Window `json:"diagnostics,omitzero"`
}

// Event is a fact about an account that did not change it.
type Event interface{ event() }

type (
	// LogInFailed records a wrong password.
	LogInFailed struct {
		Written Written `json:"written"`
	}
	// KeysHandedOut records that one of the account's machines received its API keys.
	KeysHandedOut struct {
		Instance string  `json:"instance"`
		Written  Written `json:"written"`
	}
	// DiagnosticsRead records that a diagnostics report of a machine was read.
	DiagnosticsRead struct {
		Instance string  `json:"instance"`
		Report   string  `json:"report"`
		Written  Written `json:"written"`
	}
)

func (LogInFailed) event()     {}
func (KeysHandedOut) event()   {}
func (DiagnosticsRead) event() {}

// State is what was recorded recently.
type State struct{ Written Written }

// Evolve folds one event into the state. Earlier events do not matter.
func Evolve(_ State, e Event) State {
	switch e := e.(type) {
	case LogInFailed:
		return State(e)
	case KeysHandedOut:
		return State{Written: e.Written}
	case DiagnosticsRead:
		return State{Written: e.Written}
	}
	return State{}
}

// Command is FailLogIn, HandOutKeys or ReadDiagnostics.
type Command interface{ command() }

type (
	// FailLogIn records a wrong password.
	FailLogIn struct{ At time.Time }
	// HandOutKeys records that a machine received the keys.
	HandOutKeys struct {
		Instance string
		At       time.Time
	}
	// ReadDiagnostics records that a report was read.
	ReadDiagnostics struct {
		Instance, Report string
		At               time.Time
	}
)

func (FailLogIn) command()       {}
func (HandOutKeys) command()     {}
func (ReadDiagnostics) command() {}

// Decide returns one event, or none if the hour's share is used up.
func Decide(s State, c Command) ([]Event, error) {
	w := s.Written
	switch c := c.(type) {
	case FailLogIn:
		if w.LogIns.takes(c.At) {
			return []Event{LogInFailed{w}}, nil
		}
	case HandOutKeys:
		if w.Keys.takes(c.At) {
			return []Event{KeysHandedOut{c.Instance, w}}, nil
		}
	case ReadDiagnostics:
		if w.Diagnostics.takes(c.At) {
			return []Event{DiagnosticsRead{c.Instance, c.Report, w}}, nil
		}
	default:
		return nil, fmt.Errorf("audit: unknown command %T", c)
	}
	return nil, nil
}

// takes counts one more event and reports whether there was room. A clock that went back begins a new hour.
func (w *Window) takes(at time.Time) bool {
	if age := at.Sub(w.Since); age < 0 || age >= time.Hour {
		*w = Window{Since: at}
	}
	if w.Count >= PerHour {
		return false
	}
	w.Count++
	return true
}
