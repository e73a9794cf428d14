// Package audit decides what is written down about an account that changes nothing: failed log-ins,
// keys handed to a machine, diagnostics read. Its owner finds it in the history.
//
// The one thing to know: each event carries what has been written in the present hour, so the last
// event alone is the state, and no flood writes more than PerHour of a kind.
package audit

import (
	"fmt"
	"time"
)

// PerHour is how many events of a kind an account's audit takes in an hour; more are left out.
const PerHour = 20

// Window counts the events of a kind since a time.
type Window struct {
	Since time.Time `json:"since,omitzero"`
	Count int       `json:"count,omitempty"`
}

// Written is what has been written of each kind, the event that carries it included.
type Written struct {
	LogIns      Window `json:"log_ins,omitzero"`
	Keys        Window `json:"keys,omitzero"`
	Diagnostics Window `json:"diagnostics,omitzero"`
}

// Event is a fact about what was tried or read.
type Event interface{ event() }

type (
	// LogInFailed says that a password was wrong.
	LogInFailed struct {
		Written Written `json:"written"`
	}
	// KeysHandedOut says that the account's API keys went to one of its machines.
	KeysHandedOut struct {
		Instance string  `json:"instance"`
		Written  Written `json:"written"`
	}
	// DiagnosticsRead says that a report of a machine was read.
	DiagnosticsRead struct {
		Instance string  `json:"instance"`
		Report   string  `json:"report"`
		Written  Written `json:"written"`
	}
)

func (LogInFailed) event()     {}
func (KeysHandedOut) event()   {}
func (DiagnosticsRead) event() {}

// State is what was written of late.
type State struct{ Written Written }

// Evolve folds one event into the state. What came before does not matter.
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
	// FailLogIn notes a wrong password.
	FailLogIn struct{ At time.Time }
	// HandOutKeys notes that a machine got the keys.
	HandOutKeys struct {
		Instance string
		At       time.Time
	}
	// ReadDiagnostics notes that a report was read.
	ReadDiagnostics struct {
		Instance, Report string
		At               time.Time
	}
)

func (FailLogIn) command()       {}
func (HandOutKeys) command()     {}
func (ReadDiagnostics) command() {}

// Decide says what happens when c meets s: one event, or none where the hour has its share.
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

// takes counts one more at a time, if there is room. A clock that went back begins a new hour.
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
