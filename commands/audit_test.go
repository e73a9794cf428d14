package commands_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/audit"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := commands.NewAudit(w.Log, slog.New(slog.DiscardHandler))
		w.Accounts.Audit, w.Guests.Audit = a, a
		o, _ := w.SignUp(t, "ada@example.org")
		go func() { _ = a.Run(t.Context()) }()
		wrong := func(n int, email string) {
			for range n {
				if _, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, email, "wrong horse", ""); !errors.Is(err, commands.ErrCredentials) {
					t.Fatalf("got %v, want error %v", err, commands.ErrCredentials)
				}
			}
			synctest.Wait()
		}
		wrong(3, "ada@example.org")
		before := w.Last(t)
		wrong(3, "nowhere@example.org")
		if _, err := w.Accounts.LogIn(t.Context(), commands.Origin{}, "ada@example.org", "correct horse", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(w.dataOf(t, "audit.log_in_failed")); n != 3 || w.Last(t) != before+1 {
			t.Errorf("got %d failed log-ins, %d events for an unknown address and a good log-in, want n == 3 and w.Last(t) == %v", n, w.Last(t)-before, before+1)
		}
		if _, err := w.Accounts.ChangePassword(t.Context(), o, "wrong horse", "another horse", nil); !errors.Is(err, commands.ErrWrongPassword) {
			t.Errorf("got %v, want error %v", err, commands.ErrWrongPassword)
		}
		wrong(500, "ada@example.org")
		if n := len(w.dataOf(t, "audit.log_in_failed")); n != audit.PerHour {
			t.Errorf("%d events of a flood, want %d", n, audit.PerHour)
		}
		// Without keys nothing is handed out.
		w.environment(t, o.Account, map[string]string{})
		if _, err := w.Keys.Store(t.Context(), o, "openai", "sk-0123456789abcdef", false); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Guests.Keys(t.Context(), o.Account, "01MACHINE"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(w.dataOf(t, "audit.keys_handed_out")); n != 1 {
			t.Errorf("got %d events for one hand-out, want 1", n)
		}
	})
}

// While the log cannot be written, requests are not delayed. The notes are written once it can.
func TestAuditOutlastsTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := commands.NewAudit(w.Log, slog.New(slog.DiscardHandler))
		go func() { _ = a.Run(t.Context()) }()
		w.Refuse.Store(true)
		for range 5000 { // more than can wait
			a.DiagnosticsRead("me", "01MACHINE", "log")
		}
		time.Sleep(time.Minute)
		if w.Last(t) != 0 {
			t.Errorf("got %d events, want 0", w.Last(t))
		}
		w.Refuse.Store(false)
		time.Sleep(time.Minute)
		if n := len(w.dataOf(t, "audit.diagnostics_read")); n != audit.PerHour {
			t.Errorf("%d events, want %d", n, audit.PerHour)
		}
	})
}

// A flood of notes for one account leaves room for another account, while both wait for the log.
func TestAuditOfAnotherAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2)
		a := commands.NewAudit(w.Log, slog.New(slog.DiscardHandler))
		for range 5000 {
			a.DiagnosticsRead("eve", "01MACHINE", "log")
		}
		a.LogInFailed("ada")
		go func() { _ = a.Run(t.Context()) }()
		time.Sleep(time.Minute)
		if n := len(w.dataOf(t, "audit.log_in_failed")); n != 1 {
			t.Errorf("%d of ada's events, want 1", n)
		}
		if n := len(w.dataOf(t, "audit.diagnostics_read")); n != audit.PerHour {
			t.Errorf("%d of eve's events, want %d", n, audit.PerHour)
		}
		a.DiagnosticsRead("bob", "01MACHINE", "log") // the written notes made room
		time.Sleep(time.Second)
		if n := len(w.dataOf(t, "audit.diagnostics_read")); n != audit.PerHour+1 {
			t.Errorf("%d events, want %d", n, audit.PerHour+1)
		}
	})
}
