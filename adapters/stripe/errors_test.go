package stripe_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

const opening = "POST /v1/checkout/sessions"

// TestFaults meets each fault at a Checkout: what the error proves, and what the same call does when it is repeated.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault     string
		effect    int  // Checkouts after the first call
		remembers bool // the fault stays with the key, for a day
	}{
		{stripetest.Cut, 0, false},
		{stripetest.Lost, 1, false},
		{stripetest.Busy, 0, false},
		{stripetest.Locked, 0, false},
		{stripetest.Proxy, 0, false},
		{stripetest.Error, 0, true},
		{stripetest.Broken, 1, true},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			s := newSmall(t, stripetest.Config{})
			if _, err := s.Price(t.Context(), stripetest.DefaultPrices[0].ID); err != nil { // so that the connection is a used one
				t.Fatal(err)
			}
			s.FailNext(stripetest.Next{Call: opening, Fault: c.fault})
			order := s.order("key", "acc1", billing.Pro)
			if _, err := s.OpenCheckout(t.Context(), order); err == nil || isRefused(err) || errors.Is(err, commands.ErrNotAtStripe) {
				t.Errorf("the error is %v, which does not say that the effect is unknown", err)
			} else if harmful(err.Error()) {
				t.Errorf("the error shows an address or an answer: %v", err)
			}
			if l := s.Ledger(); len(l.Checkouts) != c.effect || l.Calls[opening] != 1 {
				t.Errorf("there are %d Checkouts after %d calls", len(l.Checkouts), l.Calls[opening])
			}
			first, err := s.OpenCheckout(t.Context(), order)
			if c.remembers != (err != nil) {
				t.Errorf("the same call again: %v", err)
			}
			second, err := s.OpenCheckout(t.Context(), order)
			if c.remembers != (err != nil) || first != second {
				t.Errorf("the same call for the third time: %+v, %v, not %+v", second, err, first)
			}
			if l := s.Ledger(); len(l.Checkouts) != max(c.effect, 1) && !c.remembers {
				t.Errorf("there are %d Checkouts", len(l.Checkouts))
			}
			s.clock.add(24 * time.Hour)
			order.Expires = s.clock.now().Add(time.Hour)
			if third, err := s.OpenCheckout(t.Context(), order); err != nil || third.Session == first.Session {
				t.Errorf("after a day the key is not forgotten: %+v, %v", third, err)
			}
		})
	}
}

func harmful(text string) bool {
	return strings.Contains(text, "://") || strings.Contains(text, "<") || strings.Contains(text, "sk_") || strings.Contains(text, "whsec_")
}

// TestRefusals are answers that prove that a call had no effect.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	ctx := t.Context()
	paid, err := s.OpenCheckout(ctx, s.order("k1", "acc1", billing.Pro))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pay(paid.Session, stripetest.CardGood, ""); err != nil {
		t.Fatal(err)
	}
	gone := s.subscribe(t, "acc2", billing.Pro)
	if err := s.DeleteCustomer(gone.Customer); err != nil {
		t.Fatal(err)
	}
	again := s.order("k4", "acc2", billing.Pro)
	again.Customer = gone.Customer
	if sub, err := s.Subscription(ctx, gone.ID); err != nil || sub.Status != billing.Canceled || sub.Customer != gone.Customer {
		t.Errorf("a deleted customer's subscription is %+v, %v", sub, err)
	}
	late, unknown := s.order("k2", "acc1", billing.Pro), s.order("k3", "acc1", billing.Pro)
	late.Expires = s.clock.now().Add(29 * time.Minute)
	unknown.Price = "price_unknown"
	stranger, err := stripe.New(stripe.Config{Key: "sk_test_thisKeyIsOfAnotherAccount", URL: s.url})
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"a complete one expires": func() error { _, err := s.ExpireCheckout(ctx, paid.Session); return err },
		"too short":              func() error { _, err := s.OpenCheckout(ctx, late); return err },
		"a deleted customer":     func() error { _, err := s.OpenCheckout(ctx, again); return err },
		"unknown price":          func() error { _, err := s.OpenCheckout(ctx, unknown); return err },
		"the key of another":     func() error { _, err := stranger.Checkout(ctx, paid.Session); return err },
		"the portal of no one":   func() error { _, err := s.OpenPortal(ctx, "cus_unknown", "https://cloudbot.example"); return err },
		"usage of an unknown user": func() error {
			return s.ReportUsage(ctx, billing.Report{Identifier: "x", Day: "2026-11-27", Customer: "cus_0"})
		},
		"usage of long ago": func() error {
			return s.ReportUsage(ctx, billing.Report{Identifier: "x", Day: "2026-10-01", Customer: s.Ledger().Invoices[0].Customer})
		},
	} {
		if err := call(); !isRefused(err) || harmful(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, call := range map[string]func() error{
		"subscription": func() error { _, err := s.Subscription(ctx, "sub_unknown"); return err },
		"invoice":      func() error { _, err := s.Invoice(ctx, "in_unknown"); return err },
		"Checkout":     func() error { _, err := s.Checkout(ctx, "cs_test_unknown"); return err },
		"price":        func() error { _, err := s.Price(ctx, "price_unknown"); return err },
	} {
		if err := call(); !errors.Is(err, commands.ErrNotAtStripe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOtherFields repeats a key with other fields. The answer proves nothing about the first call.
func TestOtherFields(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	order := s.order("key", "acc1", billing.Pro)
	s.FailNext(stripetest.Next{Call: opening, Fault: stripetest.Lost})
	_, _ = s.OpenCheckout(t.Context(), order)
	order.Email = "another@example.com"
	if _, err := s.OpenCheckout(t.Context(), order); err == nil || isRefused(err) {
		t.Errorf("the error is %v, and the first call had its effect", err)
	}
}

// TestUsage reports usage once, however often it is sent within a day.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{MeterLag: time.Minute})
	sub := s.subscribe(t, "acc1", billing.Pro)
	r := billing.Report{Identifier: "acc1-2026-11-27-1", Day: "2026-11-27", Seconds: 3600, Customer: sub.Customer}
	s.FailNext(stripetest.Next{Call: "POST /v1/billing/meter_events", Fault: stripetest.Lost})
	if err := s.ReportUsage(t.Context(), r); err == nil || isRefused(err) {
		t.Errorf("a lost answer is %v", err)
	}
	if shown, err := s.UsageShown(t.Context(), sub.Customer, r.Day); err != nil || shown != 0 {
		t.Errorf("at once the meter shows %d, %v", shown, err)
	}
	s.clock.add(time.Minute)
	shows := func(want int64) {
		t.Helper()
		if shown, err := s.UsageShown(t.Context(), sub.Customer, r.Day); err != nil || shown != want {
			t.Errorf("the meter shows %d seconds, not %d: %v", shown, want, err)
		}
	}
	shows(3600)
	if err := s.ReportUsage(t.Context(), r); err != nil {
		t.Errorf("the same call again: %v", err)
	}
	other, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, Meter: stripetest.DefaultMeter, URL: s.url, Transport: freshKeys{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.ReportUsage(t.Context(), r); err != nil { // Stripe refuses the identifier then, and has no code for it
		t.Errorf("the same identifier under another key: %v", err)
	}
	s.clock.add(time.Minute)
	shows(3600)
	for _, other := range []string{"2026-11-26", "2026-11-28"} {
		if shown, err := s.UsageShown(t.Context(), sub.Customer, other); err != nil || shown != 0 {
			t.Errorf("%s has %d seconds, %v", other, shown, err)
		}
	}
	s.clock.add(24 * time.Hour)
	if err := s.ReportUsage(t.Context(), r); err != nil {
		t.Errorf("after a day: %v", err)
	}
	s.clock.add(time.Minute)
	shows(7200) // this is what a report that is sent again too late does
}

// freshKeys gives each call a key of its own.
type freshKeys struct{}

var keyed atomic.Int64

func (freshKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Idempotency-Key", "fresh"+string(rune('a'+keyed.Add(1))))
	return http.DefaultTransport.RoundTrip(r)
}

// TestForeignAnswers are answers that are not Stripe's. None proves anything, and none is shown.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"a proxy's 403":     {403, "<html>http://proxy.example says no</html>"},
		"a 404 of no JSON":  {404, "not found"},
		"an empty error":    {400, "{}"},
		"an empty object":   {200, "{}"},
		"no object":         {200, "[]"},
		"a cut-off object":  {200, `{"id": "cs_test_1", "status": "op`},
		"an unknown status": {200, `{"id": "cs_test_1", "status": "new", "url": "https://x"}`},
		"open without URL":  {200, `{"id": "cs_test_1", "status": "open", "url": null}`},
		"a redirect":        {307, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			followed := atomic.Bool{}
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				followed.Store(followed.Load() || r.URL.Path == "/elsewhere")
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			}))
			defer web.Close()
			c, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, URL: web.URL})
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.OpenCheckout(t.Context(), commands.NewCheckout{CheckoutRequested: billing.CheckoutRequested{Key: "k", Success: "https://cloudbot.example"}})
			if err == nil || isRefused(err) || errors.Is(err, commands.ErrNotAtStripe) || harmful(err.Error()) || followed.Load() {
				t.Errorf("%+v, %v", got, err)
			}
			if _, err := c.Subscription(t.Context(), "sub_1"); err == nil || isRefused(err) || errors.Is(err, commands.ErrNotAtStripe) {
				t.Errorf("a subscription: %v", err)
			}
		})
	}
}

// TestNoAnswer ends a call when its context or its time ends.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	s.FailNext(stripetest.Next{Call: opening, Fault: stripetest.Hang, Times: 2})
	ctx, cancel := context.WithCancel(t.Context())
	c, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, URL: s.url, Transport: sent{cancel}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenCheckout(ctx, s.order("k1", "acc1", billing.Pro)); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled call: %v", err)
	}
	quick, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, URL: s.url, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := quick.OpenCheckout(t.Context(), s.order("k2", "acc1", billing.Pro)); !errors.Is(err, context.DeadlineExceeded) || harmful(err.Error()) {
		t.Errorf("a call without an answer: %v", err)
	}
}

// sent does something once a call has been written to the server.
type sent struct{ do func() }

func (s sent) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { s.do() }}
	return http.DefaultTransport.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// TestTurns makes at most eight calls at a time.
func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stripeHas := &slow{leave: make(chan struct{})}
		c, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, Transport: stripeHas})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 20)
		for range 20 {
			go func() {
				_, err := c.OpenPortal(t.Context(), "cus_1", "https://cloudbot.example")
				done <- err
			}()
		}
		synctest.Wait()
		if now := stripeHas.calls.Load(); now != 8 {
			t.Errorf("%d calls are under way", now)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.OpenPortal(ended, "cus_1", "https://cloudbot.example"); !errors.Is(err, context.Canceled) {
			t.Errorf("a call that waits for its turn: %v", err)
		}
		close(stripeHas.leave)
		for range 20 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// slow answers when it may.
type slow struct {
	calls atomic.Int64
	leave chan struct{}
}

func (s *slow) RoundTrip(*http.Request) (*http.Response, error) {
	s.calls.Add(1)
	<-s.leave
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"url": "https://portal.example"}`))}, nil
}
