// Package account decides about a user's account. Personal data is sealed before it gets here: the e-mail address and
// the password hash are ciphertext under the account's data key, which is kept outside the log.
package account

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// Refusals.
var (
	ErrNotFound = &domain.Error{Kind: domain.NotFound, Code: "account_not_found", Msg: "There is no such account."}
	ErrExists   = &domain.Error{Kind: domain.Conflict, Code: "account_exists", Msg: "This account already exists."}
	// ErrSuspended is the answer only to a client that knows the account's password.
	ErrSuspended = &domain.Error{Kind: domain.Forbidden, Code: "account_suspended", Msg: "This account is suspended. Contact the operator of this server."}
)

// Event is a fact about one account.
type Event interface{ event() }

type (
	// SignedUp opens the stream.
	SignedUp struct {
		Email    []byte    `json:"email"`    // sealed
		Password []byte    `json:"password"` // sealed bcrypt hash
		At       time.Time `json:"at"`
		// Imported means that an operator brought the account over from another control plane, where it was opened at At.
		Imported bool `json:"imported,omitempty"`
	}
	// PasswordChanged replaces the password.
	PasswordChanged struct {
		Password []byte `json:"password"` // sealed bcrypt hash
	}
	// PasswordRehashed replaces the hash of the same password with a better one.
	PasswordRehashed struct {
		Password []byte `json:"password"` // sealed bcrypt hash
	}
	// Suspended records that an operator suspended the account: no log-in, no session, no running machine.
	Suspended struct {
		Reason string `json:"reason,omitempty"` // given by the operator; the owner sees it
	}
	// Resumed ends a suspension. Sessions stay ended and machines stay stopped.
	Resumed struct{}
	// IdlePolicySet sets the idle policy of the account's desktops that have none of their own. Nil: idle.Default applies again.
	IdlePolicySet struct {
		Policy *idle.Policy `json:"policy"`
	}
)

func (SignedUp) event()         {}
func (PasswordChanged) event()  {}
func (PasswordRehashed) event() {}
func (Suspended) event()        {}
func (Resumed) event()          {}
func (IdlePolicySet) event()    {}

// State is what decisions read of an account.
type State struct {
	Email     []byte // sealed
	Password  []byte // sealed bcrypt hash; nil while the stream is empty
	CreatedAt time.Time
	Suspended bool
	Idle      *idle.Policy // nil: idle.Default
}

// Exists reports whether the account was signed up.
func (s State) Exists() bool { return s.Password != nil }

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case SignedUp:
		return State{Email: e.Email, Password: e.Password, CreatedAt: e.At}
	case PasswordChanged:
		s.Password = e.Password
	case PasswordRehashed:
		s.Password = e.Password
	case Suspended:
		s.Suspended = true
	case Resumed:
		s.Suspended = false
	case IdlePolicySet:
		s.Idle = e.Policy
	}
	return s
}

// Command is SignUp, ChangePassword, Rehash, Suspend, Resume or SetIdlePolicy.
type Command interface{ command() }

type (
	// SignUp opens an account.
	SignUp struct {
		Email    []byte // sealed
		Password []byte // sealed bcrypt hash
		At       time.Time
		Imported bool
	}
	// ChangePassword replaces the password; the caller has checked the current one.
	ChangePassword struct{ Password []byte }
	// Rehash replaces the hash Of, with which the caller has compared the password.
	Rehash struct{ Of, Password []byte } // sealed
	// Suspend suspends the account, and Resume ends that. They are the operator's commands.
	Suspend struct{ Reason string }
	Resume  struct{}
	// SetIdlePolicy sets the policy of desktops without one of their own; the caller has checked it.
	SetIdlePolicy struct{ Policy *idle.Policy }
)

func (SignUp) command()         {}
func (ChangePassword) command() {}
func (Rehash) command()         {}
func (Suspend) command()        {}
func (Resume) command()         {}
func (SetIdlePolicy) command()  {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case SignUp:
		if s.Exists() {
			return nil, ErrExists
		}
		return []Event{SignedUp(c)}, nil
	case ChangePassword:
		if !s.Exists() {
			return nil, ErrNotFound
		}
		return []Event{PasswordChanged(c)}, nil
	case Rehash:
		if !s.Exists() {
			return nil, ErrNotFound
		}
		if !bytes.Equal(s.Password, c.Of) { // it was changed meanwhile
			return nil, nil
		}
		return []Event{PasswordRehashed{Password: c.Password}}, nil
	case Suspend:
		if !s.Exists() {
			return nil, ErrNotFound
		}
		if s.Suspended {
			return nil, nil
		}
		return []Event{Suspended(c)}, nil
	case Resume:
		if !s.Exists() {
			return nil, ErrNotFound
		}
		if !s.Suspended {
			return nil, nil
		}
		return []Event{Resumed(c)}, nil
	case SetIdlePolicy:
		if !s.Exists() {
			return nil, ErrNotFound
		}
		if idle.Same(s.Idle, c.Policy) {
			return nil, nil
		}
		return []Event{IdlePolicySet(c)}, nil
	}
	return nil, fmt.Errorf("account: unknown command %T", c)
}
