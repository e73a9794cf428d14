// Package claim decides who owns an e-mail address. A claim's stream is keyed by a keyed hash of
// the normalised address and written in the same append as the account that claims it, so two
// sign-ups with one address cannot both succeed. The address itself is not in it.
package claim

import (
	"encoding/json"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrTaken refuses an address that belongs to an account.
var ErrTaken = &domain.Error{Kind: domain.Conflict, Code: "email_taken", Msg: "There is an account with this e-mail address already; log in instead."}

// Event is a fact about an address.
type Event interface{ event() }

// Claimed binds the address to an account.
type Claimed struct {
	Account string `json:"account"`
}

func (Claimed) event() {}

// State is the account that owns the address, "" for none.
type State struct{ Account string }

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	if e, ok := e.(Claimed); ok {
		s.Account = e.Account
	}
	return s
}

// Claim asks for the address.
type Claim struct{ Account string }

// Decide says what happens when c meets s.
func Decide(s State, c Claim) ([]Event, error) {
	switch s.Account {
	case "":
		return []Event{Claimed(c)}, nil
	case c.Account:
		return nil, nil
	}
	return nil, ErrTaken
}

// Encode gives an event its wire name, schema and data.
func Encode(e Event) (name string, schema int, data []byte, err error) {
	if _, ok := e.(Claimed); !ok {
		return "", 0, nil, fmt.Errorf("encode %T: not an e-mail event", e)
	}
	data, err = json.Marshal(e)
	return "email.claimed", 1, data, err
}

// Decode is the inverse of Encode.
func Decode(name string, schema int, data []byte) (Event, error) {
	if name != "email.claimed" || schema != 1 {
		return nil, fmt.Errorf("decode %s: not an e-mail event, or unknown schema %d", name, schema)
	}
	var e Claimed
	err := json.Unmarshal(data, &e)
	return e, err
}
