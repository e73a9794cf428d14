package stripetest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

const day = 24 * time.Hour

// start is when each test's Stripe begins.
var start = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

func newServer(cfg stripetest.Config) *stripetest.Server {
	cfg.Clock = func() time.Time { return start }
	return stripetest.New(cfg)
}

// call makes a call of the API, and returns its status and its answer.
func call(t *testing.T, s *stripetest.Server, method, path, key string, fields url.Values) (int, map[string]any) {
	t.Helper()
	target, body := "https://stripe.test"+path, ""
	if method == http.MethodGet {
		target += "?" + fields.Encode()
	} else {
		body = fields.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+stripetest.DefaultKey)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	a, err := s.Transport().RoundTrip(r)
	if err != nil {
		return 0, nil
	}
	defer a.Body.Close()
	text, _ := io.ReadAll(a.Body)
	var o map[string]any
	if err := json.Unmarshal(text, &o); err != nil {
		return a.StatusCode, nil
	}
	return a.StatusCode, o
}

// openCheckout returns the id and the URL of a Checkout of a price.
func openCheckout(t *testing.T, s *stripetest.Server, account string, price int) (id, page string) {
	t.Helper()
	status, o := call(t, s, "POST", "/v1/checkout/sessions", "", url.Values{
		"mode": {"subscription"}, "line_items[0][price]": {stripetest.DefaultPrices[price].ID}, "line_items[0][quantity]": {"1"},
		"success_url": {"https://cloudbot.example/plan?session_id={CHECKOUT_SESSION_ID}"}, "cancel_url": {"https://cloudbot.example/plan?back"},
		"client_reference_id": {account}, "subscription_data[metadata][user_id]": {account},
	})
	if status != http.StatusOK {
		t.Fatalf("a Checkout is answered with %d: %v", status, o)
	}
	return o["id"].(string), o["url"].(string)
}

// subscribe pays for a price, and returns the subscription.
func subscribe(t *testing.T, s *stripetest.Server, account string, price int) stripetest.Subscription {
	t.Helper()
	id, _ := openCheckout(t, s, account, price)
	if err := s.Pay(id, stripetest.CardGood, account+"@example.com"); err != nil {
		t.Fatal(err)
	}
	return latest(s)
}

// latest returns the newest subscription, with its status of now.
func latest(s *stripetest.Server) stripetest.Subscription {
	all := s.Ledger().Subscriptions
	return all[len(all)-1]
}

func lastInvoice(s *stripetest.Server) stripetest.Invoice {
	all := s.Ledger().Invoices
	return all[len(all)-1]
}

// kinds returns the types of all events since the n-th.
func kinds(s *stripetest.Server, n int) (found []string) {
	for _, e := range s.Events()[n:] {
		found = append(found, e.Type)
	}
	return found
}

// TestRetries has a renewal that the card does not pay, until Stripe stops trying.
func TestRetries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ after, status string }{{"", "canceled"}, {"canceled", "canceled"}, {"unpaid", "unpaid"}, {"past_due", "past_due"}} {
		t.Run(c.after, func(t *testing.T) {
			t.Parallel()
			s := newServer(stripetest.Config{AfterRetries: c.after})
			sub := subscribe(t, s, "acc1", 1)
			first := []string{"customer.created", "customer.subscription.created", "invoice.created", "invoice.finalized", "invoice.paid", "invoice.payment_succeeded", "checkout.session.completed"}
			if got := kinds(s, 0); !slices.Equal(got, first) {
				t.Errorf("the events of a Checkout are %v", got)
			}
			if err := s.SetCard(sub.Customer, stripetest.CardFailsLater); err != nil {
				t.Fatal(err)
			}
			n := len(s.Events())
			s.Advance(start.AddDate(0, 1, 0).Sub(start))
			if i := lastInvoice(s); i.Status != "draft" || i.Due != 4900 || latest(s).Status != "active" || !latest(s).End.Equal(start.AddDate(0, 2, 0)) {
				t.Errorf("at the renewal the invoice is %+v, the subscription %+v", i, latest(s))
			}
			s.Advance(time.Hour)
			due := start.AddDate(0, 1, 0).Add(time.Hour)
			for attempt, wait := range []time.Duration{3 * day, 5 * day, 7 * day} {
				due = due.Add(wait)
				if i := lastInvoice(s); i.Status != "open" || i.Attempts != attempt+1 || !i.NextAttempt.Equal(due) || latest(s).Status != "past_due" {
					t.Errorf("after attempt %d the invoice is %+v, the subscription %s", attempt+1, i, latest(s).Status)
				}
				s.Advance(wait)
			}
			if i := lastInvoice(s); i.Status != "open" || i.Attempts != 4 || !i.NextAttempt.IsZero() || latest(s).Status != c.status {
				t.Errorf("at the end the invoice is %+v, the subscription %s", i, latest(s).Status)
			}
			counts := map[string]int{}
			for _, kind := range kinds(s, n) {
				counts[kind]++
			}
			if counts["invoice.payment_failed"] != 4 || (counts["customer.subscription.deleted"] == 1) != (c.status == "canceled") {
				t.Errorf("the events are %v", counts)
			}
			if err := s.PayInvoice(lastInvoice(s).ID, stripetest.CardGood); err != nil {
				t.Fatal(err)
			}
			want := "active"
			if c.status == "canceled" {
				want = "canceled"
			}
			if latest(s).Status != want || lastInvoice(s).Paid != 4900 {
				t.Errorf("paid by hand, the subscription is %s", latest(s).Status)
			}
			if err := s.PayInvoice(lastInvoice(s).ID, stripetest.CardGood); err == nil {
				t.Error("it could be paid twice")
			}
		})
	}
}

// TestRetryPays has the card repaired before the second retry, in one long step of the clock.
func TestRetryPays(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	sub := subscribe(t, s, "acc1", 0)
	_ = s.SetCard(sub.Customer, stripetest.CardFailsLater)
	s.Advance(31*day + 4*day)
	if err := s.SetCard(sub.Customer, stripetest.CardGood); err != nil {
		t.Fatal(err)
	}
	s.Advance(120 * day)
	l := s.Ledger()
	periods := map[time.Time]int{}
	for _, i := range l.Invoices {
		if i.Status != "paid" {
			t.Errorf("an invoice is %+v", i)
		}
		periods[i.Start]++
	}
	for n := range len(l.Invoices) {
		if periods[start.AddDate(0, n, 0)] != 1 {
			t.Errorf("the period from %v was paid %d times", start.AddDate(0, n, 0), periods[start.AddDate(0, n, 0)])
		}
	}
	if latest(s).Status != "active" || len(l.Invoices) != 6 {
		t.Errorf("after 155 days there are %d invoices, and it is %s", len(l.Invoices), latest(s).Status)
	}
}

// TestMonths has a plan that begins on the last day of a long month.
func TestMonths(t *testing.T) {
	t.Parallel()
	begin := time.Date(2027, 1, 31, 10, 0, 0, 0, time.UTC)
	s := stripetest.New(stripetest.Config{Clock: func() time.Time { return begin }})
	subscribe(t, s, "acc1", 0)
	s.Advance(100 * day)
	var got []string
	for _, i := range s.Ledger().Invoices {
		got = append(got, i.Start.Format(time.DateOnly))
	}
	if want := []string{"2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"}; !slices.Equal(got, want) {
		t.Errorf("the periods begin on %v", got)
	}
}

// TestChange pays for the rest of a period at a change to a larger plan, and has credit after one to a smaller plan.
func TestChange(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	sub := subscribe(t, s, "acc1", 0)
	s.Advance(15 * day) // half of the 30 days
	if err := s.ChangePlan(sub.ID, stripetest.DefaultPrices[1].ID); err != nil {
		t.Fatal(err)
	}
	if i := lastInvoice(s); i.Due != 2450-950 || i.Status != "paid" || i.Reason != "subscription_update" || latest(s).Price != stripetest.DefaultPrices[1].ID {
		t.Errorf("the larger plan costs %+v", i)
	}
	if err := s.ChangePlan(sub.ID, stripetest.DefaultPrices[0].ID); err != nil {
		t.Fatal(err)
	}
	s.Advance(16 * day)
	if i := lastInvoice(s); i.Due != 1900-1500 || i.Status != "paid" || !i.Start.Equal(start.AddDate(0, 1, 0)) {
		t.Errorf("the smaller plan costs %+v", i)
	}
	_ = s.SetCard(sub.Customer, stripetest.CardFailsLater)
	if err := s.ChangePlan(sub.ID, stripetest.DefaultPrices[2].ID); err == nil || latest(s).Price != stripetest.DefaultPrices[0].ID {
		t.Errorf("a card that does not pay changed the plan: %v", err)
	}
}

// TestCheckoutEnds expires a Checkout, and a canceled subscription, when their times come.
func TestCheckoutEnds(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	id, _ := openCheckout(t, s, "acc1", 0)
	s.Advance(day)
	if c := s.Ledger().Checkouts[0]; c.Status != "expired" || c.URL != "" {
		t.Errorf("after a day the Checkout is %+v", c)
	}
	if err := s.Pay(id, stripetest.CardGood, "a@example.com"); err == nil {
		t.Error("an expired Checkout could be paid")
	}
	sub := subscribe(t, s, "acc1", 0)
	if err := s.SetCancel(sub.ID, true); err != nil {
		t.Fatal(err)
	}
	if err := s.AdvanceCustomer(sub.Customer, 40*day); err != nil {
		t.Fatal(err)
	}
	if got := latest(s); got.Status != "canceled" || !got.Ended.Equal(sub.End) || len(s.Ledger().Invoices) != 1 || !s.Now().Equal(start.Add(day)) {
		t.Errorf("after its period it is %+v, and the server's clock shows %v", got, s.Now())
	}
	if err := s.SetCancel(sub.ID, false); err == nil {
		t.Error("an ended subscription could be renewed")
	}
}

// TestRefused has calls that this Stripe refuses, as Stripe does.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	sub := subscribe(t, s, "acc1", 0)
	checkout := url.Values{"mode": {"subscription"}, "line_items[0][price]": {stripetest.DefaultPrices[0].ID}, "line_items[0][quantity]": {"1"}, "success_url": {"https://cloudbot.example"}}
	with := func(v url.Values, key, value string) url.Values {
		changed := url.Values{}
		for k, all := range v {
			changed[k] = all
		}
		changed.Set(key, value)
		return changed
	}
	usage := url.Values{"event_name": {stripetest.DefaultMeter}, "payload[value]": {"1"}, "payload[stripe_customer_id]": {sub.Customer}, "identifier": {"one"}}
	if status, o := call(t, s, "POST", "/v1/billing/meter_events", "", usage); status != http.StatusOK {
		t.Fatalf("usage is answered with %d: %v", status, o)
	}
	for name, c := range map[string]struct {
		method, path string
		fields       url.Values
		status       int
		code         string
	}{
		"an unknown field":        {"POST", "/v1/checkout/sessions", with(checkout, "metdata[x]", "1"), 400, "parameter_unknown"},
		"a missing field":         {"POST", "/v1/checkout/sessions", with(checkout, "mode", ""), 400, "parameter_missing"},
		"no such price":           {"POST", "/v1/checkout/sessions", with(checkout, "line_items[0][price]", "price_x"), 400, "resource_missing"},
		"no such customer":        {"POST", "/v1/checkout/sessions", with(checkout, "customer", "cus_x"), 400, "resource_missing"},
		"a relative URL":          {"POST", "/v1/checkout/sessions", with(checkout, "success_url", "/plan"), 400, "url_invalid"},
		"customer and email":      {"POST", "/v1/checkout/sessions", with(with(checkout, "customer", sub.Customer), "customer_email", "a@b.c"), 400, ""},
		"no such subscription":    {"GET", "/v1/subscriptions/sub_x", nil, 404, "resource_missing"},
		"no such call":            {"GET", "/v1/refunds", nil, 404, ""},
		"both cancel fields":      {"POST", "/v1/subscriptions/" + sub.ID, url.Values{"cancel_at": {""}, "cancel_at_period_end": {"false"}}, 400, ""},
		"a limit of 101":          {"GET", "/v1/invoices", url.Values{"limit": {"101"}}, 400, ""},
		"a known identifier":      {"POST", "/v1/billing/meter_events", usage, 400, ""},
		"usage of 36 days ago":    {"POST", "/v1/billing/meter_events", with(usage, "timestamp", "1792800000"), 400, "timestamp_too_far_in_past"},
		"usage of the future":     {"POST", "/v1/billing/meter_events", with(usage, "timestamp", "1796000000"), 400, "timestamp_in_future"},
		"usage of no meter":       {"POST", "/v1/billing/meter_events", with(usage, "event_name", "other"), 400, "resource_missing"},
		"a summary of odd times":  {"GET", "/v1/billing/meters/mtr_x/event_summaries", url.Values{"customer": {sub.Customer}, "start_time": {"1"}, "end_time": {"60"}}, 404, "resource_missing"},
		"a portal of no customer": {"POST", "/v1/billing_portal/sessions", url.Values{"customer": {"cus_x"}}, 400, "resource_missing"},
	} {
		status, o := call(t, s, c.method, c.path, "", c.fields)
		e, _ := o["error"].(map[string]any)
		code, _ := e["code"].(string)
		if status != c.status || code != c.code || e["type"] != "invalid_request_error" {
			t.Errorf("%s: %d %v", name, status, o)
		}
	}
}

// TestPages lists two pages of invoices, of those that were made since a time.
func TestPages(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	for range 3 {
		subscribe(t, s, "acc1", 0)
		s.Advance(time.Hour)
	}
	_, first := call(t, s, "GET", "/v1/invoices", "", url.Values{"limit": {"2"}})
	data := first["data"].([]any)
	last := data[1].(map[string]any)["id"].(string)
	_, second := call(t, s, "GET", "/v1/invoices", "", url.Values{"limit": {"2"}, "starting_after": {last}})
	if len(data) != 2 || first["has_more"] != true || len(second["data"].([]any)) != 1 || second["has_more"] != false {
		t.Errorf("the pages are %v and %v", first, second)
	}
	_, since := call(t, s, "GET", "/v1/invoices", "", url.Values{"created[gte]": {"1795870800"}}) // an hour after the start
	if got := len(since["data"].([]any)); got != 2 {
		t.Errorf("there are %d invoices since then", got)
	}
}

// TestCancelNow ends a subscription whose invoice is open: the invoice stays open, and is not tried again.
func TestCancelNow(t *testing.T) {
	t.Parallel()
	s := newServer(stripetest.Config{})
	sub := subscribe(t, s, "acc1", 0)
	_ = s.SetCard(sub.Customer, stripetest.CardFailsLater)
	s.Advance(32 * day)
	n := len(s.Events())
	if err := s.CancelNow(sub.ID); err != nil {
		t.Fatal(err)
	}
	if got := kinds(s, n); !slices.Equal(got, []string{"invoice.updated", "customer.subscription.deleted"}) {
		t.Errorf("the events are %v", got)
	}
	s.Advance(60 * day)
	if i := lastInvoice(s); i.Status != "open" || i.Attempts != 1 || !i.NextAttempt.IsZero() || len(s.Ledger().Invoices) != 2 {
		t.Errorf("two months later the invoice is %+v", i)
	}
	if err := s.CancelNow(sub.ID); err == nil {
		t.Error("it could be ended twice")
	}
}
