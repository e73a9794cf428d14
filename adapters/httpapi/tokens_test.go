package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// apiToken makes an API token with scopes and desktops, both in JSON, and returns its text and id.
func (f *front) apiToken(u user, scopes, desktops string) (text, id string) {
	f.t.Helper()
	a := f.want(201, call{method: "POST", path: "/api/auth/tokens", token: u.access,
		body: fmt.Sprintf(`{"name":"CI","scopes":%s,"desktops":%s,"current_password":%q}`, scopes, desktops, canary)})
	return a.field(f.t, "token"), a.field(f.t, "id")
}

// scopesOf returns the scopes that let an API token do what op.call asks for.
func scopesOf(op operation) []token.Scope {
	switch op.id {
	case "issueTicket", "bridgeVNC": // control
		return []token.Scope{token.Desktops}
	case "bridgeAgent":
		return []token.Scope{token.Chat}
	}
	switch op.scope {
	case "":
		return nil
	case "any":
		return token.Scopes
	}
	return []token.Scope{token.Scope(op.scope)}
}

// TestScopes calls every operation of the document with an API token of each scope, and with tokens of certain desktops.
func TestScopes(t *testing.T) {
	t.Parallel()
	eachSignedIn(t, func(t *testing.T, f *front, op operation) {
		ada := f.estate("ada@example.com")
		other := f.running(ada.user, "other")
		good := scopesOf(op)
		tokens := map[token.Scope]string{}
		for _, scope := range token.Scopes {
			tokens[scope], _ = f.apiToken(ada.user, fmt.Sprintf("[%q]", scope), "null")
		}
		ofOther, _ := f.apiToken(ada.user, `["read","desktops","chat"]`, fmt.Sprintf("[%q]", other))
		ofThis, _ := f.apiToken(ada.user, `["read","desktops","chat"]`, fmt.Sprintf("[%q]", ada.instance))
		for _, text := range append(slices.Collect(mapValues(tokens)), ofOther, ofThis) {
			f.want(200, call{method: "GET", path: "/api/auth/me", token: text}) // its first use is an event
		}
		f.caughtUp()
		before := f.head()
		for _, scope := range token.Scopes {
			if slices.Contains(good, scope) {
				continue
			}
			a := f.do(op.call(ada, tokens[scope]))
			if want := refusalOf(op); a.status != 403 || a.field(t, "code") != want {
				t.Errorf("scope %s: got %d %s, want 403 %s", scope, a.status, a.body, want)
			}
		}
		ofDesktop := strings.HasPrefix(op.path, "/api/instances/{id}")
		wide := ofDesktop || slices.Contains(ofDesktops, op.method+" "+op.path)
		narrow := good != nil && slices.ContainsFunc(good, func(s token.Scope) bool { return s != token.Keys && s != token.Admin })
		switch a := f.do(op.call(ada, ofOther)); {
		case !narrow, !wide:
			if a.status != 403 {
				t.Errorf("a token of certain desktops: got %d %s, want 403", a.status, a.body)
			}
		case ofDesktop:
			if a.status != 404 {
				t.Errorf("a token of another desktop: got %d %s, want 404", a.status, a.body)
			}
		case a.status >= 400 || strings.Contains(string(a.body), ada.instance):
			t.Errorf("a token of another desktop: got %d %s, want nothing of %s", a.status, a.body, ada.instance)
		}
		if now := f.head(); now != before {
			t.Errorf("events of refused requests: got %d, want 0", now-before)
		}
		if narrow && wide {
			if a := f.do(op.call(ada, ofThis)); a.status >= 400 {
				t.Errorf("a token of this desktop: got %d %s, want a status below 400", a.status, a.body)
			}
			if op.method == http.MethodDelete {
				return
			}
		}
		for _, scope := range good {
			if a := f.do(op.call(ada, tokens[scope])); a.status >= 400 && a.field(t, "code") != "already_subscribed" {
				t.Errorf("scope %s: got %d %s, want a status below 400", scope, a.status, a.body)
			}
		}
	})
}

func refusalOf(op operation) string {
	if op.scope == "" {
		return errNeedsLogIn.code
	}
	return "missing_scope"
}

func mapValues(m map[token.Scope]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// TestDocumentSaysTheScopes compares x-scope of the document with the routes.
func TestDocumentSaysTheScopes(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	said := map[string]string{}
	for _, op := range operations(t, loadDocument(t)) {
		said[op.method+" "+op.path] = op.scope
	}
	for _, r := range f.server.routes() {
		path := routeParam.ReplaceAllString(r.path, "{$1}")
		if want, got := string(r.scope), said[r.method+" "+path]; got != want {
			t.Errorf("%s %s: the document says %q, want %q", r.method, path, got, want)
		}
	}
}

// TestTokensAreListedAndRevoked follows one token from its creation to its end.
func TestTokensAreListedAndRevoked(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.TicketLife = 48 * time.Hour })
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	made := f.want(201, call{method: "POST", path: "/api/auth/tokens", token: ada.access, body: `{"name":" nightly ","scopes":["chat","read"],"expires_in_days":1,"current_password":"` + canary + `"}`})
	text, tokenID := made.field(t, "token"), made.field(t, "id")
	list := call{method: "GET", path: "/api/auth/tokens", token: ada.access}
	if a := f.want(200, list); strings.Contains(string(a.body), text) || !strings.Contains(string(a.body), `"name":"nightly","scopes":["read","chat"],"desktops":null`) ||
		!strings.Contains(string(a.body), `"used_at":null`) || !strings.Contains(string(a.body), `"expired":false`) {
		t.Errorf("got %s, want the token without its text", a.body)
	}
	f.want(200, call{method: "GET", path: "/api/instances/" + id, token: text})
	if a := f.want(200, list); strings.Contains(string(a.body), `"used_at":null`) {
		t.Errorf("got %s, want when it was used", a.body)
	}
	if strings.Contains(f.log.String(), text) {
		t.Error("server's log: got a token, want none")
	}
	stream := f.stream(t, text, "/api/events", "")
	stream.block()
	conn, _ := f.dial(t, "/api/instances/"+id+"/cloudbot", nil, map[string]string{"Authorization": "Bearer " + text})
	if conn == nil {
		t.Fatal("got no bridge with the token, want one")
	}
	b, _ := f.bridges.last()
	if b.SessionID != access.TokenSession(tokenID) || !b.ExpiresAt.After(f.clock.Now()) {
		t.Errorf("got %+v, want a bridge of the token", b)
	}
	ticket := f.want(201, call{method: "POST", path: "/api/instances/" + id + "/tickets", token: text, body: `{"kind":"cloudbot"}`}).field(t, "ticket")
	spare := f.want(201, call{method: "POST", path: "/api/instances/" + id + "/tickets", token: text, body: `{"kind":"cloudbot"}`}).field(t, "ticket")
	if conn, res := f.dial(t, "/api/instances/"+id+"/cloudbot", []string{"binary", "ticket." + ticket}, map[string]string{"Origin": ours}); conn == nil {
		t.Fatalf("got %d for a ticket of the token, want a bridge", res.StatusCode)
	}
	if b, _ := f.bridges.last(); b.ExpiresAt.After(f.clock.Now().Add(24 * time.Hour)) {
		t.Errorf("got a bridge until %v, want none that outlives its token", b.ExpiresAt)
	}

	if err := f.server.LogChanged(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.Revoked:
		t.Error("got a bridge closed although the log still has its token, want it open")
	default:
	}
	f.want(204, call{method: "DELETE", path: "/api/auth/tokens/" + tokenID, token: ada.access})
	for ok := true; ok; {
		_, ok = stream.block() // it ends
	}
	select {
	case <-b.Revoked:
	case <-time.After(60 * time.Second):
		t.Error("got the bridge of a revoked token open, want it closed")
	}
	f.want(401, call{method: "GET", path: "/api/instances/" + id, token: text})
	if conn, _ := f.dial(t, "/api/instances/"+id+"/cloudbot", []string{"binary", "ticket." + spare}, map[string]string{"Origin": ours}); conn != nil {
		t.Error("got a bridge for a ticket of a revoked token, want none")
	}
	f.want(404, call{method: "DELETE", path: "/api/auth/tokens/" + tokenID, token: ada.access})
	if a := f.want(200, list); strings.Contains(string(a.body), tokenID) {
		t.Errorf("got %s, want no token", a.body)
	}
}

// TestATokenExpires checks that neither the token nor a ticket of it outlives its days.
func TestATokenExpires(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	text := f.want(201, call{method: "POST", path: "/api/auth/tokens", token: ada.access, body: `{"name":"x","scopes":["read"],"expires_in_days":1,"current_password":"` + canary + `"}`}).field(t, "token")
	me := call{method: "GET", path: "/api/auth/me", token: text}
	f.clock.advance(24*time.Hour - time.Second)
	f.want(200, me)
	f.clock.advance(time.Second)
	f.want(401, me)
}

// TestBadTokens sends requests for tokens that cannot be made.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.Password = Rate{100, time.Minute} })
	ada := f.signUp("ada@example.com")
	for body, want := range map[string]string{
		`{"name":"x","scopes":[],"current_password":"` + canary + `"}`:                                            "invalid_scopes",
		`{"name":"x","scopes":["root"],"current_password":"` + canary + `"}`:                                      "invalid_scopes",
		`{"name":"x","scopes":["read","read"],"current_password":"` + canary + `"}`:                               "invalid_scopes",
		`{"name":"x","scopes":"read","current_password":"` + canary + `"}`:                                        "wrong_type",
		`{"name":"x","scopes":[1],"current_password":"` + canary + `"}`:                                           "wrong_type",
		`{"name":"x","scopes":[["read"]],"current_password":"` + canary + `"}`:                                    "wrong_type",
		`{"name":"x","scopes":["read"],"desktops":[],"current_password":"` + canary + `"}`:                        "invalid_desktops",
		`{"name":"x","scopes":["read"],"desktops":["x"],"current_password":"` + canary + `"}`:                     "invalid_desktops",
		`{"name":"x","scopes":["read"],"expires_in_days":0,"current_password":"` + canary + `"}`:                  "invalid_expiry",
		`{"name":"x","scopes":["read"],"expires_in_days":367,"current_password":"` + canary + `"}`:                "invalid_expiry",
		`{"name":"x","scopes":["read"],"expires_in_days":9e9,"current_password":"` + canary + `"}`:                "wrong_type",
		`{"name":"","scopes":["read"],"current_password":"` + canary + `"}`:                                       "invalid_name",
		`{"name":"x","scopes":["read"],"current_password":"wrong"}`:                                               "wrong_password",
		`{"name":"x","scopes":["read"]}`:                                                                          "missing_field",
		`{"name":"x","scopes":[` + strings.Repeat(`"read",`, 70) + `"read"],"current_password":"` + canary + `"}`: "too_many_fields",
	} {
		a := f.do(call{method: "POST", path: "/api/auth/tokens", token: ada.access, body: body})
		if a.status < 400 || a.field(t, "code") != want {
			t.Errorf("%s: got %d %s, want %s", body, a.status, a.body, want)
		}
	}
}
