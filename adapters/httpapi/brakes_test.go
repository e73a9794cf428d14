package httpapi

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/fair"
)

// TestBrakesHaveABudgetOfTheirOwn uses up an account's budget of writes, and sends more brakes without an effect
// than its budget of brakes.
func TestBrakesHaveABudgetOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Limits.Write, c.Limits.Create = Rate{8, time.Minute}, Rate{100, time.Minute}
		c.Limits.Brake = Rate{5, time.Minute}
	})
	ada := f.signUp("ada@example.com")
	other, third := f.logIn("ada@example.com"), f.logIn("ada@example.com")
	one, two := f.running(ada, "one"), f.running(ada, "two")
	rename := call{method: "PATCH", path: "/api/instances/" + one, token: ada.access, body: `{"name":"again"}`}
	for f.do(rename).status == 200 {
	}
	f.want(429, rename)
	stop := call{method: "POST", path: "/api/instances/" + one + "/stop", token: ada.access}
	end := call{method: "DELETE", path: "/api/instances/" + two, token: ada.access}
	revoke := call{method: "DELETE", path: "/api/auth/sessions/" + other.session, token: ada.access}
	for range 6 { // one effect each
		f.want(202, stop)
		f.want(202, end)
		f.want(204, revoke)
	}
	for range 3 { // a repeated key has no second effect
		keyed := call{method: "DELETE", path: "/api/instances/" + one, token: ada.access, header: map[string]string{"Idempotency-Key": "k"}}
		f.want(202, keyed)
	}
	f.want(204, call{method: "DELETE", path: "/api/auth/sessions/" + third.session, token: ada.access})
	// After five effects the budget is used up; only brakes use it.
	f.want(429, stop)
	f.clock.advance(2 * time.Minute)
	f.want(200, rename)
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
}

// TestBrakesHaveRequestsOfTheirOwn keeps all of an account's requests in flight busy.
func TestBrakesHaveRequestsOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.InFlight = 2 })
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "one")
	for range 2 {
		leave, _ := f.server.inFlight.Take(fair.Claim{Key: ada.account, Max: 2})
		defer leave()
	}
	f.want(429, call{method: "GET", path: "/api/auth/me", token: ada.access})
	f.want(202, call{method: "POST", path: "/api/instances/" + id + "/stop", token: ada.access})
	f.want(202, call{method: "DELETE", path: "/api/instances/" + id, token: ada.access})
	f.want(204, call{method: "POST", path: "/api/auth/logout", token: ada.access})
}
