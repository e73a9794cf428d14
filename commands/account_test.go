package commands_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func TestNormalEmail(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"ada@example.org":       "ada@example.org",
		"  Ada@Example.ORG\t\n": "ada@example.org",
		"ａｄａ@example.org":       "ada@example.org", // full width
		"ada+tag@example.org":   "ada+tag@example.org",
		"é@example.org":         "é@example.org",
		"e\u0301@example.org":   "é@example.org",
	} {
		if got, err := commands.NormalEmail(in); got != want || err != nil {
			t.Errorf("%q: got %q, %v, want got == %v and no error", in, got, err, want)
		}
		if again, err := commands.NormalEmail(want); again != want || err != nil {
			t.Errorf("%q is not its own normal form: %q, %v", want, again, err)
		}
	}
	for _, in := range []string{
		"", "ada", "@", "ada@", "@example.org", "ada@localhost", "ada@.org.", "ada@org.", "a b@example.org", "Ada <ada@example.org>",
		"ada@example.org, bob@example.org", "ada@example.org\x00", "ada\r\nBcc:x@example.org", "ada\u202e@example.org",
		"a\u200bda@example.org", "ada\u200d@example.org", "ada@exa\u2060mple.org", "\ufeffada@example.org", "a\u00adda@example.org", "ada\ufe0f@example.org",
		"ada\u3164@example.org", "a\u034fda@example.org", "ada@example.org\u200e", "a\u2028da@example.org",
		"<ada@example.org>", "ada@example.org (Ada)", string(make([]byte, 300)) + "@example.org",
	} {
		if got, err := commands.NormalEmail(in); !errors.Is(err, commands.ErrEmail) {
			t.Errorf("%q: got %q, %v, want error %v", in, got, err, commands.ErrEmail)
		}
	}
}

func TestSignUp(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, login := w.SignUp(t, "Ada@Example.org")
	if login.Position != w.Last(t) || login.Leaf.Generation != 1 || login.Leaf.TokenID == "" {
		t.Errorf("got login %+v, head %d, want login.Position == %v, login.Leaf.Generation == 1 and login.Leaf.TokenID not empty", login, w.Last(t), w.Last(t))
	}
	p, err := w.Accounts.Profile(t.Context(), o.Account)
	if err != nil || p.Email != "ada@example.org" || p.ID != o.Account || !p.CreatedAt.Equal(w.Clock.Now()) {
		t.Errorf("got profile %+v, %v, want no error, p.Email == \"ada@example.org\", p.ID == %v and p.CreatedAt.Equal(w.Clock.Now())", p, err, o.Account)
	}
	if _, err := w.Accounts.Profile(t.Context(), "01NOBODY"); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v, want error %v", err, account.ErrNotFound)
	}
	head, keys := w.Last(t), w.Vault.Count()
	for _, email := range []string{"Ada@Example.org", " ada@example.org ", "ADA@EXAMPLE.ORG", "ａda@example.org"} {
		if _, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, email, "correct horse", "", ""); !errors.Is(err, claim.ErrTaken) {
			t.Errorf("%q: got %v, want error %v", email, err, claim.ErrTaken)
		}
	}
	if _, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, "bob@example.org", "short", "", ""); !errors.Is(err, commandstest.ErrWeak) {
		t.Errorf("got %v, want error %v", err, commandstest.ErrWeak)
	}
	if _, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, "bob", "correct horse", "", ""); !errors.Is(err, commands.ErrEmail) {
		t.Errorf("got %v, want error %v", err, commands.ErrEmail)
	}
	if w.Last(t) != head || w.Vault.Count() != keys {
		t.Errorf("got %d events and %d keys of refusals, want w.Last(t) == %v and w.Vault.Count() == %v", w.Last(t)-head, w.Vault.Count()-keys, head, keys)
	}
}

func TestSignUpInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	variants := []string{"ada@example.org", "Ada@example.org", " ada@EXAMPLE.org", "ａda@example.org"}
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, variants[i%len(variants)], "correct horse", "", "")
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, claim.ErrTaken):
				t.Errorf("got %v, want error %v", err, claim.ErrTaken)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || w.Last(t) != 3 || w.Vault.Count() != 1 {
		t.Errorf("got %d sign-ups that won, %d events, %d keys, want won.Load() == 1, w.Last(t) == 3 and w.Vault.Count() == 1", won.Load(), w.Last(t), w.Vault.Count())
	}
}

// A sign-up that loses the race leaves nothing behind, not even a data key.
func TestSignUpLosesTheRace(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	w.Passwords.Meanwhile = func() { w.SignUp(t, "ada@example.org") }
	_, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, "ada@example.org", "battery staple", "", "")
	if !errors.Is(err, claim.ErrTaken) || w.Vault.Count() != 1 || w.Last(t) != 3 {
		t.Errorf("got %v, %d keys, %d events, want error %v, w.Vault.Count() == 1 and w.Last(t) == 3", err, w.Vault.Count(), w.Last(t), claim.ErrTaken)
	}
}

// If it is unknown whether the account exists, its key must stay: it may be needed.
func TestSignUpWithUnknownOutcomeKeepsItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	w.Lose = func(eventstore.Append) bool { return true }
	_, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, "ada@example.org", "correct horse", "", "")
	if !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatalf("got %v, want error %v", err, eventstore.ErrUnavailable)
	}
	w.Lose = nil
	if _, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, "ada@example.org", "correct horse", ""); err != nil {
		t.Error(err)
	}
}

func TestLogIn(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, first := w.SignUp(t, "ada@example.org")
	login, err := w.Accounts.LogIn(t.Context(), commands.Origin{ClientAddr: "192.0.2.1"}, " ADA@example.org", "correct horse", "agent\x00\u202e\xff")
	if err != nil || login.Account != o.Account || login.Session == first.Session || login.Position != w.Last(t) {
		t.Fatalf("got %+v, %v, want no error, login.Account == %v, login.Session != %v and login.Position == %v", login, err, o.Account, first.Session, w.Last(t))
	}
	head := w.Last(t)
	for _, c := range [][2]string{{"ada@example.org", "wrong horse"}, {"bob@example.org", "correct horse"}, {"not an address", "correct horse"}, {"", ""}} {
		before := w.Passwords.Compared.Load()
		_, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, c[0], c[1], "")
		if err != commands.ErrCredentials {
			t.Errorf("%v: got %v, want %v", c, err, commands.ErrCredentials)
		}
		if w.Passwords.Compared.Load() != before+1 {
			t.Errorf("%v: got %d comparisons, want %d: the time must not show who is known", c, w.Passwords.Compared.Load(), before+1)
		}
	}
	if w.Last(t) != head || w.Passwords.Blank.Load() != 3 {
		t.Errorf("got %d events of refusals and %d comparisons with nothing, want w.Last(t) == %v and w.Passwords.Blank.Load() == 3", w.Last(t)-head, w.Passwords.Blank.Load(), head)
	}
	for e, err := range w.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "session", ID: login.Session}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		ev, _ := session.Codec.Decode(e.Type, e.Schema, e.Data)
		if s := ev.(session.Started); s.Agent != "agent" || e.Meta.ClientAddr != "192.0.2.1" || e.Meta.Actor != o.Account {
			t.Errorf("got %+v by %+v, want s.Agent == \"agent\", e.Meta.ClientAddr == \"192.0.2.1\" and e.Meta.Actor == %v", s, e.Meta, o.Account)
		}
	}
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ctx := t.Context()
	o, own := w.SignUp(t, "ada@example.org")
	other, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "correct horse", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Accounts.ChangePassword(ctx, o, "wrong", "battery staple", nil); !errors.Is(err, commands.ErrWrongPassword) {
		t.Errorf("got %v, want error %v", err, commands.ErrWrongPassword)
	}
	if _, err := w.Accounts.ChangePassword(ctx, o, "correct horse", "short", nil); !errors.Is(err, commandstest.ErrWeak) {
		t.Errorf("got %v, want error %v", err, commandstest.ErrWeak)
	}
	if _, err := w.Accounts.ChangePassword(ctx, commands.Origin{Account: "01NOBODY"}, "correct horse", "battery staple", nil); !errors.Is(err, commands.ErrWrongPassword) {
		t.Errorf("got %v, want error %v", err, commands.ErrWrongPassword)
	}
	head := w.Last(t)
	at, err := w.Accounts.ChangePassword(ctx, o, "correct horse", "battery staple", []string{other.Session})
	if err != nil || at != head+2 || w.Last(t) != head+2 {
		t.Fatalf("got position %d after %d, %v, want no error, at == %v and w.Last(t) == %v", at, head, err, head+2, head+2)
	}
	if _, err := w.Accounts.Refresh(ctx, o, other.Session, other.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("the other session lives: got %v, want error %v", err, session.ErrEnded)
	}
	if _, err := w.Accounts.Refresh(ctx, o, own.Session, own.Leaf.TokenID, "browser"); err != nil {
		t.Errorf("one's own session ended: got %v, want no error", err)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "correct horse", ""); !errors.Is(err, commands.ErrCredentials) {
		t.Errorf("the old password: got %v, want error %v", err, commands.ErrCredentials)
	}
	if _, err := w.Accounts.LogIn(ctx, commands.Origin{}, "ada@example.org", "battery staple", ""); err != nil {
		t.Errorf("the new password: got %v, want no error", err)
	}
}

func TestEndSession(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	ctx := t.Context()
	ada, login := w.SignUp(t, "ada@example.org")
	bob, _ := w.SignUp(t, "bob@example.org")
	head := w.Last(t)
	for _, id := range []string{login.Session, "01NOTHING"} {
		if _, err := w.Accounts.EndSession(ctx, bob, id, session.Revoked); !errors.Is(err, commands.ErrNoSession) {
			t.Errorf("another's: got %v, want error %v", err, commands.ErrNoSession)
		}
	}
	if _, err := w.Accounts.EndSession(ctx, commands.Origin{}, "01NOTHING", session.Revoked); !errors.Is(err, commands.ErrNoSession) {
		t.Errorf("no such session: got %v, want error %v", err, commands.ErrNoSession)
	}
	if w.Last(t) != head {
		t.Errorf("a foreign session was written to: got %v, want %v", w.Last(t), head)
	}
	for range 2 {
		if _, err := w.Accounts.EndSession(ctx, ada, login.Session, session.LoggedOut); err != nil {
			t.Error(err)
		}
	}
	if w.Last(t) != head+1 {
		t.Errorf("got %d events for one log-out, want w.Last(t) == %v", w.Last(t)-head, head+1)
	}
	if _, err := w.Accounts.Refresh(ctx, ada, login.Session, login.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("got %v, want error %v", err, session.ErrEnded)
	}
}

func TestRefreshInParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, login := w.SignUp(t, "ada@example.org")
	leaves := make([]session.Leaf, 50)
	var wg sync.WaitGroup
	for i := range leaves {
		wg.Go(func() {
			got, err := w.Accounts.Refresh(t.Context(), o, login.Session, login.Leaf.TokenID, "browser")
			if err != nil || got.Account != o.Account {
				t.Errorf("got %+v, %v, want no error and got.Account == %v", got, err, o.Account)
			}
			leaves[i] = got.Leaf
		})
	}
	wg.Wait()
	for _, l := range leaves {
		if l != leaves[0] || l.Generation != 2 {
			t.Fatalf("two leaves: got %+v and %+v, want l == %v and l.Generation == 2", leaves[0], l, leaves[0])
		}
	}
	// The tab that was slightly late has the leaf. A client that comes after the grace is a thief, or its token was
	// stolen.
	w.Clock.Advance(session.Grace)
	if got, err := w.Accounts.Refresh(t.Context(), o, login.Session, login.Leaf.TokenID, "browser"); err != nil || got.Leaf != leaves[0] {
		t.Errorf("in grace: got %+v, %v, want no error and got.Leaf == %v", got, err, leaves[0])
	}
	w.Clock.Advance(time.Millisecond)
	if got, err := w.Accounts.Refresh(t.Context(), o, login.Session, login.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) || got.Account != "" {
		t.Errorf("after grace: got %+v, %v, want error %v and got.Account empty", got, err, session.ErrEnded)
	}
	if _, err := w.Accounts.Refresh(t.Context(), o, login.Session, leaves[0].TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("the family lives on: got %v, want error %v", err, session.ErrEnded)
	}
	if s := w.session(t, login.Session); s.Ended != session.Reused {
		t.Errorf("got %+v, want s.Ended == %v", s, session.Reused)
	}
}

// Several tabs refresh repeatedly, while a thief uses the first token. Two leaves are never valid at the same time, and
// the theft ends the family.
func TestRefreshStress(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	o, login := w.SignUp(t, "ada@example.org")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			have := login.Leaf.TokenID
			for range 20 {
				got, err := w.Accounts.Refresh(t.Context(), o, login.Session, have, "browser")
				if errors.Is(err, session.ErrEnded) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				have = got.Leaf.TokenID
			}
		})
	}
	wg.Wait()
	s := w.session(t, login.Session)
	n := 0
	for e := range w.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "session", ID: login.Session}, 0) {
		if ev, _ := session.Codec.Decode(e.Type, e.Schema, e.Data); ev != nil {
			n++
		}
	}
	if s.Ended == "" && s.Leaf.Generation != n {
		t.Errorf("got %d events and leaf %+v, want s.Ended not empty or s.Leaf.Generation == %v", n, s.Leaf, n)
	}
	if _, err := w.Accounts.Refresh(t.Context(), o, login.Session, login.Leaf.TokenID, "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("the first token, generations later: got %v, want error %v", err, session.ErrEnded)
	}
}

func (w *world) session(t *testing.T, id string) (s session.State) {
	t.Helper()
	for e, err := range w.ReadStream(t.Context(), eventstore.StreamID{Aggregate: "session", ID: id}, 0) {
		if err != nil {
			t.Fatal(err)
		}
		ev, err := session.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			t.Fatal(err)
		}
		s = session.Evolve(s, ev)
	}
	return s
}

func TestRefreshUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	if _, err := w.Accounts.Refresh(t.Context(), commands.Origin{}, "01NOTHING", "x", "browser"); !errors.Is(err, session.ErrEnded) {
		t.Errorf("got %v, want error %v", err, session.ErrEnded)
	}
	if w.Last(t) != 0 {
		t.Errorf("got %d events, want 0", w.Last(t))
	}
}
