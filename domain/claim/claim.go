// Package claim decides which account owns an e-mail address. The id of a claim's stream is a keyed hash of the
// normalised address. The claim is written in the same append as its account, so two sign-ups with one address cannot
// both succeed. The stream does not contain the address.
package claim

import "github.com/cloudbot-ai/control-plane/domain"

// ErrTaken refuses an address that belongs to an account.
var ErrTaken = &domain.Error{Kind: domain.Conflict, Code: "email_taken", Msg: "An account with this e-mail address already exists; log in instead."}

// Event is a fact about an address.
type Event interface{ event() }

// Claimed binds the address to an account.
type Claimed struct {
	Account string `json:"account"`
}

func (Claimed) event() {}

// State is the account that owns the address, or "".
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

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Claim) ([]Event, error) {
	switch s.Account {
	case "":
		return []Event{Claimed(c)}, nil
	case c.Account:
		return nil, nil
	}
	return nil, ErrTaken
}
