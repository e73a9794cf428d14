package httpapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Without Stripe, the answers are the original's: a plan for developers, and nothing to buy.
func TestPaymentsNotConfigured(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	for path, want := range map[string]string{
		"config": `{"configured":false,"publishable_key":null,"dev_mode":true,"plans":{` +
			`"enterprise":{"name":"Enterprise","instance_type":"t3.xlarge","max_workers":10,"available":false,"price":null},` +
			`"pro":{"name":"Pro","instance_type":"t3.large","max_workers":5,"available":false,"price":null},` +
			`"starter":{"name":"Starter","instance_type":"t3.medium","max_workers":2,"available":false,"price":null}},"metered":false}`,
		"subscription": `{"id":"dev","plan_type":"dev","status":"active","instance_type":"t3.large","max_workers":5,"current_period_end":null,"cancel_at_period_end":false,"cancel_at":null,"granted":false}`,
		"status": `{"billing":false,"access":{"level":"full","plan_type":null,"desktops":3,"instance_types":["t3.large","t3.xlarge"],"reason":null,"why":null,"stop_at":null},` +
			`"subscription":{"id":"dev","plan_type":"dev","status":"active","instance_type":"t3.large","max_workers":5,"current_period_end":null,"cancel_at_period_end":false,"cancel_at":null,"granted":false},` +
			`"checkout":null,"due":null,"portal":false,"several":false,"used_desktops":0}`,
		"invoices": `{"invoices":[]}`,
	} {
		if a := f.want(200, call{method: "GET", path: "/api/payments/" + path, token: ada.access}); strings.TrimSpace(string(a.body)) != want {
			t.Errorf("%s: got %s, want %s", path, a.body, want)
		}
	}
	f.want(200, call{method: "POST", path: "/api/payments/sync", token: ada.access})
	checkout := `{"plan_type":"pro","success_url":"https://app.example.com/x","cancel_url":"https://app.example.com/x"}`
	for path, body := range map[string]any{"create-checkout": checkout, "cancel": nil, "resume": nil, "portal": `{"return_url":"https://app.example.com/x"}`, "webhook": `{}`} {
		if a := f.want(503, call{method: "POST", path: "/api/payments/" + path, token: ada.access, body: body}); a.field(t, "code") != "payments_not_configured" {
			t.Errorf("%s: got %s, want payments_not_configured", path, a.body)
		}
	}
	if a := f.want(400, call{method: "POST", path: "/api/payments/create-checkout", token: ada.access, body: strings.Replace(checkout, "pro", "gold", 1)}); a.field(t, "code") != "unknown_plan" {
		t.Errorf("got %s, want unknown_plan", a.body)
	}
}

// paid is the part of a status that the tests look at.
type paid struct {
	Billing bool
	Access  struct {
		Level    string
		Plan     string `json:"plan_type"`
		Desktops int
		Types    []string `json:"instance_types"`
		Why      string
	}
	Subscription *subscriptionView
	Checkout     *checkoutView
	Due          *dueView
	Portal       bool
	Used         int `json:"used_desktops"`
}

func (f *front) paid(u user) (p paid) {
	f.t.Helper()
	f.want(200, call{method: "GET", path: "/api/payments/status", token: u.access}).into(f.t, &p)
	return p
}

// The original's flow, as its frontend makes it: sign up, choose a plan, pay, create. Before the payment nothing starts.
func TestPlanFlow(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	f.server.cfg.Payments.Board.look(t.Context())
	if a := f.want(200, call{method: "GET", path: "/api/payments/config"}); !strings.Contains(string(a.body), `"configured":true,"publishable_key":"pk_test_of_a_test","dev_mode":false`) ||
		!strings.Contains(string(a.body), `"pro":{"name":"Pro","instance_type":"t3.large","max_workers":5,"available":true,"price":{"amount":1900,"currency":"usd","interval":"month"}}`) ||
		!strings.Contains(string(a.body), `"starter":{"name":"Starter","instance_type":"t3.medium","max_workers":2,"available":false,"price":null}`) {
		t.Errorf("config: got %s, want a price for pro only", a.body)
	}
	ada := f.signUp("ada@example.com")
	create := call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`}
	if a := f.want(402, create); a.field(t, "code") != "plan_needed" || !strings.Contains(a.field(t, "detail"), "You need a plan") {
		t.Errorf("got %s, want plan_needed", a.body)
	}
	if a := f.want(200, call{method: "GET", path: "/api/payments/subscription", token: ada.access}); strings.TrimSpace(string(a.body)) != "null" {
		t.Errorf("subscription: got %s, want null", a.body)
	}
	if p := f.paid(ada); !p.Billing || p.Access.Level != "none" || p.Access.Desktops != 0 || len(p.Access.Types) > 0 || p.Access.Why == "" || p.Portal || p.Checkout != nil {
		t.Errorf("before: got %+v, want no plan", p)
	}
	if a := f.want(200, call{method: "GET", path: "/api/instance-types", token: ada.access}); strings.Contains(string(a.body), `"in_plan":true`) || !strings.Contains(string(a.body), `"max_instances":0`) {
		t.Errorf("types without a plan: got %s, want none in it", a.body)
	}
	checkout := call{method: "POST", path: "/api/payments/create-checkout", token: ada.access, body: map[string]string{"plan_type": "pro", "success_url": returnTo, "cancel_url": returnTo}}
	first := f.want(200, checkout)
	if again := f.want(200, checkout); string(again.body) != string(first.body) || first.field(t, "checkout_url") == "" {
		t.Errorf("got %s, then %s, want the same page", first.body, again.body)
	}
	if p := f.paid(ada); p.Checkout == nil || p.Checkout.Plan != "pro" {
		t.Errorf("while the page is open: got %+v, want it", p.Checkout)
	}
	f.want(402, create)

	fake.pay(first.field(t, "session_id"))
	f.deliver(200, "success", `{"ID":"evt_1","Type":"checkout.session.completed","Object":"checkout.session","ObjectID":"`+first.field(t, "session_id")+`"}`)
	f.caughtUp()
	if p := f.paid(ada); p.Access.Level != "full" || p.Access.Plan != "pro" || p.Access.Desktops != 5 || !slices.Equal(p.Access.Types, []string{"t3.large"}) || p.Subscription == nil ||
		p.Subscription.ID != "sub_"+ada.account || !p.Portal || p.Checkout != nil {
		t.Errorf("after the payment: got %+v, want the plan Pro", p)
	}
	id := f.want(202, create).field(t, "id")
	f.caughtUp()
	list := f.want(200, call{method: "GET", path: "/api/instances", token: ada.access})
	if !strings.Contains(string(list.body), `"quota":{"held":1,"limit":5}`) || !strings.Contains(string(list.body), id) || !strings.Contains(string(list.body), `"instance_type":"t3.large"`) {
		t.Errorf("got %s, want 1 of 5, of the plan's type", list.body)
	}
	types := f.want(200, call{method: "GET", path: "/api/instance-types", token: ada.access})
	if !strings.Contains(string(types.body), `"in_plan":true},{"id":"t3.xlarge"`) || !strings.Contains(string(types.body), `"in_plan":false}],"default":"t3.large","max_instances":5`) {
		t.Errorf("types: got %s, want t3.large in the plan and t3.xlarge not", types.body)
	}
	if a := f.want(402, call{method: "POST", path: "/api/instances", token: ada.access, body: `{"instance_type":"t3.xlarge"}`}); a.field(t, "code") != "plan_too_small" || a.field(t, "field") != "instance_type" {
		t.Errorf("another type: got %s, want plan_too_small", a.body)
	}
	if a := f.want(409, checkout); a.field(t, "code") != "already_subscribed" {
		t.Errorf("a second plan: got %s, want already_subscribed", a.body)
	}
}

// An account with a plan cancels, resumes, opens the portal, sees its invoices, and hears of a payment that failed.
func TestPlanIsManaged(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	for _, path := range []string{"cancel", "resume"} {
		if a := f.want(404, call{method: "POST", path: "/api/payments/" + path, token: ada.access}); a.field(t, "code") != "subscription_not_found" {
			t.Errorf("%s: got %s, want subscription_not_found", path, a.body)
		}
	}
	portal := call{method: "POST", path: "/api/payments/portal", token: ada.access, body: `{"return_url":"` + returnTo + `"}`}
	if a := f.want(404, portal); a.field(t, "code") != "customer_not_found" {
		t.Errorf("portal: got %s, want customer_not_found", a.body)
	}
	f.buy(ada, fake)
	subscription := func() (s subscriptionView) {
		t.Helper()
		f.want(200, call{method: "GET", path: "/api/payments/subscription", token: ada.access}).into(t, &s)
		return s
	}
	if a := f.want(200, call{method: "POST", path: "/api/payments/cancel", token: ada.access}); !strings.Contains(a.field(t, "message"), "Your plan ends on") {
		t.Errorf("cancel: got %s", a.body)
	}
	if s := subscription(); !s.CancelAtEnd || s.CancelAt == nil || !s.CancelAt.Equal(*s.PeriodEnd) || s.Status != "active" {
		t.Errorf("canceled: got %+v, want an end at the period's", s)
	}
	f.want(200, call{method: "POST", path: "/api/payments/resume", token: ada.access})
	if s := subscription(); s.CancelAtEnd || s.CancelAt != nil {
		t.Errorf("resumed: got %+v, want no end", s)
	}
	if a := f.want(200, portal); a.field(t, "portal_url") != "https://portal.example/"+canary+"/cus_"+ada.account {
		t.Errorf("portal: got %s, want ada's", a.body)
	}
	portal.body = `{"return_url":"https://elsewhere.example/"}`
	if a := f.want(422, portal); a.field(t, "code") != "invalid_url" || a.field(t, "field") != "return_url" {
		t.Errorf("another site: got %s, want invalid_url", a.body)
	}
	fake.fail(ada.account)
	f.deliver(200, "success", `{"ID":"evt_2","Type":"invoice.payment_failed","Object":"invoice","ObjectID":"in_2_`+ada.account+`"}`)
	p := f.paid(ada)
	if p.Access.Level != "due" || p.Due == nil || p.Due.Amount != 1900 || p.Due.Attempts != 1 || p.Due.NextAttempt == nil || p.Access.Why == "" {
		t.Errorf("a failed payment: got %+v, want it due", p)
	}
	if a := f.want(402, call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`}); a.field(t, "code") != "payment_due" {
		t.Errorf("create: got %s, want payment_due", a.body)
	}
	invoices := f.want(200, call{method: "GET", path: "/api/payments/invoices", token: ada.access})
	if !strings.Contains(string(invoices.body), `"url":"https://invoice.example/`+canary) || strings.Count(string(invoices.body), `"id":"in_`) != 2 {
		t.Errorf("invoices: got %s, want two with their pages", invoices.body)
	}
	if a := f.want(200, call{method: "GET", path: "/api/payments/invoices", token: eve.access}); strings.TrimSpace(string(a.body)) != `{"invoices":[]}` {
		t.Errorf("another account's invoices: got %s, want none", a.body)
	}
	if p := f.paid(eve); p.Portal || p.Subscription != nil || p.Due != nil {
		t.Errorf("another account: got %+v, want nothing of ada's", p)
	}
	if strings.Contains(f.log.String(), canary) {
		t.Error("server's log: got one of Stripe's URLs, want none")
	}
}

// A user hears that Stripe is away, and not why: that is in the server's log.
func TestStripeAway(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	ada := f.signUp("ada@example.com")
	f.buy(ada, fake)
	fake.breaks(errors.New("no route to Stripe"))
	for path, c := range map[string]call{
		"cancel": {method: "POST"}, "resume": {method: "POST"}, "sync": {method: "POST"}, "invoices": {method: "GET"},
		"portal": {method: "POST", body: `{"return_url":"` + returnTo + `"}`},
	} {
		c.path, c.token = "/api/payments/"+path, ada.access
		if a := f.want(503, c); a.field(t, "code") != "payments_unavailable" || strings.Contains(string(a.body), "route") {
			t.Errorf("%s: got %s, want payments_unavailable without the reason", path, a.body)
		}
	}
	if !strings.Contains(f.log.String(), "no route to Stripe") {
		t.Error("server's log: got no reason, want it")
	}
	// What does not need Stripe works.
	f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`})
	if p := f.paid(ada); p.Access.Level != "full" {
		t.Errorf("got %+v, want the plan", p)
	}
}

// A Stripe that does not answer holds no request for longer than other requests may take.
func TestStripeHangs(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	ada := f.signUp("ada@example.com")
	f.buy(ada, fake)
	f.server.cfg.Timeout = 200 * time.Millisecond
	fake.hangs.Store(true)
	if a := f.want(503, call{method: "POST", path: "/api/payments/sync", token: ada.access}); a.field(t, "code") != "timeout" {
		t.Errorf("sync: got %s, want timeout", a.body)
	}
	f.deliver(503, "", `{"ID":"evt_2","Type":"invoice.paid","Object":"invoice","ObjectID":"in_`+ada.account+`"}`)
	fake.hangs.Store(false)
	f.deliver(200, "success", `{"ID":"evt_2","Type":"invoice.paid","Object":"invoice","ObjectID":"in_`+ada.account+`"}`)
}

// Requests that call Stripe have a budget, and those of one account do not use up another's.
func TestPaymentsAreLimited(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake, func(c *Config) { c.Limits.Payments = Rate{3, time.Hour} }))
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	sync := call{method: "POST", path: "/api/payments/sync", token: ada.access}
	for range 2 {
		f.want(200, sync)
	}
	f.want(200, call{method: "GET", path: "/api/payments/invoices", token: ada.access})
	if a := f.want(http.StatusTooManyRequests, sync); a.header.Get("Retry-After") == "" {
		t.Errorf("got %s, want Retry-After", a.body)
	}
	f.want(http.StatusTooManyRequests, call{method: "POST", path: "/api/payments/cancel", token: ada.access})
	f.want(200, call{method: "GET", path: "/api/payments/status", token: ada.access}) // without Stripe
	sync.token = eve.access
	f.want(200, sync)
}
