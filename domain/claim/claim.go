// Package claim decides who owns an e-mail address. A claim's stream is keyed by a keyed hash of
// the normalised address and written in the same append as the account that claims it, so two
// sign-ups with one address cannot both succeed. The address itself is not in it.
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
