// Package token decides about an account's API tokens: secrets with which programs use the API for the account, each with
// the scopes that it needs. The stream of an account's tokens has the account's id.
//
// The one thing to know: the log has a hash of each secret, never the secret, so a token can be shown only once.
package token

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Scope is a part of the API that a token may use.
type Scope string

const (
	Read     Scope = "read"     // see desktops, their screens, prices, usage and events
	Desktops Scope = "desktops" // create, start, stop, change and terminate desktops, and control their screens
	Chat     Scope = "chat"     // write to the agents, and read their chats
	Keys     Scope = "keys"     // list, store and remove API keys of model providers
	Admin    Scope = "admin"    // the account: sessions, history, budgets, plan; not its password or its tokens
)

// Scopes are all scopes, in the order in which a token has them.
var Scopes = []Scope{Read, Desktops, Chat, Keys, Admin}

const (
	// Limit is how many tokens an account may have.
	Limit = 50
	// MaxDesktops is how many desktops a token may be restricted to.
	MaxDesktops = 50
	// kept is how long an expired token is listed before a new one removes it.
	kept = 30 * 24 * time.Hour
	// usedEvery is how far apart the recorded uses of a token are at least.
	usedEvery = 24 * time.Hour
)

// Refusals.
var (
	ErrNotFound = &domain.Error{Kind: domain.NotFound, Code: "token_not_found", Msg: "There is no such API token."}
	ErrTooMany  = &domain.Error{Kind: domain.Conflict, Code: "too_many_tokens", Msg: fmt.Sprintf("An account may have %d API tokens; revoke one first.", Limit)}
	ErrScopes   = &domain.Error{Kind: domain.Invalid, Code: "invalid_scopes", Field: "scopes",
		Msg: "Choose at least one scope of read, desktops, chat, keys and admin, each once."}
	ErrDesktops = &domain.Error{Kind: domain.Invalid, Code: "invalid_desktops", Field: "desktops",
		Msg: fmt.Sprintf("A token for certain desktops names 1 to %d of them, each once, and has no scope but read, desktops and chat.", MaxDesktops)}
	ErrExpiry = &domain.Error{Kind: domain.Invalid, Code: "invalid_expiry", Field: "expires_in_days", Msg: "A token expires in the future."}
)

// Token is what is known of a token, but for when it was used.
type Token struct {
	ID        string    `json:"id"`
	Name      []byte    `json:"name"` // sealed
	Hash      []byte    `json:"hash"` // SHA-256 of its secret
	Scopes    []Scope   `json:"scopes"`
	Desktops  []string  `json:"desktops,omitempty"`  // the only ones it may be used for; nil: all
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	At        time.Time `json:"at"`
}

// Live reports whether the token has not expired at a time.
func (t Token) Live(now time.Time) bool { return t.ExpiresAt.IsZero() || now.Before(t.ExpiresAt) }

// Event is a fact about one account's tokens.
type Event interface{ event() }

type (
	// Created adds a token.
	Created struct{ Token }
	// Used records that a token was used; for each token at most once a day.
	Used struct {
		ID string    `json:"id"`
		At time.Time `json:"at"`
	}
	// Revoked removes a token.
	Revoked struct {
		ID     string `json:"id"`
		Reason Reason `json:"reason,omitempty"`
	}
)

// Reason is why a token was revoked; "": its owner revoked it.
type Reason string

// Restored means that the log was restored from a backup, which may lack the revocation of a token.
const Restored Reason = "restored"

func (Created) event() {}
func (Used) event()    {}
func (Revoked) event() {}

// Known is a token of the state.
type Known struct {
	Token
	UsedAt time.Time // of the last Used; zero: never
}

// State is an account's tokens that were not revoked, oldest first. Those that expired long ago may be missing.
type State struct{ Tokens []Known }

// Find returns a token.
func (s State) Find(id string) (Known, bool) {
	i := slices.IndexFunc(s.Tokens, func(k Known) bool { return k.ID == id })
	if i < 0 {
		return Known{}, false
	}
	return s.Tokens[i], true
}

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Created:
		s.Tokens = append(without(s.Tokens, func(k Known) bool { return !k.Live(e.At.Add(-kept)) }), Known{Token: e.Token})
	case Used:
		s.Tokens = slices.Clone(s.Tokens)
		for i := range s.Tokens {
			if s.Tokens[i].ID == e.ID {
				s.Tokens[i].UsedAt = e.At
			}
		}
	case Revoked:
		s.Tokens = without(s.Tokens, func(k Known) bool { return k.ID == e.ID })
	}
	return s
}

// without returns a copy: an earlier state is still in use elsewhere.
func without(list []Known, drop func(Known) bool) []Known {
	return slices.DeleteFunc(slices.Clone(list), drop)
}

// Command is Create, Use, Revoke or RevokeAll.
type Command interface{ command() }

type (
	// Create adds a token.
	Create struct{ Token }
	// Use records a use, unless one was recorded within a day.
	Use struct {
		ID string
		At time.Time
	}
	// Revoke removes a token.
	Revoke struct{ ID string }
	// RevokeAll removes all tokens.
	RevokeAll struct{ Reason Reason }
)

func (Create) command()    {}
func (Use) command()       {}
func (Revoke) command()    {}
func (RevokeAll) command() {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Create:
		return decideCreate(s, c.Token)
	case Use:
		k, found := s.Find(c.ID)
		if !found || !c.At.After(k.UsedAt.Add(usedEvery)) && !k.UsedAt.IsZero() {
			return nil, nil
		}
		return []Event{Used(c)}, nil
	case Revoke:
		if _, found := s.Find(c.ID); !found {
			return nil, ErrNotFound
		}
		return []Event{Revoked{ID: c.ID}}, nil
	case RevokeAll:
		var events []Event
		for _, k := range s.Tokens {
			events = append(events, Revoked{k.ID, c.Reason})
		}
		return events, nil
	}
	return nil, fmt.Errorf("token: unknown command %T", c)
}

func decideCreate(s State, t Token) ([]Event, error) {
	if _, found := s.Find(t.ID); found {
		return nil, fmt.Errorf("token: created twice")
	}
	t.Scopes, t.Desktops = slices.Clone(t.Scopes), slices.Clone(t.Desktops)
	slices.SortFunc(t.Scopes, func(a, b Scope) int { return cmp.Compare(slices.Index(Scopes, a), slices.Index(Scopes, b)) })
	slices.Sort(t.Desktops)
	one := func(s Scope) bool { return slices.Contains(Scopes, s) }
	wide := func(s Scope) bool { return s == Keys || s == Admin }
	switch {
	case len(t.Scopes) == 0, repeats(t.Scopes), !all(t.Scopes, one):
		return nil, ErrScopes
	case len(t.Desktops) > MaxDesktops, repeats(t.Desktops), slices.Contains(t.Desktops, ""):
		return nil, ErrDesktops
	case t.Desktops != nil && (len(t.Desktops) == 0 || slices.ContainsFunc(t.Scopes, wide)):
		return nil, ErrDesktops
	case !t.Live(t.At):
		return nil, ErrExpiry
	case len(without(s.Tokens, func(k Known) bool { return !k.Live(t.At) })) >= Limit:
		return nil, ErrTooMany
	case t.ID == "", len(t.Hash) == 0:
		return nil, fmt.Errorf("token: no id or no hash")
	}
	return []Event{Created{t}}, nil
}

func repeats[T cmp.Ordered](sorted []T) bool {
	return len(slices.Compact(slices.Clone(sorted))) < len(sorted)
}

func all[T any](list []T, good func(T) bool) bool {
	return !slices.ContainsFunc(list, func(t T) bool { return !good(t) })
}
