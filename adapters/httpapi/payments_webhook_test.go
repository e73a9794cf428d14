package httpapi

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// deliver sends a message as Stripe does, and wants an answer.
func (f *front) deliver(status int, want, body string) answer {
	f.t.Helper()
	a := f.want(status, call{method: "POST", path: webhookPath, body: body, header: map[string]string{"Stripe-Signature": signFake([]byte(body))}})
	if got := a.field(f.t, "status"); status == 200 && got != want {
		f.t.Errorf("%s: got %s, want status %s", body, a.body, want)
	}
	return a
}

// A forged, foreign or repeated message changes nothing, and one that cannot be handled has to be sent again.
func TestWebhook(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	ada := f.signUp("ada@example.com")
	session := f.want(200, call{method: "POST", path: "/api/payments/create-checkout", token: ada.access, body: map[string]string{"plan_type": "pro", "success_url": returnTo, "cancel_url": returnTo}}).field(t, "session_id")
	fake.pay(session)
	body := `{"ID":"evt_1","Type":"checkout.session.completed","Object":"checkout.session","ObjectID":"` + session + `"}`
	before := f.head()
	unchanged := func(what string) {
		t.Helper()
		if n := f.head() - before; n != 0 {
			t.Errorf("%s: got %d events, want none", what, n)
		}
	}
	for what, headers := range map[string]map[string]string{
		"no signature":     nil,
		"forged":           {"Stripe-Signature": signFake([]byte(body + " "))},
		"of another":       {"Stripe-Signature": "t=1,v1=abc"},
		"as a user":        {"Authorization": "Bearer " + ada.access},
		"an empty one":     {"Stripe-Signature": ""},
		"from another one": {"Stripe-Signature": "v1=" + strings.Repeat("0", 64), "Origin": "https://app.example.com"},
	} {
		a := f.want(400, call{method: "POST", path: webhookPath, body: body, header: headers})
		if a.field(t, "code") != "invalid_signature" {
			t.Errorf("%s: got %s, want invalid_signature", what, a.body)
		}
		unchanged(what)
	}
	if a := f.deliver(400, "", strings.Replace(body, `{`, `{"Livemode":true,`, 1)); a.field(t, "code") != "wrong_mode" {
		t.Errorf("of real payments: got %s, want wrong_mode", a.body)
	}
	f.deliver(200, "ignored", `{"ID":"evt_2","Type":"charge.succeeded","Object":"charge","ObjectID":"ch_1"}`)
	f.deliver(200, "ignored", `{"ID":"evt_3","Type":"checkout.session.completed","Object":"checkout.session","ObjectID":"cs_of_another"}`)
	unchanged("foreign ones")

	fake.breaks(errors.New("no route to Stripe"))
	if a := f.deliver(503, "", body); a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "route") {
		t.Errorf("Stripe away: got %s, want a refusal for now", a.body)
	}
	unchanged("while Stripe is away")
	fake.breaks(nil)
	f.deliver(200, "success", body)
	if f.head() == before {
		t.Error("the real one: got no event, want some")
	}
	before = f.head()
	calls := fake.calls
	f.deliver(200, "success", body)
	unchanged("repeated")
	if fake.calls != calls {
		t.Errorf("repeated: got %d calls to Stripe, want none", fake.calls-calls)
	}
	if strings.Contains(f.log.String(), signFake([]byte(body))) || strings.Contains(f.log.String(), canary) {
		t.Error("server's log: got a signature or a URL, want none")
	}
}

// The body is taken as it is: of any type, larger than other bodies, and with any encoding. It still counts in its address's
// share.
func TestWebhookBody(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake, behindProxy))
	send := func(body, kind string, known bool) *http.Response {
		t.Helper()
		var r io.Reader = strings.NewReader(body)
		if !known {
			r = io.MultiReader(r) // without a length
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", f.url+webhookPath, r)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", kind)
		req.Header.Set("Stripe-Signature", signFake([]byte(body)))
		req.Header.Set("Origin", "https://app.example.com")
		req.Header.Set("X-Forwarded-For", elsewhere)
		res, err := f.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res
	}
	large := func(n int) string {
		body := `{"ID":"evt_1","Type":"charge.succeeded"}`
		return body + strings.Repeat(" ", n-len(body))
	}
	for _, known := range []bool{true, false} {
		if res := send(large(maxDelivery), "text/plain; charset=latin1", known); res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("the largest, length known %v: got %d and %v, want 200 for no page", known, res.StatusCode, res.Header)
		}
		if res := send(large(maxDelivery+1), "application/json", known); res.StatusCode != 413 {
			t.Errorf("too large, length known %v: got %d, want 413", known, res.StatusCode)
		}
	}
	// Other routes do not take more because of it.
	if a := f.do(call{method: "POST", path: "/api/auth/login", body: large(maxBody + 1)}); a.status != 413 {
		t.Errorf("a log-in: got %d, want 413", a.status)
	}
	// A crowd of half-sent ones from one address leaves room for others.
	hold := func(n int) (stop func()) {
		leave, _ := f.server.bodies.TakeN(n, f.server.sharesOf(netip.MustParseAddr(elsewhere), f.server.cfg.Limits.BodiesAddress, maxBodies)...)
		if leave == nil {
			t.Fatal("the share is taken")
		}
		return leave
	}
	leave := hold(f.server.cfg.Limits.BodiesAddress - maxDelivery)
	if res := send(large(maxDelivery), "application/json", true); res.StatusCode != 429 {
		t.Errorf("above its address's share: got %d, want 429", res.StatusCode)
	}
	leave()
	if res := send(large(maxDelivery), "application/json", true); res.StatusCode != 200 {
		t.Errorf("within it: got %d, want 200", res.StatusCode)
	}
}

// A message of a customer that another account's object names is handled for the customer's own account.
func TestWebhookIsOfTheCustomer(t *testing.T) {
	t.Parallel()
	fake := &fakeStripe{}
	f := newFront(t, withPlans(fake))
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	f.buy(ada, fake)
	fake.mu.Lock()
	sub := fake.subs["sub_"+ada.account]
	sub.ID, sub.Account, sub.Customer, sub.Plan = "sub_foreign", eve.account, "cus_foreign", billing.Enterprise
	fake.subs[sub.ID] = sub
	fake.mu.Unlock()
	before := f.head()
	f.deliver(200, "ignored", `{"ID":"evt_1","Type":"customer.subscription.updated","Object":"subscription","ObjectID":"sub_foreign"}`)
	if n := f.head() - before; n != 0 || f.paid(eve).Access.Level != "none" {
		t.Errorf("got %d events, %+v, want nothing for eve", n, f.paid(eve))
	}
}
