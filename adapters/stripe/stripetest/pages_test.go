package stripetest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// browser is a user's view of the pages.
type browser struct {
	t      *testing.T
	client *http.Client
}

func newBrowser(t *testing.T, s *stripetest.Server) (*browser, *httptest.Server) {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &browser{t, client}, web
}

// see returns a page.
func (b *browser) see(page string) string {
	b.t.Helper()
	a, err := b.client.Get(page)
	if err != nil {
		b.t.Fatal(err)
	}
	return text(b.t, a)
}

// send submits a form, and returns where it leads to, or else the page.
func (b *browser) send(page string, fields ...string) string {
	b.t.Helper()
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Set(fields[i], fields[i+1])
	}
	a, err := b.client.PostForm(page, values)
	if err != nil {
		b.t.Fatal(err)
	}
	if where := a.Header.Get("Location"); where != "" {
		a.Body.Close()
		return where
	}
	return text(b.t, a)
}

func text(t *testing.T, a *http.Response) string {
	t.Helper()
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func has(t *testing.T, page string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(page, w) {
			t.Errorf("%q is not in %s", w, page)
		}
	}
}

// TestCheckoutPage pays on the page of a Checkout, after a card was declined.
func TestCheckoutPage(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	b, web := newBrowser(t, s)
	id, _ := openCheckout(t, s, "acc1", 1)
	page := web.URL + "/c/pay/" + id
	has(t, b.see(page), "A test's Stripe", "Pro", "49.00 USD", `<a href="https://cloudbot.example/plan?back">Back</a>`)
	has(t, b.send(page, "card", stripetest.CardDeclined, "email", "a@example.com"), "Your card was declined.")
	has(t, b.send(page, "card", "1234", "email", "a@example.com"), "Your card number is incorrect.")
	has(t, b.send(page, "card", stripetest.CardGood), "Your email is missing.")
	if l := s.Ledger(); len(l.Subscriptions) != 0 || l.Checkouts[0].Declined != 1 || l.Checkouts[0].Status != "open" {
		t.Errorf("unpaid, the ledger is %+v", l)
	}
	if where := b.send(page, "card", "4242 4242 4242 4242", "email", "a@example.com"); where != "https://cloudbot.example/plan?session_id="+id {
		t.Errorf("the page leads to %s", where)
	}
	has(t, b.send(page, "card", stripetest.CardGood, "email", "a@example.com"), "all done here")
	if l := s.Ledger(); len(l.Subscriptions) != 1 || len(l.Invoices) != 1 || l.Invoices[0].Paid != 4900 {
		t.Errorf("paid twice, the ledger is %+v", l)
	}
	has(t, b.see(web.URL+"/c/pay/cs_test_x"), "no such page")
	has(t, b.see(web.URL+"/elsewhere"), "no such page")
}

// TestInvoicePage pays an open invoice on its page.
func TestInvoicePage(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	b, web := newBrowser(t, s)
	sub := subscribe(t, s, "acc1", 1)
	_ = s.SetCard(sub.Customer, stripetest.CardFailsLater)
	s.Advance(32 * day)
	i := lastInvoice(s)
	_, path, _ := strings.Cut(i.URL, "/i/")
	page := web.URL + "/i/" + path
	has(t, b.see(page), ", open: <strong>49.00 USD", "Pay invoice", "28 December 2026 to 28 January 2027")
	has(t, b.send(page, "card", stripetest.CardFailsLater), "Your card was declined.")
	if where := b.send(page, "card", stripetest.CardGood); where != "/i/"+path {
		t.Errorf("the page leads to %s", where)
	}
	if paid := b.see(page); strings.Contains(paid, "<form") {
		t.Errorf("a paid invoice can be paid: %s", paid)
	}
	if latest(s).Status != "active" {
		t.Errorf("the subscription is %s", latest(s).Status)
	}
	if pdf := b.see(page + "/pdf"); !strings.HasPrefix(pdf, "%PDF-1.4\n") || !strings.HasSuffix(pdf, "%%EOF\n") {
		t.Errorf("its PDF is %q", pdf)
	}
	has(t, b.see(web.URL+"/i/in_x"), "no such invoice")
}

// TestPortal does everything that the portal's page offers.
func TestPortal(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	b, web := newBrowser(t, s)
	other := subscribe(t, s, "acc2", 0)
	sub := subscribe(t, s, "acc1", 0)
	status, o := call(t, s, "POST", "/v1/billing_portal/sessions", "", url.Values{"customer": {sub.Customer}, "return_url": {"https://cloudbot.example/plan"}})
	if status != http.StatusOK {
		t.Fatalf("the portal is %d: %v", status, o)
	}
	_, path, _ := strings.Cut(o["url"].(string), "/p/session/")
	page := web.URL + "/p/session/" + path
	has(t, b.see(page), "Starter", "Cancel plan", "Change to Pro", "Visa that ends in 4242", `<a href="https://cloudbot.example/plan">Return</a>`, "19.00 USD")
	b.send(page+"/cancel", "sub", sub.ID)
	has(t, b.see(page), "It ends on 28 December 2026.", "Don't cancel plan")
	b.send(page+"/renew", "sub", sub.ID)
	has(t, b.see(page), "It renews on 28 December 2026.")
	b.send(page+"/plan", "sub", sub.ID, "price", stripetest.DefaultPrices[2].ID)
	has(t, b.see(page), "Enterprise", "Change to Starter")
	has(t, b.send(page+"/card", "card", stripetest.CardDeclined), "Your card was declined.")
	b.send(page+"/card", "card", stripetest.CardFailsLater)
	has(t, b.see(page), "Visa that ends in 0341")
	has(t, b.send(page+"/plan", "sub", sub.ID, "price", "price_x"), "No such")
	has(t, b.send(page+"/cancel", "sub", other.ID), "No such subscription")
	if l := s.Ledger(); l.Subscriptions[0].Status != "active" || !l.Subscriptions[0].CancelAt.IsZero() {
		t.Errorf("another customer's subscription is %+v", l.Subscriptions[0])
	}
	s.Advance(time.Hour + time.Second)
	has(t, b.see(page), "Your session has expired")
	has(t, b.see(web.URL+"/p/session/guess"), "Your session has expired")
}

// TestControl asks for everything over HTTP, as a browser's test does.
func TestControl(t *testing.T) {
	t.Parallel()
	taken := make(chan string, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { taken <- r.Header.Get("Stripe-Signature") }))
	defer hook.Close()
	s := newServer(stripetest.Config{})
	_, web := newBrowser(t, s)
	order := func(name, body string, status int) (l stripetest.Ledger) {
		t.Helper()
		a, err := http.Post(web.URL+"/control/"+name, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		said := text(t, a)
		if a.StatusCode != status {
			t.Fatalf("%s %s is answered with %d: %s", name, body, a.StatusCode, said)
		}
		if status == http.StatusOK {
			if err := json.Unmarshal([]byte(said), &l); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	order("webhook", `{"url": "`+hook.URL+`", "secret": "whsec_another"}`, 200)
	id, _ := openCheckout(t, s, "acc1", 0)
	order("pay", `{"session": "`+id+`", "card": "declined", "email": "a@example.com"}`, 422)
	l := order("pay", `{"session": "`+id+`", "card": "good", "email": "a@example.com"}`, 200)
	if len(l.Subscriptions) != 1 || l.Waiting != 7 {
		t.Errorf("paid, the ledger is %+v", l)
	}
	if l = order("deliver", `{}`, 200); l.Waiting != 0 || len(taken) != 7 {
		t.Errorf("%d deliveries wait, %d were taken", l.Waiting, len(taken))
	}
	order("plan", `{"account": "acc1", "price": "`+stripetest.DefaultPrices[1].ID+`"}`, 200)
	if l = order("cancel", `{"account": "acc1", "on": true}`, 200); l.Subscriptions[0].CancelAt.IsZero() || l.Subscriptions[0].Price != stripetest.DefaultPrices[1].ID {
		t.Errorf("changed and canceled it is %+v", l.Subscriptions[0])
	}
	order("cancel", `{"account": "acc1"}`, 200)
	order("card", `{"account": "acc1", "card": "fails"}`, 200)
	if l = order("advance", `{"account": "acc1", "by": "750h"}`, 200); l.Subscriptions[0].Status != "past_due" || !l.Now.Equal(start) {
		t.Errorf("not paid it is %+v", l.Subscriptions[0])
	}
	i := l.Invoices[len(l.Invoices)-1].ID
	if l = order("pay-invoice", `{"invoice": "`+i+`", "card": "good"}`, 200); l.Subscriptions[0].Status != "active" {
		t.Errorf("paid it is %+v", l.Subscriptions[0])
	}
	order("end-invoice", `{"invoice": "`+i+`", "status": "void"}`, 422)
	order("lose", `{"count": 1}`, 200)
	order("repeat", `{"count": 1}`, 200)
	order("hold", `{"on": true}`, 200)
	order("hold", `{"on": false}`, 200)
	order("resend", `{"events": ["evt_x"]}`, 422)
	order("faults", `{"next": {"call": "GET /v1/prices", "fault": "busy"}, "faults": {"delay": 10, "late": 1000}}`, 200)
	if status, _ := call(t, s, "GET", "/v1/prices", "", nil); status != http.StatusTooManyRequests {
		t.Errorf("the next call is answered with %d", status)
	}
	order("down", `{"by": "1h"}`, 200)
	if l = order("advance", `{"by": "2h"}`, 200); !l.Now.Equal(start.Add(2 * time.Hour)) {
		t.Errorf("it is %v", l.Now)
	}
	if l = order("cancel", `{"account": "acc1", "status": "now"}`, 200); l.Subscriptions[0].Status != "canceled" {
		t.Errorf("ended it is %+v", l.Subscriptions[0])
	}
	order("delete-customer", `{"account": "acc1"}`, 200)
	order("delete-customer", `{"account": "acc1"}`, 422)
	order("advance", `{"by": "-2h"}`, 422)
	order("advance", `{`, 400)
	order("everything", `{}`, 404)
	a, err := http.Get(web.URL + "/control/events")
	if err != nil {
		t.Fatal(err)
	}
	if events := text(t, a); !bytes.Contains([]byte(events), []byte("customer.subscription.deleted")) {
		t.Errorf("the events are %s", events)
	}
}
