// Package session decides about one login: a family of refresh tokens of which exactly one, the leaf, is valid. Each
// refresh makes the next generation. A token of an older generation is a stolen copy, or was stolen, and ends the
// family.
//
// The one thing to know: a token consists of its generation and id. So the leaf can be issued again, byte for byte, to
// several tabs of a browser that refresh at the same time.
package session

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Refusals.
var (
	ErrEnded = &domain.Error{Kind: domain.Unauthenticated, Code: "session_ended", Msg: "This session has ended; log in again."}
)

const (
	// Grace is how long after a rotation the client that made it can still exchange the previous token for the new
	// leaf.
	Grace = 5 * time.Second
	// Idle is how long a leaf is valid.
	Idle = 7 * 24 * time.Hour
	// Lifetime is how long a session may be kept alive by refreshing.
	Lifetime = 30 * 24 * time.Hour
)

// Reason is why a session ended.
type Reason string

const (
	LoggedOut       Reason = "logged_out"
	Revoked         Reason = "revoked"          // from the session list
	PasswordChanged Reason = "password_changed" // in another session
	Reused          Reason = "reused"           // an old refresh token was presented
	Suspended       Reason = "suspended"        // the account was suspended
	Restored        Reason = "restored"         // the log was restored from a backup
)

// Leaf identifies the only valid refresh token of a family.
type Leaf struct {
	Generation int       `json:"generation"` // from 1
	TokenID    string    `json:"token_id"`
	IssuedAt   time.Time `json:"issued_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// Event is a fact about one session.
type Event interface{ event() }

type (
	// Started opens the stream: a user logged in.
	Started struct {
		Account string `json:"account"`
		Leaf    Leaf   `json:"leaf"`
		Agent   string `json:"agent,omitempty"`   // the client's User-Agent, cut to 200 bytes
		Address []byte `json:"address,omitempty"` // the client's, sealed
	}
	// Refreshed replaces the leaf.
	Refreshed struct {
		Leaf   Leaf   `json:"leaf"`
		Client string `json:"client,omitempty"` // keyed hash of the client that refreshed; "": not recorded
	}
	// Ended is final.
	Ended struct {
		Reason Reason `json:"reason"`
	}
)

func (Started) event()   {}
func (Refreshed) event() {}
func (Ended) event()     {}

// State is what decisions read of a session.
type State struct {
	Account   string // "" while the stream is empty
	StartedAt time.Time
	Leaf      Leaf
	Before    string // token id of the generation before the leaf's
	Client    string // that made the leaf, see Refreshed
	Ended     Reason // "" while it is active
}

// Live reports whether the session can be used at a time.
func (s State) Live(now time.Time) bool {
	return s.Account != "" && s.Ended == "" && now.Before(s.Leaf.ExpiresAt)
}

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Started:
		return State{Account: e.Account, StartedAt: e.Leaf.IssuedAt, Leaf: e.Leaf}
	case Refreshed:
		s.Before, s.Leaf, s.Client = s.Leaf.TokenID, e.Leaf, e.Client
	case Ended:
		s.Ended = e.Reason
	}
	return s
}

// Command is Start, Refresh or End.
type Command interface{ command() }

type (
	// Start begins a session.
	Start struct {
		Account string
		TokenID string
		Agent   string
		Address []byte // sealed
		At      time.Time
	}
	// Refresh presents a token and offers an id for the next one.
	Refresh struct {
		Presented string // token id
		NextID    string
		Client    string // keyed hash of its address and User-Agent
		At        time.Time
	}
	// End ends the session.
	End struct{ Reason Reason }
)

func (Start) command()   {}
func (Refresh) command() {}
func (End) command()     {}

// Decide returns the events of c in state s. A reused token is not an error here but an Ended event; the caller sees
// from the state that there is no leaf to hand out.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Start:
		if s.Account != "" {
			return nil, fmt.Errorf("session: started twice")
		}
		leaf := Leaf{Generation: 1, TokenID: c.TokenID, IssuedAt: c.At, ExpiresAt: c.At.Add(Idle)}
		return []Event{Started{Account: c.Account, Leaf: leaf, Agent: c.Agent, Address: c.Address}}, nil
	case Refresh:
		return decideRefresh(s, c)
	case End:
		if s.Account == "" {
			return nil, ErrEnded
		}
		if s.Ended != "" {
			return nil, nil
		}
		return []Event{Ended(c)}, nil
	}
	return nil, fmt.Errorf("session: unknown command %T", c)
}

func decideRefresh(s State, c Refresh) ([]Event, error) {
	switch {
	case !s.Live(c.At):
		return nil, ErrEnded
	case c.Presented == s.Leaf.TokenID:
		end := c.At.Add(Idle)
		if limit := s.StartedAt.Add(Lifetime); end.After(limit) {
			end = limit
		}
		if !c.At.Before(end) {
			return nil, ErrEnded
		}
		return []Event{Refreshed{Leaf{s.Leaf.Generation + 1, c.NextID, c.At, end}, c.Client}}, nil
	case c.Presented == s.Before && c.At.Sub(s.Leaf.IssuedAt) <= Grace && (s.Client == "" || c.Client == s.Client):
		return nil, nil // a tab that was slightly late gets the leaf
	}
	return []Event{Ended{Reason: Reused}}, nil
}
