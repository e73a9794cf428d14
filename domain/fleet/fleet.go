// Package fleet decides how many instances all accounts together may have. Its one stream is written
// in the same append as the quota, so the ceiling holds under any concurrency.
//
// The one thing to know: each event carries the count after it, so the last event alone is the
// state, however many instances there were.
package fleet

import (
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrFull refuses an instance beyond the ceiling. It does not say how many others have.
var ErrFull = &domain.Error{Kind: domain.Conflict, Code: "fleet_full",
	Msg: "This server has no room for another desktop. Try again later, or contact its operator."}

// Event is a fact about the number of instances.
type Event interface{ event() }

type (
	// Grown says that an instance was added.
	Grown struct {
		Instance string `json:"instance"`
		Count    int    `json:"count"` // after it
	}
	// Shrunk says that an instance is gone.
	Shrunk struct {
		Instance string `json:"instance"`
		Count    int    `json:"count"` // after it
	}
	// Counted replaces the count with the number of instances that there really are.
	Counted struct {
		Count int `json:"count"`
	}
)

func (Grown) event()   {}
func (Shrunk) event()  {}
func (Counted) event() {}

// State is the number of instances.
type State struct{ Count int }

// Evolve folds one event into the state. What came before does not matter.
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
	// Add asks for room for an instance below Limit.
	Add struct {
		Instance string
		Limit    int
	}
	// Remove gives an instance's room back. The caller does it once for each instance.
	Remove struct{ Instance string }
	// Count says how many instances there are.
	Count struct{ Count int }
)

func (Add) command()    {}
func (Remove) command() {}
func (Count) command()  {}

// Decide says what happens when c meets s.
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
