// Package restore decides what the log remembers of its own restores from backups. What happened between a backup and
// its restore is lost to the log, but the machines of that time may still run.
//
// The one thing to know: such a machine is known by the time at which it was launched, because its instance, its
// attempt and even its client token may occur again after the restore.
package restore

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Slack is how much the clocks of the cloud and of the database may differ.
const Slack = 5 * time.Minute

// Event is a fact about the log.
type Event interface{ event() }

type (
	// Finished records that the log was restored, and that what had been issued before was ended.
	Finished struct {
		Epoch      int       `json:"epoch"`            // that the restore began
		Backup     string    `json:"backup"`           // its id; "": the database was restored by other means
		Position   int64     `json:"position"`         // last position of the backup
		MadeAt     time.Time `json:"made_at"`          // the backup
		RestoredAt time.Time `json:"restored_at"`      // later events are not lost
		Sessions   int       `json:"sessions"`         // ended by the restore
		Enrolments int       `json:"enrolments"`       // whose tokens were ended
		Tokens     int       `json:"tokens,omitempty"` // API tokens that were revoked
	}
	// MachineRemoved records that an operator is about to terminate a machine that the log did not know.
	MachineRemoved struct {
		Machine  string `json:"machine"`
		Instance string `json:"instance,omitempty"` // of its tags
		Account  string `json:"account,omitempty"`  // of its tags
	}
)

func (Finished) event()       {}
func (MachineRemoved) event() {}

// State is what decisions read.
type State struct {
	Epoch int      // of the latest restore
	Lost  []Window // oldest first
}

// Window is a time of which the log has lost the events.
type Window struct{ From, Until time.Time }

// Within reports whether something that happened at a time may be lost.
func (s State) Within(at time.Time) bool {
	for _, w := range s.Lost {
		if !at.Before(w.From.Add(-Slack)) && !at.After(w.Until.Add(Slack)) {
			return true
		}
	}
	return false
}

// Latest returns the time of the latest restore; the zero time if there was none.
func (s State) Latest() time.Time {
	if len(s.Lost) == 0 {
		return time.Time{}
	}
	return s.Lost[len(s.Lost)-1].Until
}

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	if e, ok := e.(Finished); ok {
		s.Epoch = e.Epoch
		s.Lost = append(s.Lost[:len(s.Lost):len(s.Lost)], Window{e.MadeAt, e.RestoredAt})
	}
	return s
}

// Command is Finish or Remove.
type Command interface{ command() }

type (
	// Finish ends a restore.
	Finish Finished
	// Remove announces the termination of a machine.
	Remove MachineRemoved
)

func (Finish) command() {}
func (Remove) command() {}

// Decide returns the events of c in state s. A restore is finished once.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Finish:
		if c.Epoch <= s.Epoch {
			return nil, nil
		}
		return []Event{Finished(c)}, nil
	case Remove:
		return []Event{MachineRemoved(c)}, nil
	}
	return nil, &domain.Error{Kind: domain.Invalid, Code: "unknown_command", Msg: fmt.Sprintf("Unknown command %T.", c)}
}
