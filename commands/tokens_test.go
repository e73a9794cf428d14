package commands_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/token"
)

var ci = commands.NewToken{Name: "CI of the garden", Scopes: []token.Scope{token.Read}}

func (w *world) makeToken(t *testing.T, o commands.Origin, n commands.NewToken) (made commands.APIToken, text string) {
	t.Helper()
	made, text, _, err := w.Accounts.CreateToken(t.Context(), o, commandstest.Password, n)
	if err != nil {
		t.Fatal(err)
	}
	return made, text
}

func TestTokenIsPresented(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	o, _ := w.SignUp(t, "ada@example.org")
	n := ci
	n.Life = 24 * time.Hour
	made, text := w.makeToken(t, o, n)
	if !strings.HasPrefix(text, commands.TokenPrefix) || made.Name != ci.Name || !made.ExpiresAt.Equal(w.Clock.Now().Add(n.Life)) {
		t.Fatalf("got %+v %s, want the token", made, text)
	}
	owner, got, err := w.Accounts.Present(t.Context(), commands.Origin{}, text)
	if err != nil || owner != o.Account || got.ID != made.ID || !slices.Equal(got.Scopes, n.Scopes) {
		t.Fatalf("got %s %+v %v, want the token of %s", owner, got, err, o.Account)
	}
	list, err := w.Accounts.Tokens(t.Context(), o.Account)
	if err != nil || len(list) != 1 || list[0].Name != ci.Name || !list[0].UsedAt.Equal(w.Clock.Now()) {
		t.Fatalf("got %+v %v, want it listed as used", list, err)
	}
	head := w.Last(t)
	for range 5 {
		if _, _, err := w.Accounts.Present(t.Context(), commands.Origin{}, text); err != nil {
			t.Fatal(err)
		}
	}
	if w.Last(t) != head {
		t.Errorf("events of five more uses on the same day: got %d, want 0", w.Last(t)-head)
	}
	for e, err := range w.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(e.Data, []byte(text)) || bytes.Contains(e.Data, []byte(ci.Name)) || bytes.Contains(e.Data, []byte(text[60:80])) {
			t.Errorf("event %s: got the token or its name in clear, want neither", e.Type)
		}
	}
	w.Clock.Advance(n.Life)
	if _, _, err := w.Accounts.Present(t.Context(), commands.Origin{}, text); !errors.Is(err, commands.ErrBadToken) {
		t.Errorf("at its end: got %v, want %v", err, commands.ErrBadToken)
	}
}

func TestTokenIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	o, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	made, text := w.makeToken(t, o, ci)
	other, second := w.makeToken(t, o, ci)
	// With the right form, and a checksum that another token has.
	swapped := text[:56] + second[56:]
	// With the right checksum, as by one who knows its key but not the secret.
	forged := text[:56] + strings.Repeat("A", 26)
	forged += commandstest.Blind("api token", forged)[:16]
	for name, bad := range map[string]string{
		"nothing": "", "prefix": commands.TokenPrefix, "cut": text[:len(text)-1], "longer": text + "a", "another secret": swapped, "forged secret": forged,
		"lower case": strings.ToLower(text), "another prefix": "abc_" + text[4:], "space": " " + text[1:],
		"another account": strings.Replace(text, o.Account, eve.Account, 1), "another id": strings.Replace(text, made.ID, other.ID, 1),
	} {
		if owner, got, err := w.Accounts.Present(t.Context(), commands.Origin{}, bad); !errors.Is(err, commands.ErrBadToken) || owner != "" || got.ID != "" {
			t.Errorf("%s: got %q %+v %v, want %v", name, owner, got, err, commands.ErrBadToken)
		}
	}
	if _, err := w.Accounts.RevokeToken(t.Context(), eve, made.ID); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("revoked by another account: got %v, want %v", err, token.ErrNotFound)
	}
	if _, err := w.Accounts.RevokeToken(t.Context(), o, made.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Accounts.Present(t.Context(), commands.Origin{}, text); !errors.Is(err, commands.ErrBadToken) {
		t.Errorf("after it was revoked: got %v, want %v", err, commands.ErrBadToken)
	}
	for name, c := range map[string]struct {
		owner, id string
		want      error
	}{
		"revoked": {o.Account, made.ID, commands.ErrBadToken}, "live": {o.Account, other.ID, nil},
		"another account's": {eve.Account, other.ID, commands.ErrBadToken},
	} {
		if got, err := w.Accounts.Token(t.Context(), c.owner, c.id); !errors.Is(err, c.want) || (err == nil) != (got.ID == c.id) {
			t.Errorf("%s: got %+v %v, want %v", name, got, err, c.want)
		}
	}
}

func TestTokenNeedsThePasswordAndOwnDesktops(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	o, _ := w.SignUp(t, "ada@example.org")
	eve, _ := w.SignUp(t, "eve@example.org")
	mine, theirs := w.runningInstance(t, o), w.runningInstance(t, eve)
	head := w.Last(t)
	with := func(change func(*commands.NewToken)) commands.NewToken {
		n := ci
		change(&n)
		return n
	}
	for name, c := range map[string]struct {
		password string
		n        commands.NewToken
		want     error
	}{
		"no name":           {commandstest.Password, with(func(n *commands.NewToken) { n.Name = " " }), commands.ErrTokenName},
		"long name":         {commandstest.Password, with(func(n *commands.NewToken) { n.Name = strings.Repeat("x", commands.MaxName+1) }), commands.ErrTokenName},
		"lives too long":    {commandstest.Password, with(func(n *commands.NewToken) { n.Life = commands.MaxTokenLife + 1 }), token.ErrExpiry},
		"lives backwards":   {commandstest.Password, with(func(n *commands.NewToken) { n.Life = -1 }), token.ErrExpiry},
		"another's desktop": {commandstest.Password, with(func(n *commands.NewToken) { n.Desktops = []string{mine, theirs} }), commands.ErrTokenDesktop},
		"no such desktop":   {commandstest.Password, with(func(n *commands.NewToken) { n.Desktops = []string{"01NONE"} }), commands.ErrTokenDesktop},
		"no scope":          {commandstest.Password, with(func(n *commands.NewToken) { n.Scopes = nil }), token.ErrScopes},
		"wrong password":    {"not this one", ci, commands.ErrWrongPassword},
	} {
		_, text, _, err := w.Accounts.CreateToken(t.Context(), o, c.password, c.n)
		if !errors.Is(err, c.want) || text != "" {
			t.Errorf("%s: got %q %v, want %v", name, text, err, c.want)
		}
	}
	if n := w.Last(t) - head; n > 1 { // a failed log-in is recorded
		t.Errorf("events of refused tokens: got %d, want at most 1", n)
	}
	made, _ := w.makeToken(t, o, with(func(n *commands.NewToken) { n.Desktops = []string{mine} }))
	if !slices.Equal(made.Desktops, []string{mine}) {
		t.Errorf("got %+v, want a token for %s", made, mine)
	}
}
