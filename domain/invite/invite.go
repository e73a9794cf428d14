// Package invite decides about invitations to sign up. The id of an invitation's stream is a keyed hash of its code.
// Its use is written in the same append as the account, so a code is valid for one account. The stream contains neither
// the code nor the e-mail address that it is bound to.
package invite

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Refusals.
var (
	// ErrRefused is the same for every reason, so that strangers learn nothing about codes.
	ErrRefused = &domain.Error{Kind: domain.Forbidden, Code: "signup_closed", Field: "invite",
		Msg: "This invitation code is wrong, has been used, has expired, or is for another e-mail address. Ask for a new one."}
	ErrNotFound = &domain.Error{Kind: domain.NotFound, Code: "invite_not_found", Msg: "There is no such invitation."}
	ErrUsed     = &domain.Error{Kind: domain.Conflict, Code: "invite_used", Msg: "This invitation has been used; suspend the account instead."}
)

// Event is a fact about one invitation.
type Event interface{ event() }

type (
	// Created opens the stream.
	Created struct {
		Address   string    `json:"address,omitempty"` // keyed hash of the one e-mail address it is for; "": any
		At        time.Time `json:"at"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	// Used is final: an account was opened with it.
	Used struct {
		Account string `json:"account"`
	}
	// Revoked is final: an operator revoked it.
	Revoked struct{}
)

func (Created) event() {}
func (Used) event()    {}
func (Revoked) event() {}

// State is what decisions read of an invitation.
type State struct {
	Address   string // see Created
	ExpiresAt time.Time
	Account   string // that used it; "": unused
	Revoked   bool
}

// Exists reports whether it was created.
func (s State) Exists() bool { return !s.ExpiresAt.IsZero() }

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Created:
		return State{Address: e.Address, ExpiresAt: e.ExpiresAt}
	case Used:
		s.Account = e.Account
	case Revoked:
		s.Revoked = true
	}
	return s
}

// Command is Create, Use or Revoke.
type Command interface{ command() }

type (
	// Create makes an invitation.
	Create struct {
		Address   string // see Created
		At        time.Time
		ExpiresAt time.Time
	}
	// Use opens an account with it.
	Use struct {
		Account string
		Address string // keyed hash of the account's e-mail address
		At      time.Time
	}
	// Revoke revokes it.
	Revoke struct{}
)

func (Create) command() {}
func (Use) command()    {}
func (Revoke) command() {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Create:
		if s.Exists() {
			return nil, fmt.Errorf("invite: created twice")
		}
		return []Event{Created(c)}, nil
	case Use:
		switch {
		case s.Account != "" && s.Account == c.Account:
			return nil, nil
		case !s.Exists(), s.Account != "", s.Revoked, !c.At.Before(s.ExpiresAt), s.Address != "" && s.Address != c.Address:
			return nil, ErrRefused
		}
		return []Event{Used{c.Account}}, nil
	case Revoke:
		switch {
		case !s.Exists():
			return nil, ErrNotFound
		case s.Account != "":
			return nil, ErrUsed
		case s.Revoked:
			return nil, nil
		}
		return []Event{Revoked(c)}, nil
	}
	return nil, fmt.Errorf("invite: unknown command %T", c)
}
