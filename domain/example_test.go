package domain_test

import (
	"errors"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
)

// The events of a door: past tense, sealed by an unexported method, with only what has happened.
type (
	Event  interface{ event() }
	Opened struct {
		By string `json:"by"`
	}
	Locked struct{}
)

func (Opened) event() {}
func (Locked) event() {}

// The commands: imperative. Time, ids and everything random come with them.
type (
	Command interface{ command() }
	Open    struct{ By string }
	Lock    struct{}
)

func (Open) command() {}
func (Lock) command() {}

// State holds only what decisions read.
type State struct{ Open, Locked bool }

// Evolve folds one event into the state. It never refuses: the event has happened.
func Evolve(s State, e Event) State {
	switch e.(type) {
	case Opened:
		s.Open = true
	case Locked:
		s.Locked = true
	}
	return s
}

var ErrLocked = &domain.Error{Kind: domain.Conflict, Code: "door_locked", Msg: "The door is locked."}

// Decide returns the events that a command leads to; or none if nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Open:
		if s.Locked {
			return nil, ErrLocked
		}
		if s.Open {
			return nil, nil
		}
		return []Event{Opened(c)}, nil
	case Lock:
		if s.Locked {
			return nil, nil
		}
		return []Event{Locked{}}, nil
	}
	return nil, fmt.Errorf("decide %T: not a command of a door", c)
}

// Codec is the table of the events' wire names. A new aggregate adds its codec to domain/events.
var Codec = domain.NewCodec("door",
	domain.As[Opened, Event]("door.opened"),
	domain.As[Locked, Event]("door.locked"),
)

// A decider is two pure functions and a table of names. Given events, when a command comes, then events
// follow or a refusal: no store, no clock and no mock is needed to test it.
func Example() {
	var state State
	for _, command := range []Command{Open{By: "ada"}, Open{By: "bob"}, Lock{}, Open{By: "bob"}} {
		events, err := Decide(state, command)
		fmt.Printf("%T: %d events", command, len(events))
		if errors.Is(err, ErrLocked) {
			fmt.Printf(", refused: %v", err)
		}
		for _, e := range events {
			name, schema, data, _ := Codec.Encode(e)
			fmt.Printf(", %s (schema %d) %s", name, schema, data)
			state = Evolve(state, e)
		}
		fmt.Println()
	}
	// Output:
	// domain_test.Open: 1 events, door.opened (schema 1) {"by":"ada"}
	// domain_test.Open: 0 events
	// domain_test.Lock: 1 events, door.locked (schema 1) {}
	// domain_test.Open: 0 events, refused: The door is locked.
}
