package commands_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/invite"
)

func (w *world) invite(t testing.TB, email string) commands.Invitation {
	t.Helper()
	made, err := (&commands.Invites{Log: w.Log, Blind: commandstest.Blind}).Create(t.Context(), email, 7*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (w *world) signUpWith(t testing.TB, email, code string) error {
	t.Helper()
	_, err := w.Accounts.SignUp(t.Context(), commands.Origin{}, email, "correct horse", code, "")
	return err
}

func TestSignUpModes(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	good := w.invite(t, "")
	head, keys := w.Last(t), w.Vault.Count()

	w.Accounts.Mode = commands.SignUpClosed
	for _, code := range []string{"", good.Code} {
		if err := w.signUpWith(t, "ada@example.org", code); !errors.Is(err, commands.ErrSignUpClosed) {
			t.Errorf("closed, code %q: got %v, want error %v", code, err, commands.ErrSignUpClosed)
		}
	}
	w.Accounts.Mode = commands.SignUpInvite
	if err := w.signUpWith(t, "ada@example.org", " "); !errors.Is(err, commands.ErrInviteNeeded) {
		t.Errorf("without a code: got %v, want error %v", err, commands.ErrInviteNeeded)
	}
	for _, code := range []string{"x", "-", strings.Repeat("A", 10_000), good.ID, "\x00\xff", good.Code[:25]} {
		if err := w.signUpWith(t, "ada@example.org", code); !errors.Is(err, invite.ErrRefused) {
			t.Errorf("code %.30q: got %v, want error %v", code, err, invite.ErrRefused)
		}
	}
	if w.Last(t) != head || w.Vault.Count() != keys {
		t.Errorf("got %d events and %d keys after refusals, want %d and %d", w.Last(t), w.Vault.Count(), head, keys)
	}
	if err := w.signUpWith(t, "ada@example.org", " "+strings.ToLower(strings.ReplaceAll(good.Code, "-", " "))+"\n"); err != nil {
		t.Errorf("as people type it: got %v, want no error", err)
	}
	// Without a valid code a stranger cannot find out who has an account.
	if err := w.signUpWith(t, "ada@example.org", good.Code); !errors.Is(err, invite.ErrRefused) {
		t.Errorf("a used code: got %v, want error %v", err, invite.ErrRefused)
	}
	other := w.invite(t, "")
	if err := w.signUpWith(t, "ada@example.org", other.Code); !errors.Is(err, claim.ErrTaken) {
		t.Errorf("a taken address: got %v, want error %v", err, claim.ErrTaken)
	}
	if err := w.signUpWith(t, "bob@example.org", other.Code); err != nil {
		t.Errorf("a refused sign-up used up the code: got %v, want no error", err)
	}
	w.Accounts.Mode = commands.SignUpOpen
	if err := w.signUpWith(t, "eve@example.org", ""); err != nil {
		t.Errorf("open: got %v, want no error", err)
	}
}

func TestInvitationIsForOneAddressAndForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	w.Accounts.Mode = commands.SignUpInvite
	bound, late, revoked := w.invite(t, " Ada@Example.org "), w.invite(t, ""), w.invite(t, "")
	if bound.Email != "ada@example.org" {
		t.Errorf("got an invitation for %q, want \"ada@example.org\"", bound.Email)
	}
	if err := w.signUpWith(t, "bob@example.org", bound.Code); !errors.Is(err, invite.ErrRefused) {
		t.Errorf("for another address: got %v, want error %v", err, invite.ErrRefused)
	}
	if err := w.signUpWith(t, "ADA@example.org", bound.Code); err != nil {
		t.Error(err)
	}
	if err := (&commands.Invites{Log: w.Log, Blind: commandstest.Blind}).Revoke(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	if err := w.signUpWith(t, "bob@example.org", revoked.Code); !errors.Is(err, invite.ErrRefused) {
		t.Errorf("revoked: got %v, want error %v", err, invite.ErrRefused)
	}
	w.Clock.Advance(7 * 24 * time.Hour)
	if err := w.signUpWith(t, "bob@example.org", late.Code); !errors.Is(err, invite.ErrRefused) {
		t.Errorf("expired: got %v, want error %v", err, invite.ErrRefused)
	}
	if _, err := (&commands.Invites{Log: w.Log, Blind: commandstest.Blind}).Create(t.Context(), "bob", time.Hour); !errors.Is(err, commands.ErrEmail) {
		t.Errorf("for no address: got %v, want error %v", err, commands.ErrEmail)
	}
}

// TestInvitationIsUsedOnce lets fifty strangers sign up with one code.
func TestInvitationIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	w.Accounts.Mode = commands.SignUpInvite
	code := w.invite(t, "").Code
	var all sync.WaitGroup
	var in atomic.Int64
	for n := range 50 {
		all.Go(func() {
			switch err := w.signUpWith(t, fmt.Sprintf("u%d@example.org", n), code); {
			case err == nil:
				in.Add(1)
			case !errors.Is(err, invite.ErrRefused):
				t.Errorf("got %v, want error %v", err, invite.ErrRefused)
			}
		})
	}
	all.Wait()
	if in.Load() != 1 || len(w.dataOf(t, "account.signed_up")) != 1 || len(w.dataOf(t, "email.claimed")) != 1 || w.Vault.Count() != 1 {
		t.Errorf("got %d sign-ups, %d accounts, %d addresses, %d data keys, want in.Load() == 1, len(w.dataOf(t, \"account.signed_up\")) == 1, len(w.dataOf(t, \"email.claimed\")) == 1 and w.Vault.Count() == 1", in.Load(), len(w.dataOf(t, "account.signed_up")), len(w.dataOf(t, "email.claimed")), w.Vault.Count())
	}
}

func TestInvitationKeepsItsSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	codes := map[string]bool{}
	for range 100 {
		made := w.invite(t, "ada@example.org")
		if plain := strings.ReplaceAll(made.Code, "-", ""); len(plain) != 26 || codes[plain] {
			t.Fatalf("got code %q, want a new one of 26 characters", made.Code)
		} else {
			codes[plain] = true
		}
	}
	for _, a := range w.Appends {
		text := fmt.Sprintf("%+v", a)
		for _, write := range a.Writes {
			for _, e := range write.Events {
				text += string(e.Data)
			}
		}
		text = strings.ReplaceAll(strings.ToUpper(text), "-", "")
		for code := range codes {
			if strings.Contains(text, code) || strings.Contains(text, "ADA@") {
				t.Fatalf("got %s in the log, want no %q in text and no \"ADA@\" in text", text, code)
			}
		}
	}
}
