package httpapi

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// bodies are valid request bodies.
var bodies = map[string]string{
	"createInstance": `{"name":"mine"}`, "renameInstance": `{"name":"renamed"}`, "issueTicket": `{"kind":"vnc"}`,
	"storeKey": `{"provider":"openai","api_key":"` + canary + `"}`, "replaceKey": `{"api_key":"` + canary + `"}`,
	"extendInstance": `{"minutes":60}`, "setInstanceIdlePolicy": `{"policy":null}`, "setAccountIdlePolicy": `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"sleep"}}`,
	"setBudget":      `{"scope":"account","day_micros":2000000,"month_micros":null}`,
	"createCheckout": `{"plan_type":"pro","success_url":"` + returnTo + `","cancel_url":"` + returnTo + `"}`, "openPortal": `{"return_url":"` + returnTo + `"}`,
	"createToken":    `{"name":"CI","scopes":["read"],"current_password":"` + canary + `"}`,
	"changePassword": `{"current_password":"` + canary + `","new_password":"` + canary + `2"}`,
}

// operation is one call of the document.
type operation struct {
	id, method, path string
	signedIn         bool
	object           bool // names an object of one account
	tag, scope       string
	socket           bool
}

func operations(t *testing.T, doc *openapi3.T) (all []operation) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		for method, op := range doc.Paths.Find(path).Operations() {
			all = append(all, operation{
				id: op.OperationID, method: method, path: path,
				signedIn: op.Security == nil || len(*op.Security) > 0, object: strings.Contains(path, "{"),
				tag: op.Tags[0], scope: scopeOf(op), socket: strings.HasPrefix(op.OperationID, "bridge"),
			})
		}
	}
	return all
}

// scopeOf returns an operation's x-scope, or "".
func scopeOf(op *openapi3.Operation) string {
	scope, _ := op.Extensions["x-scope"].(string)
	return scope
}

// estate holds the objects of one account, enough for every call to find something.
type estate struct {
	user
	instance, otherSession string
	apiToken               string // the id of a token with the scope read
}

func (f *front) estate(email string) estate {
	u := f.signUp(email)
	if p := f.server.cfg.Payments; p != nil {
		f.buy(u, p.Stripe.(*fakeStripe))
	}
	e := estate{user: u, instance: f.running(u, "secret name of "+email), otherSession: f.logIn(email).session}
	_, e.apiToken = f.apiToken(u, `["read"]`, "null")
	f.want(201, call{method: "POST", path: "/api/user/api-keys", token: u.access, body: `{"provider":"openai","api_key":"` + canary + `"}`})
	f.caughtUp()
	return e
}

func (o operation) call(e estate, token string) call {
	id := e.instance
	if strings.Contains(o.path, "sessions") {
		id = e.otherSession
	}
	if strings.Contains(o.path, "tokens") {
		id = e.apiToken
	}
	path := strings.NewReplacer("{id}", id, "{provider}", "openai", "{report}", "log", "{name}", "swagger.js").Replace(o.path)
	c := call{method: o.method, path: path, token: token}
	if b, ok := bodies[o.id]; ok {
		c.body = b
	}
	if o.socket {
		c.header = map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	}
	return c
}

// equipped returns a front that has what an operation needs.
func equipped(t *testing.T, op operation) *front {
	t.Helper()
	change := func(c *Config) {
		c.Diagnostics = &fakeGuest{body: "the log", kind: "text/plain"}
		c.Chats = fakeChats{savedText, c.Instances.Find}
		c.Limits.Password = Rate{100, time.Minute}
	}
	if op.tag == "payments" {
		change = withPlans(&fakeStripe{})
	}
	return newFront(t, change)
}

// eachSignedIn calls do for every operation of the document that needs an account.
func eachSignedIn(t *testing.T, do func(t *testing.T, f *front, op operation)) {
	t.Helper()
	for _, op := range operations(t, loadDocument(t)) {
		if op.signedIn {
			t.Run(op.id, func(t *testing.T) {
				t.Parallel()
				do(t, equipped(t, op), op)
			})
		}
	}
}

// TestTenancy calls every operation of the document as each kind of caller.
func TestTenancy(t *testing.T) {
	t.Parallel()
	eachSignedIn(t, func(t *testing.T, f *front, op operation) {
		ada, eve := f.estate("ada@example.com"), f.signUp("eve@example.com")
		revoked := f.logIn("ada@example.com")
		f.want(204, call{method: "POST", path: "/api/auth/logout", token: revoked.access})
		expired, _ := f.tokens.Access(ada.account, ada.session, f.clock.Now().Add(-time.Hour-time.Minute))
		// As after the restore of an older backup, these tokens are correctly signed.
		lost, _ := f.tokens.Access(f.server.cfg.NewID(), f.server.cfg.NewID(), f.clock.Now())
		lostSession, _ := f.tokens.Access(ada.account, f.server.cfg.NewID(), f.clock.Now())
		revokedToken, revokedID := f.apiToken(ada.user, `["read","desktops","chat","keys","admin"]`, "null")
		f.want(204, call{method: "DELETE", path: "/api/auth/tokens/" + revokedID, token: ada.access})
		liveToken, _ := f.apiToken(ada.user, `["read","desktops","chat","keys","admin"]`, "null")
		ticket, _, err := f.tickets.Issue(t.Context(), access.Ticket{Account: ada.account, Session: ada.session, Instance: ada.instance, Kind: access.KindVNC, Mode: access.ModeControl})
		if err != nil {
			t.Fatal(err)
		}
		f.caughtUp()
		before := f.head()

		for who, token := range map[string]string{
			"anonymous": "", "revoked": revoked.access, "expired": expired, "garbage": "e30.e30", "forged": ada.access + "x",
			"refresh token": ada.refresh, "ticket": ticket, "account not in the log": lost, "session not in the log": lostSession, "too long": strings.Repeat("a", maxToken+1),
			"revoked API token": revokedToken, "forged API token": liveToken[:len(liveToken)-20] + "1" + liveToken[len(liveToken)-19:], "cut API token": liveToken[:len(liveToken)-1],
			"unknown leaf": f.tokens.Refresh(ada.account, ada.session, session.Leaf{}),
		} {
			a := f.do(op.call(ada, token))
			if a.status != 401 || a.header.Get("WWW-Authenticate") == "" || a.field(t, "code") != "unauthenticated" {
				t.Errorf("%s: got %d %s, want 401 unauthenticated", who, a.status, a.body)
			}
		}
		if op.object {
			if a := f.do(op.call(ada, eve.access)); a.status != 404 {
				t.Errorf("another tenant: got %d %s, want 404", a.status, a.body)
			}
		}
		if now := f.head(); now != before {
			t.Errorf("events of refused requests: got %d, want 0", now-before)
		}
		if !op.object {
			a := f.do(op.call(ada, eve.access)) // if it needs a plan, it is refused, and that says nothing of ada's
			for _, theirs := range []string{ada.instance, ada.session, ada.apiToken, ada.account, "ada@", "secret name", "CB-1", "portal.example"} {
				if bytes.Contains(a.body, []byte(theirs)) {
					t.Errorf("another tenant: got %s, want nothing of %q", a.body, theirs)
				}
			}
		}
		if a := f.do(op.call(ada, ada.access)); a.status >= 400 && (op.id != "createCheckout" || a.field(t, "code") != "already_subscribed") {
			t.Errorf("the owner: got %d %s, want a status below 400", a.status, a.body)
		}
		if strings.Contains(f.log.String(), canary) {
			t.Error("server's log: got a secret, want none")
		}
	})
}
