package httpapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
)

func signUpCall(email, invite string) call {
	body := map[string]string{"email": email, "password": canary}
	if invite != "" {
		body["invite"] = invite
	}
	return call{method: "POST", path: "/api/auth/signup", body: body}
}

// TestSignUpSaysWhoMay asks in each mode who may sign up, as the page does, and then tries.
func TestSignUpSaysWhoMay(t *testing.T) {
	t.Parallel()
	for mode, want := range map[commands.SignUpMode]struct {
		status       int
		field, shown string
	}{"": {201, "", "open"}, commands.SignUpOpen: {201, "", "open"}, commands.SignUpInvite: {403, "invite", "invite"}, commands.SignUpClosed: {403, "", "closed"}} {
		t.Run("mode "+string(mode), func(t *testing.T) {
			t.Parallel()
			f := newFront(t, func(c *Config) { c.Accounts.Mode = mode })
			if got := f.want(200, call{method: "GET", path: "/api"}).field(t, "signup"); got != want.shown {
				t.Errorf("signup of GET /api: got %q, want %q", got, want.shown)
			}
			made, err := (&commands.Invites{Log: f.guard.Log, Blind: f.server.cfg.Accounts.Blind}).Create(t.Context(), "", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			wrong := "AAAAA-AAAAA-AAAAA-AAAAA-AAAAAA"
			for n, code := range []string{"", wrong} {
				a := f.want(want.status, signUpCall(fmt.Sprintf("u%d@example.com", n), code))
				if want.status == 403 && (a.field(t, "code") != "signup_closed" || a.field(t, "field") != want.field) {
					t.Errorf("with %q: got %s, want signup_closed with field %q", code, a.body, want.field)
				}
			}
			status := 201
			if mode == commands.SignUpClosed {
				status = 403
			}
			f.want(status, signUpCall("ada@example.com", made.Code))
			if mode == commands.SignUpInvite {
				used, bad := f.want(403, signUpCall("bob@example.com", made.Code)), f.want(403, signUpCall("bob@example.com", wrong))
				if used.field(t, "detail") != bad.field(t, "detail") || used.field(t, "field") != "invite" {
					t.Errorf("a used code: got %s, want the answer to an unknown one, %s", used.body, bad.body)
				}
			}
		})
	}
}

func TestGuessingCodesIsThrottledAsSignUpIs(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Accounts.Mode, c.Limits.SignUpAddress = commands.SignUpInvite, Rate{5, time.Hour}
	})
	for n := range 5 {
		f.want(403, signUpCall(fmt.Sprintf("u%d@example.com", n), "a guess"))
	}
	f.want(429, signUpCall("u6@example.com", "a guess"))
}
