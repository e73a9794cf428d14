// Package fleet decides how many instances all accounts together may have. Its one stream is written
// in the same append as the quota, so the ceiling holds under any concurrency.
//
// The one thing to know: each event carries the count after it, so the last event alone is the
// state, however many instances there were.
package fleet

import (
	"encoding/json"
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

// Encode gives an event its wire name, schema and data.
func Encode(e Event) (name string, schema int, data []byte, err error) {
	switch e.(type) {
	case Grown:
		name = "fleet.grown"
	case Shrunk:
		name = "fleet.shrunk"
	case Counted:
		name = "fleet.counted"
	default:
		return "", 0, nil, fmt.Errorf("encode %T: not a fleet event", e)
	}
	data, err = json.Marshal(e)
	return name, 1, data, err
}

// Decode is the inverse of Encode.
func Decode(name string, schema int, data []byte) (Event, error) {
	if schema != 1 {
		return nil, fmt.Errorf("decode %s: unknown schema %d", name, schema)
	}
	switch name {
	case "fleet.grown":
		return domain.Unmarshal[Grown](data)
	case "fleet.shrunk":
		return domain.Unmarshal[Shrunk](data)
	case "fleet.counted":
		return domain.Unmarshal[Counted](data)
	}
	return nil, fmt.Errorf("decode %s: not a fleet event", name)
}
