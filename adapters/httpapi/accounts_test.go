package httpapi

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func login(email, password string) call {
	return call{method: "POST", path: "/api/auth/login", body: map[string]string{"email": email, "password": password}}
}

func TestAccountLife(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("Ada@Example.com")
	f.want(409, call{method: "POST", path: "/api/auth/signup", body: map[string]string{"email": "ada@example.com", "password": canary}})
	f.want(422, call{method: "POST", path: "/api/auth/signup", body: map[string]string{"email": "eve@example.com", "password": "short"}})

	me := f.want(200, call{method: "GET", path: "/api/auth/me/", token: ada.access})
	if got := me.field(t, "email"); got != "ada@example.com" {
		t.Errorf("email: got %q, want %q", got, "ada@example.com")
	}

	unknown, wrong := f.want(401, login("unknown@example.com", canary)), f.want(401, login("ada@example.com", "wrong password"))
	if unknown.field(t, "detail") != wrong.field(t, "detail") || unknown.field(t, "code") != wrong.field(t, "code") {
		t.Errorf("answer to an unknown address: got %s, want the one to a wrong password, %s", unknown.body, wrong.body)
	}

	second := f.logIn("ada@example.com")
	f.caughtUp()
	var list struct{ Sessions []sessionView }
	f.want(200, call{method: "GET", path: "/api/auth/sessions", token: second.access}).into(t, &list)
	if len(list.Sessions) != 2 {
		t.Fatalf("%d sessions, want 2", len(list.Sessions))
	}
	for _, s := range list.Sessions {
		if s.Current != (s.ID == second.session) {
			t.Errorf("session %s: got current %v, want %v", s.ID, s.Current, s.ID == second.session)
		}
	}

	f.want(204, call{method: "DELETE", path: "/api/auth/sessions/" + ada.session, token: second.access})
	f.want(401, call{method: "GET", path: "/api/auth/me", token: ada.access})
	f.want(401, call{method: "POST", path: "/api/auth/refresh", body: map[string]string{"refresh_token": ada.refresh}})
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: second.access})
	f.want(401, call{method: "GET", path: "/api/auth/me", token: second.access})
}

func TestRefreshRotatesAndReuseEndsTheSession(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	refresh := func(token string) call {
		return call{method: "POST", path: "/api/auth/refresh", body: map[string]string{"refresh_token": token}}
	}
	first := f.user(ada.email, f.want(200, refresh(ada.refresh)))
	// A parallel tab gets the same leaf.
	if again := f.user(ada.email, f.want(200, refresh(ada.refresh))); again.refresh != first.refresh {
		t.Errorf("refresh token of a repeated refresh: got another one, want the first")
	}
	f.clock.advance(10 * time.Second)
	f.want(200, call{method: "GET", path: "/api/auth/me", token: first.access})
	f.want(401, refresh(ada.refresh))
	f.want(401, refresh(first.refresh))
	f.want(401, call{method: "GET", path: "/api/auth/me", token: first.access})
	f.want(401, refresh("nonsense"))
	f.want(401, refresh(first.access))
	f.want(401, refresh(strings.Repeat("x", maxToken+1)))
}

func TestPasswordChangeEndsTheOtherSessions(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	var others []user
	for range 12 {
		f.clock.advance(time.Hour / 2) // so that the throttle does not matter
		others = append(others, f.logIn("ada@example.com"))
	}
	here := f.logIn("ada@example.com")
	change := func(current, next string) call {
		return call{method: "POST", path: "/api/auth/password", token: here.access, body: map[string]string{"current_password": current, "new_password": next}}
	}
	f.want(403, change("wrong password", "a new password"))
	f.want(422, change(canary, "short"))
	f.want(200, call{method: "GET", path: "/api/auth/me", token: others[11].access})
	f.want(204, change(canary, "a new password"))
	f.want(200, call{method: "GET", path: "/api/auth/me", token: here.access})
	for _, o := range append(others, ada) {
		if !f.server.sessions.IsRevoked(o.session) {
			t.Errorf("session %s: got a live session, want a revoked one", o.session)
		}
		f.want(401, call{method: "GET", path: "/api/auth/me", token: o.access})
	}
	f.want(401, login("ada@example.com", canary))
	f.want(200, login("ada@example.com", "a new password"))
}

func TestLogInIsThrottledByAccountHoweverItIsSpelt(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.LoginAccount = Rate{3, time.Minute} })
	f.signUp("ada@example.com")
	for _, spelling := range []string{"ada@example.com", "ADA@example.com ", "ａｄａ@example.com"} {
		f.want(401, login(spelling, "wrong password"))
	}
	a := f.want(429, login(" Ada@EXAMPLE.com", canary))
	if a.header.Get("Retry-After") == "" || a.header.Get("Retry-After") == "0" {
		t.Errorf("Retry-After: got %q, want a number above 0", a.header.Get("Retry-After"))
	}
	f.want(401, login("bob@example.com", "wrong password")) // other accounts are not affected
	f.clock.advance(2 * time.Minute)
	f.want(200, login("ada@example.com", canary))
}

func TestLogInIsThrottledByAddress(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Limits.LoginAddress = Rate{2, time.Minute}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	from := func(forwarded string) call {
		c := login("unknown@example.com", "wrong password")
		c.header = map[string]string{"X-Forwarded-For": forwarded}
		return c
	}
	f.want(401, from("198.51.100.1"))
	f.want(401, from("6.6.6.6, 198.51.100.1")) // the part that the client wrote does not count
	f.want(429, from("7.7.7.7, 198.51.100.1"))
	f.want(401, from("198.51.100.2"))
}

func TestUntrustedForwardedForIsIgnored(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.LoginAddress = Rate{1, time.Minute} })
	c := login("unknown@example.com", "wrong password")
	f.want(401, c)
	c.header = map[string]string{"X-Forwarded-For": "198.51.100.7", "X-Real-Ip": "198.51.100.7", "Forwarded": "for=198.51.100.7"}
	f.want(429, c)
}

func TestSessionsEndedBeforeTheStartAreRefused(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
	g := newFront(t, func(c *Config) { c.Queries, c.Accounts.Log.Store = readModel{f.store, f.clock.Now, f.books}, f.store })
	g.want(200, call{method: "GET", path: "/api/instances", token: ada.access}) // signed with the same key: only Revocations can tell them apart
	if err := g.server.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.want(401, call{method: "GET", path: "/api/instances", token: ada.access})
}

func TestMeIsNeverAnotherUser(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, bob := f.signUp("ada@example.com"), f.signUp("bob@example.com")
	var a, b map[string]string
	if err := json.Unmarshal(f.want(200, call{method: "GET", path: "/api/auth/me", token: ada.access}).body, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(f.want(200, call{method: "GET", path: "/api/auth/me", token: bob.access}).body, &b); err != nil {
		t.Fatal(err)
	}
	if a["email"] != "ada@example.com" || b["email"] != "bob@example.com" {
		t.Errorf("accounts: got %v and %v, want ada's and bob's", a, b)
	}
}

// TestRefreshesOfAnAddress has one client keep sending invalid tokens; other clients behind its address can still
// refresh.
func TestRefreshesOfAnAddress(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Limits.Refresh, c.Limits.RefreshSession = Rate{20, time.Minute}, Rate{5, time.Minute}
	})
	ada, dead := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: dead.access})
	refresh := func(token string) call {
		return call{method: "POST", path: "/api/auth/refresh", body: map[string]string{"refresh_token": token}}
	}
	for range 30 {
		f.want(401, refresh("made up"))
	}
	for n := range 30 {
		if a := f.do(refresh(dead.refresh)); a.status != 401 && (n < 5 || a.status != 429) {
			t.Fatalf("try %d: got status %d, want 401, or 429 after the fifth", n, a.status)
		}
	}
	f.want(200, refresh(ada.refresh))
}
