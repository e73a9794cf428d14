package token

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var (
	t0         = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	day        = 24 * time.Hour
	ci         = Token{ID: "01JCI", Name: []byte("sealed"), Hash: []byte("hash"), Scopes: []Scope{Read, Desktops}, Desktops: []string{"01JA", "01JB"}, ExpiresAt: t0.Add(day), At: t0}
	everything = Token{ID: "01JALL", Name: []byte("sealed"), Hash: []byte("hash 2"), Scopes: Scopes, At: t0}

	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
)

// but returns a token with a change.
func but(t Token, change func(*Token)) Token {
	t.Scopes, t.Desktops = slices.Clone(t.Scopes), slices.Clone(t.Desktops)
	change(&t)
	return t
}

func many(n int, expires time.Time) (events []Event) {
	for i := range n {
		events = append(events, Created{but(everything, func(t *Token) { t.ID, t.ExpiresAt = fmt.Sprintf("01J%03d", i), expires })})
	}
	return events
}

func TestDecide(t *testing.T) {
	t.Parallel()
	later := t0.Add(usedEvery)
	refused := func(name string, err error, change func(*Token)) domaintest.Case[Event, Command] {
		return domaintest.Case[Event, Command]{Name: name, When: Create{but(ci, change)}, Err: err}
	}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "create", When: Create{ci}, Then: []Event{Created{ci}}},
		{Name: "create one for everything", When: Create{everything}, Then: []Event{Created{everything}}},
		{
			Name: "scopes and desktops have an order",
			When: Create{but(ci, func(t *Token) { t.Scopes, t.Desktops = []Scope{Desktops, Read}, []string{"01JB", "01JA"} })},
			Then: []Event{Created{ci}},
		},
		{Name: "create twice", Given: []Event{Created{ci}}, When: Create{ci}, Err: domaintest.ErrAny},
		refused("without an id", domaintest.ErrAny, func(t *Token) { t.ID = "" }),
		refused("without a hash", domaintest.ErrAny, func(t *Token) { t.Hash = nil }),
		refused("no scope", ErrScopes, func(t *Token) { t.Scopes = nil }),
		refused("a scope twice", ErrScopes, func(t *Token) { t.Scopes = []Scope{Read, Chat, Read} }),
		refused("an unknown scope", ErrScopes, func(t *Token) { t.Scopes = []Scope{Read, "root"} }),
		refused("no desktop of a list", ErrDesktops, func(t *Token) { t.Desktops = []string{} }),
		refused("a desktop twice", ErrDesktops, func(t *Token) { t.Desktops = []string{"01JA", "01JB", "01JA"} }),
		refused("a desktop without an id", ErrDesktops, func(t *Token) { t.Desktops = []string{"", "01JB"} }),
		refused("too many desktops", ErrDesktops, func(t *Token) {
			for i := range MaxDesktops + 1 {
				t.Desktops = append(t.Desktops, fmt.Sprint(i))
			}
		}),
		refused("keys for certain desktops", ErrDesktops, func(t *Token) { t.Scopes = []Scope{Read, Keys} }),
		refused("admin for certain desktops", ErrDesktops, func(t *Token) { t.Scopes = []Scope{Admin} }),
		refused("expired", ErrExpiry, func(t *Token) { t.ExpiresAt = t0 }),
		{Name: "one too many", Given: many(Limit, time.Time{}), When: Create{ci}, Err: ErrTooMany},
		{Name: "expired ones do not count", Given: many(Limit, t0), When: Create{ci}, Then: []Event{Created{ci}}},
		{Name: "use", Given: []Event{Created{ci}}, When: Use{ci.ID, t0}, Then: []Event{Used{ci.ID, t0}}},
		{Name: "use again soon", Given: []Event{Created{ci}, Used{ci.ID, t0}}, When: Use{ci.ID, later}},
		{Name: "use again later", Given: []Event{Created{ci}, Used{ci.ID, t0}}, When: Use{ci.ID, later.Add(1)}, Then: []Event{Used{ci.ID, later.Add(1)}}},
		{Name: "use at an earlier clock", Given: []Event{Created{ci}, Used{ci.ID, t0}}, When: Use{ci.ID, t0.Add(-day)}},
		{Name: "use what was revoked", Given: []Event{Created{ci}, Revoked{ID: ci.ID}}, When: Use{ci.ID, t0}},
		{Name: "revoke", Given: []Event{Created{everything}, Created{ci}}, When: Revoke{ci.ID}, Then: []Event{Revoked{ID: ci.ID}}},
		{Name: "revoke again", Given: []Event{Created{ci}, Revoked{ID: ci.ID}}, When: Revoke{ci.ID}, Err: ErrNotFound},
		{Name: "revoke all", Given: []Event{Created{everything}, Created{ci}}, When: RevokeAll{Restored}, Then: []Event{Revoked{everything.ID, Restored}, Revoked{ci.ID, Restored}}},
		{Name: "revoke all of none", When: RevokeAll{Restored}},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

// TestExpiredTokensAreDropped checks that the state does not grow with tokens that expired.
func TestExpiredTokensAreDropped(t *testing.T) {
	t.Parallel()
	var s State
	for i := range 10 * Limit {
		at := t0.Add(time.Duration(i) * day)
		s = Evolve(s, Created{but(ci, func(t *Token) { t.ID, t.At, t.ExpiresAt = fmt.Sprint(i), at, at.Add(day) })})
	}
	if n := len(s.Tokens); n > 32 {
		t.Errorf("tokens in the state: got %d, want those that were live in the last 30 days", n)
	}
	if _, found := s.Find(fmt.Sprint(10*Limit - 20)); !found {
		t.Error("a token that expired 19 days ago: got none, want it listed")
	}
}

// TestEvolveKeepsEarlierStates checks that a state can be used while later ones are made of it.
func TestEvolveKeepsEarlierStates(t *testing.T) {
	t.Parallel()
	first := Evolve(Evolve(State{}, Created{everything}), Created{ci})
	Evolve(first, Used{everything.ID, t0})
	Evolve(first, Revoked{ID: everything.ID})
	if k, found := first.Find(everything.ID); !found || !k.UsedAt.IsZero() || len(first.Tokens) != 2 {
		t.Errorf("got %+v, want the state unchanged", first)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, Created{ci}, Used{"01JCI", t0}, Revoked{"01JCI", Restored})
}
