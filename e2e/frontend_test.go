package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// replayed are the calls of the original's frontend, and of its Stripe, in the order of a visit.
var replayed = []string{
	"POST /api/auth/signup", "POST /api/auth/login", "POST /api/auth/refresh", "GET /api/auth/me", "POST /api/user/api-keys",
	"GET /api/payments/config", "POST /api/payments/create-checkout", "POST /api/payments/webhook", "GET /api/payments/subscription",
	"POST /api/instances", "GET /api/instances", "GET /api/instances/{id}",
	"WS /api/instances/{id}/vnc?token=<access token>", "WS /api/instances/{id}/cloudbot?token=<access token>",
	"DELETE /api/instances/{id}", "POST /api/payments/cancel",
}

// recorded is a call of the original's frontend, with the fields that its code reads of the answer.
type recorded struct {
	Method, Path string
	Body         json.RawMessage
	Auth         *bool
	Reads        []string
}

// TestTheOriginalsFrontend makes the calls that the original's frontend makes, in the way it makes them, from a page of
// another origin. What it reads must be there. After one 401 it refreshes once and repeats the call. Its user pays for a plan
// on the page of a small Stripe, which tells the server.
func TestTheOriginalsFrontend(t *testing.T) {
	t.Parallel()
	var file struct{ Calls []recorded }
	text, err := os.ReadFile("testdata/frontend-calls.json")
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]recorded{}
	for _, c := range file.Calls {
		name := c.Method + " " + c.Path
		if calls[name] = c; !slices.Contains(replayed, name) {
			t.Errorf("%s: it is not replayed", name)
		}
	}
	const page = "https://frontend.example.com"
	s := newServer(t, "CORS_ORIGINS="+page)
	stripe, settings := startStripe(t, s)
	s.env = append(s.env, settings...)
	s.start()
	f := &frontend{client: &client{t: t, base: s.URL, origin: page}, email: "you@example.com", stripe: stripe}
	for _, name := range replayed {
		c, ok := calls[name]
		if !ok {
			t.Fatalf("%s: it is not in the file", name)
		}
		switch {
		case c.Method == "WS":
			f.socket(c)
			continue
		case strings.HasSuffix(c.Path, "/webhook"):
			f.pays(c)
			continue
		}
		for _, slash := range []string{"", "/"} {
			f.replay(c, slash)
		}
	}
	if f.refreshed == 0 {
		t.Error("no call was refused with 401 and repeated, want some")
	}
	// What the frontend shows elsewhere.
	about := f.must(http.StatusOK, "GET", "/api", "")
	f.reads("GET /api", about, []string{"name", "version", "docs", "openapi", "health"})
	keys := f.must(http.StatusOK, "GET", "/api/user/api-keys/", "")
	if got := keys.field("providers"); got != "[anthropic]" {
		t.Errorf("stored keys: got %s, want anthropic", got)
	}
	if strings.Contains(s.out.tail(1<<20), f.token) {
		t.Error("got the access token of a socket's URL in the server's log, want none")
	}
}

// frontend is the original's client code.
type frontend struct {
	*client
	email     string
	refresh   string
	id        string
	refreshed int

	stripe   *stripetest.Server
	checkout string // the session of the page on which the user pays
}

// body returns the call's body with usable values in place of the file's placeholders.
func (f *frontend) body(c recorded) string {
	return strings.NewReplacer("sk-ant-…", "sk-ant-0123456789", "you@example.com", f.email, `"…"`, fmt.Sprintf("%q", f.refresh), "https://…", f.origin+"/plan").
		Replace(string(c.Body))
}

// send sends a call, and again with a new token if the first answer is 401.
func (f *frontend) send(c recorded, slash string) answer {
	f.t.Helper()
	path := strings.Replace(c.Path, "{id}", f.id, 1) + slash
	signedIn := f.token != "" && (c.Auth == nil || *c.Auth) && !strings.HasPrefix(c.Path, "/api/auth/") || c.Path == "/api/auth/me"
	if good := f.token; signedIn { // its token has expired
		f.token = good[:len(good)-4] + "AAAA"
	} else {
		f.token = ""
		defer func() {
			if f.token == "" {
				f.token = good
			}
		}()
	}
	a := f.do(c.Method, path, f.body(c), "Origin", f.origin)
	if signedIn {
		if a.status != http.StatusUnauthorized || a.header.Get("Access-Control-Allow-Origin") != f.origin {
			f.t.Fatalf("%s %s with an expired token: got %d, want a 401 that the page may read", c.Method, path, a.status)
		}
		f.token = ""
		pair := f.must(http.StatusOK, "POST", "/api/auth/refresh", fmt.Sprintf(`{"refresh_token":%q}`, f.refresh))
		f.token, f.refresh = pair.field("access_token"), pair.field("refresh_token")
		f.refreshed++
		a = f.do(c.Method, path, f.body(c), "Origin", f.origin)
	}
	if a.status/100 != 2 || a.header.Get("Access-Control-Allow-Origin") != f.origin {
		f.t.Fatalf("%s %s: got %d %s, want success that the page may read", c.Method, path, a.status, a.body)
	}
	return a
}

func (f *frontend) replay(c recorded, slash string) {
	f.t.Helper()
	name := c.Method + " " + c.Path + slash
	if c.Path == "/api/auth/signup" {
		f.email = "you" + strings.Replace(slash, "/", "2", 1) + "@example.com"
	}
	a := f.send(c, slash)
	f.reads(name, a, c.Reads)
	switch c.Method + " " + c.Path {
	case "POST /api/auth/signup", "POST /api/auth/login", "POST /api/auth/refresh":
		f.token, f.refresh = a.field("access_token"), a.field("refresh_token")
		if kind := a.field("token_type"); kind != "bearer" {
			f.t.Errorf("%s: got token_type %q, want bearer", name, kind)
		}
	case "GET /api/auth/me":
		if a.field("email") != f.email {
			f.t.Errorf("%s: got %s, want %s", name, a.body, f.email)
		}
	case "GET /api/payments/config":
		if a.field("configured") != "true" || a.field("dev_mode") != "false" || a.field("publishable_key") != stripetest.DefaultPublishable {
			f.t.Errorf("%s: got %s, want it configured", name, a.body)
		}
	case "POST /api/payments/create-checkout":
		if f.checkout = a.field("session_id"); !strings.Contains(a.field("checkout_url"), f.checkout) {
			f.t.Errorf("%s: got %s, want a page", name, a.body)
		}
	case "GET /api/payments/subscription":
		if a.field("plan_type") != "pro" || a.field("status") != "active" || a.field("instance_type") != "t3.large" || a.field("max_workers") != "5" {
			f.t.Errorf("%s: got %s, want the plan Pro", name, a.body)
		}
	case "POST /api/instances":
		if f.id = a.field("id"); a.status != http.StatusAccepted || a.field("status") != "launching" {
			f.t.Errorf("%s: got %d %s, want 202 and launching", name, a.status, a.body)
		}
	case "GET /api/instances":
		// It shows a desktop that runs and has an address, and asks again until then.
		await(f.t, 60*time.Second, "a running desktop with an address in the list", func() bool {
			a := f.do("GET", "/api/instances"+slash, "")
			f.reads(name, a, c.Reads)
			var list struct {
				Instances []struct {
					ID, Status string
					PublicIP   string `json:"public_ip"`
				}
			}
			if err := json.Unmarshal(a.body, &list); err != nil {
				f.t.Fatal(err)
			}
			for _, i := range list.Instances {
				if i.ID == f.id {
					return i.Status == "running" && i.PublicIP == "127.0.0.1"
				}
			}
			return false
		})
	}
}

// pays has the user pay on Stripe's page, and waits until Stripe's deliveries were taken. Before that, no desktop can be
// created, and a message that Stripe did not sign is refused.
func (f *frontend) pays(c recorded) {
	f.t.Helper()
	if a := f.must(http.StatusPaymentRequired, "POST", "/api/instances", `{"name":"unpaid"}`); a.field("code") != "plan_needed" {
		f.t.Errorf("create without a plan: got %s, want plan_needed", a.body)
	}
	if a := f.must(http.StatusBadRequest, "POST", c.Path, `{}`, "Stripe-Signature", "t=1,v1=00"); a.field("code") != "invalid_signature" {
		f.t.Errorf("a forged message: got %s, want invalid_signature", a.body)
	}
	if err := f.stripe.Pay(f.checkout, "4242424242424242", ""); err != nil {
		f.t.Fatal(err)
	}
	await(f.t, 60*time.Second, "Stripe's messages to be taken, and a plan", func() bool {
		return f.stripe.Waiting() == 0 && strings.Contains(string(f.do("GET", "/api/payments/subscription", "").body), `"pro"`)
	})
}

// reads checks that an answer has the fields that the frontend's code reads; a field may be null.
func (f *frontend) reads(name string, a answer, fields []string) {
	f.t.Helper()
	if len(fields) == 0 {
		return
	}
	var all any
	if err := json.Unmarshal(a.body, &all); err != nil {
		f.t.Fatalf("%s: %v", name, err)
	}
	for _, field := range fields {
		if missing := lacks(all, strings.Split(field, ".")); missing != "" {
			f.t.Errorf("%s: got %s, want the field %s (%s is missing)", name, a.body, field, missing)
		}
	}
}

// lacks returns the first part of a path that v does not have. A part that ends with [] is a list.
func lacks(v any, path []string) string {
	if len(path) == 0 {
		return ""
	}
	key, isList := strings.CutSuffix(path[0], "[]")
	object, _ := v.(map[string]any)
	if key == "<plan>" { // any name
		for _, plan := range []string{"starter", "pro", "enterprise"} {
			if missing := lacks(v, append([]string{plan}, path[1:]...)); missing != "" {
				return missing
			}
		}
		return ""
	}
	value, ok := object[key]
	items, listed := value.([]any)
	switch {
	case !ok || isList && !listed:
		return path[0]
	case !isList:
		return lacks(value, path[1:])
	}
	for _, item := range items {
		if missing := lacks(item, path[1:]); missing != "" {
			return missing
		}
	}
	return ""
}

// socket opens a socket as the frontend does, which is refused with a reason, and then with a ticket.
func (f *frontend) socket(c recorded) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 90*time.Second)
	defer cancel()
	path, _, _ := strings.Cut(strings.Replace(c.Path, "{id}", f.id, 1), "?")
	kind := path[strings.LastIndex(path, "/")+1:]
	f.awaitInstance(f.id, "ready", "true")
	_, res, err := websocket.Dial(ctx, f.base+path+"?token="+f.token, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {f.origin}}})
	if err == nil || res == nil {
		f.t.Fatalf("%s with a token in its URL: got %v, want a refusal", kind, err)
	}
	why, _ := io.ReadAll(res.Body)
	if res.StatusCode != http.StatusUnauthorized || !strings.Contains(string(why), "token_in_url") || !strings.Contains(string(why), "ticket") {
		f.t.Errorf("%s with a token in its URL: got %d %s, want 401 token_in_url that names the ticket", kind, res.StatusCode, why)
	}
	conn, err := f.bridge(ctx, f.id, kind, kind)
	if err != nil {
		f.t.Fatalf("%s with a ticket: %v", kind, err)
	}
	defer conn.CloseNow()
	if kind == "vnc" {
		if _, first, err := conn.Read(ctx); err != nil || !strings.HasPrefix(string(first), "RFB 003.") {
			f.t.Errorf("vnc: got %q, %v, want RFB", first, err)
		}
		return
	}
	// It sends connect itself, which the server has done already, and takes a hello as it comes.
	connect := `{"type":"req","id":"c1","method":"connect","params":{"minProtocol":3,"maxProtocol":3,"client":{"id":"webchat","version":"1.0.0"}}}`
	if err := conn.Write(ctx, websocket.MessageText, []byte(connect)); err != nil {
		f.t.Fatal(err)
	}
	hello, answered := false, false
	for !hello || !answered {
		_, data, err := conn.Read(ctx)
		if err != nil {
			f.t.Fatalf("cloudbot: %v before a hello (%v) and an answer to connect (%v)", err, hello, answered)
		}
		hello = hello || strings.Contains(string(data), `"hello-ok"`)
		answered = answered || strings.Contains(string(data), `"c1"`) && strings.Contains(string(data), "already connected")
	}
	if deltas, _, err := f.chat(f.id, "hello"); err != nil || deltas == 0 {
		f.t.Errorf("chat: got %d parts, %v, want some", deltas, err)
	}
}
