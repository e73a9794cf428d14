// Package fleet decides how many instances all accounts together may have. Its only stream is written in the same
// append as the quota, so the limit holds under any concurrency.
//
// The one thing to know: each event contains the count after it, so the last event alone is the state, however many
// instances there were.
package fleet

import (
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrFull refuses an instance beyond the limit. It does not reveal the number of instances.
var ErrFull = &domain.Error{Kind: domain.Conflict, Code: "fleet_full",
	Msg: "This server has no room for another desktop. Try again later, or contact its operator."}

// Event is a fact about the number of instances.
type Event interface{ event() }

type (
	// Grown records that an instance was added.
	Grown struct {
		Instance string `json:"instance"`
		Count    int    `json:"count"` // after it
	}
	// Shrunk records that an instance ended.
	Shrunk struct {
		Instance string `json:"instance"`
		Count    int    `json:"count"` // after it
	}
	// Counted replaces the count with the actual number of instances.
	Counted struct {
		Count int `json:"count"`
	}
)

func (Grown) event()   {}
func (Shrunk) event()  {}
func (Counted) event() {}

// State is the number of instances.
type State struct{ Count int }

// Evolve folds one event into the state. Earlier events do not matter.
func Evolve(_ State, e Event) State {
	switch e := e.(type) {
	case Grown:
		return State{e.Count}
	case Shrunk:
		return State{e.Count}
	case Counted:
		return State(e)
	}
	return State{}
}

// Command is Add, Remove or Count.
type Command interface{ command() }

type (
	// Add reserves room for an instance, below Limit.
	Add struct {
		Instance string
		Limit    int
	}
	// Remove releases an instance's room. The caller sends it once for each instance.
	Remove struct{ Instance string }
	// Count reports the actual number of instances.
	Count struct{ Count int }
)

func (Add) command()    {}
func (Remove) command() {}
func (Count) command()  {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Add:
		if s.Count >= c.Limit {
			return nil, ErrFull
		}
		return []Event{Grown{c.Instance, s.Count + 1}}, nil
	case Remove:
		return []Event{Shrunk{c.Instance, max(0, s.Count-1)}}, nil
	case Count:
		if s.Count == c.Count {
			return nil, nil
		}
		return []Event{Counted(c)}, nil
	}
	return nil, fmt.Errorf("fleet: unknown command %T", c)
}
