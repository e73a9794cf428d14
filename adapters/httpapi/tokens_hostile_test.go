package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// TestATokenStoresKeysOnlyWithTheirScope sends API keys with the request for a desktop.
func TestATokenStoresKeysOnlyWithTheirScope(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.Password = Rate{100, time.Minute} })
	ada := f.signUp("ada@example.com")
	desktops, _ := f.apiToken(ada, `["desktops"]`, "null")
	both, _ := f.apiToken(ada, `["desktops","keys"]`, "null")
	keys := call{method: "POST", path: "/api/instances", token: desktops, body: `{"api_keys":{"openai":"` + canary + `"}}`}
	f.want(404, call{method: "GET", path: "/api/instances/01J00000000000000000000000", token: ada.access})
	f.do(call{method: "GET", path: "/api/auth/me", token: desktops}) // its first use is an event
	before := f.head()
	if a := f.want(403, keys); a.field(t, "code") != "missing_scope" || f.head() != before {
		t.Errorf("got %s and %d events, want missing_scope and none", a.body, f.head()-before)
	}
	keys.token = both
	f.want(202, keys)
	f.want(202, call{method: "POST", path: "/api/instances", token: desktops, body: `{"api_keys":{}}`})
}

// TestARevokedTokenOpensNothingLater revokes a token after a request has read the log, and before it watches for the end of
// its token.
func TestARevokedTokenOpensNothingLater(t *testing.T) {
	t.Parallel()
	r := newRevocations(time.Minute, time.Now)
	r.CloseTokens("ada", "one")
	for token, want := range map[string]bool{"one": true, "two": false} {
		over, release := r.Watch(0, access.TokenSession(token), "ada")
		defer release()
		select {
		case <-over:
			if !want {
				t.Errorf("token %s: got closed, want open", token)
			}
		default:
			if want {
				t.Errorf("token %s: got open, want closed", token)
			}
		}
	}
	over, release := r.Watch(0, access.TokenSession("two"), "ada")
	defer release()
	session, release := r.Watch(0, "session", "ada")
	defer release()
	r.CloseTokens("ada", "") // an event that cannot be read
	<-over
	select {
	case <-session:
		t.Error("a log-in: got closed, want open")
	default:
	}
}

// TestTokensOfASuspendedAccount checks that they are refused while the suspension holds.
func TestTokensOfASuspendedAccount(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	text, _ := f.apiToken(ada, `["read","admin"]`, "null")
	list := call{method: "GET", path: "/api/instances", token: text}
	f.want(200, list)
	stream := f.stream(t, text, "/api/events", "")
	stream.block()
	f.server.Sessions().Suspended(ada.account, 1000, true)
	for ok := true; ok; {
		_, ok = stream.block() // it ends
	}
	f.want(401, list)
	f.server.Sessions().Suspended(ada.account, 1001, false)
	f.want(200, list)
}

// TestAPreviewOfABridgeNeedsWhatTheBridgeNeeds asks with each token what an upgrade would get.
func TestAPreviewOfABridgeNeedsWhatTheBridgeNeeds(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	read, _ := f.apiToken(ada, `["read"]`, "null")
	desktops, _ := f.apiToken(ada, `["desktops"]`, "null")
	for _, c := range []struct {
		token, query string
		want         int
	}{{read, "", 403}, {read, "?mode=view", 426}, {desktops, "", 426}, {desktops, "?mode=view", 403}} {
		if a := f.do(call{method: "GET", path: "/api/instances/" + id + "/vnc" + c.query, token: c.token}); a.status != c.want {
			t.Errorf("%q: got %d %s, want %d", c.query, a.status, a.body, c.want)
		}
	}
}

// TestTokensHaveRequestsOfTheirOwn keeps all requests in progress of an account's tokens busy.
func TestTokensHaveRequestsOfTheirOwn(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.InFlight = 2 })
	ada := f.signUp("ada@example.com")
	text, id := f.apiToken(ada, `["read","desktops"]`, "null")
	for _, places := range []*fair.Places{f.server.inFlight, f.server.braking} {
		for range 2 {
			leave, _ := places.Take(fair.Claim{Key: share(access.Claims{Account: ada.account, Grant: &access.Grant{}}), Max: 2})
			defer leave()
		}
	}
	f.want(429, call{method: "GET", path: "/api/auth/me", token: text})
	f.want(200, call{method: "GET", path: "/api/auth/tokens", token: ada.access})
	f.want(204, call{method: "DELETE", path: "/api/auth/tokens/" + id, token: ada.access})
}

// TestATokenOfADesktopSharesNoAnswer asks for lists and repeats commands within one second, as the owner and with a token of
// one desktop.
func TestATokenOfADesktopSharesNoAnswer(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	mine, other := f.running(ada, "mine"), f.running(ada, "other")
	text, _ := f.apiToken(ada, `["read","desktops"]`, `["`+mine+`"]`)
	f.caughtUp()
	for _, path := range []string{"/api/instances", "/api/instances/", "/api/instances?include=terminated", "/api/instances?limit=1"} {
		for _, token := range []string{ada.access, text, ada.access, text} {
			a := f.want(200, call{method: "GET", path: path, token: token})
			if all := strings.Contains(string(a.body), other); all != (token == ada.access) {
				t.Errorf("%s: got %s, want the other desktop only for its owner", path, a.body)
			}
		}
	}
	for _, c := range []call{
		{method: http.MethodHead, path: "/api/instances/" + other}, {method: "GET", path: "/api/instances/" + other + "/"},
		{method: "GET", path: "/api/instances/" + other + "/history"}, {method: "GET", path: "/api/instances/" + other + "/boot"},
		{method: "POST", path: "/api/instances/" + other + "/tickets", body: `{"kind":"vnc"}`},
	} {
		c.token = text
		f.want(404, c)
	}
	for _, path := range []string{"/api/usage", "/api/usage.csv", "/api/budgets", "/api/user/idle-policy", "/api/auth/history"} {
		for _, method := range []string{"GET", "HEAD"} {
			f.want(403, call{method: method, path: path, token: text})
		}
	}
	// A repeated key replays only what the token could ask for itself.
	keyed := map[string]string{"Idempotency-Key": "k"}
	stop := call{method: "POST", path: "/api/instances/" + other + "/stop", token: ada.access, header: keyed}
	f.want(202, stop)
	stop.token = text
	f.want(404, stop)
	stop.path = "/api/instances/" + mine + "/stop"
	if a := f.want(422, stop); a.field(t, "code") != "idempotency_key_reused" {
		t.Errorf("got %s, want idempotency_key_reused", a.body)
	}
}

// TestDamagedTokens damages the tokens of one account. They are refused, and nothing else is, nor is any other account.
func TestDamagedTokens(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	text, id := f.apiToken(ada, `["read"]`, "null")
	hers, _ := f.apiToken(eve, `["read"]`, "null")
	list := call{method: "GET", path: "/api/instances", token: text}
	f.want(200, list)
	stream, other := f.stream(t, text, "/api/events", ""), f.stream(t, hers, "/api/events", "")
	stream.block()
	other.block()
	tokens := eventstore.StreamID{Aggregate: "token", ID: ada.account}
	version, err := f.store.Version(t.Context(), tokens)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: tokens, Expected: version, Events: []eventstore.NewEvent{{
		ID: "01X", Type: "token.from_the_future", Schema: 9, Time: time.Now(), Data: json.RawMessage(`{}`),
	}}}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.server.LogChanged(t.Context()); err != nil {
		t.Fatalf("got %v, want the other sessions looked up", err)
	}
	for ok := true; ok; {
		_, ok = stream.block() // it ends
	}
	for _, c := range []call{
		list, {method: "GET", path: "/api/auth/tokens", token: ada.access}, {method: "DELETE", path: "/api/auth/tokens/" + id, token: ada.access},
	} {
		if a := f.want(409, c); a.field(t, "code") != "stream_damaged" {
			t.Errorf("%s %s: got %s, want stream_damaged", c.method, c.path, a.body)
		}
	}
	f.logIn("ada@example.com")
	f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`})
	f.create(eve, "x")
	if id, name, _ := other.event(); id == "" || name != "instance.requested" {
		t.Errorf("the other account's stream: got %s %s, want instance.requested", id, name)
	}
}
