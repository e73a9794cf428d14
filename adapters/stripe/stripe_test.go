package stripe_test

import (
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// small is a small Stripe with a client of it.
type small struct {
	*stripetest.Server
	*stripe.Client
	clock *clock
	url   string
}

const noon = "2026-11-28T12:00:00Z"

func newSmall(t *testing.T, cfg stripetest.Config) *small {
	t.Helper()
	at, err := time.Parse(time.RFC3339, noon)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{at: at}
	cfg.Clock = c.now
	s := stripetest.New(cfg)
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	client, err := stripe.New(stripe.Config{
		Key: stripetest.DefaultKey, WebhookSecret: stripetest.DefaultSecret, Meter: stripetest.DefaultMeter, URL: web.URL, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &small{s, client, c, web.URL}
}

// order is a Checkout that the account asks for.
func (s *small) order(key, account string, plan billing.Plan) commands.NewCheckout {
	price := map[billing.Plan]string{}
	for i, o := range billing.Offers {
		price[o.Plan] = stripetest.DefaultPrices[i].ID
	}
	return commands.NewCheckout{Account: account, Email: account + "@example.com", CheckoutRequested: billing.CheckoutRequested{
		Key: key, Plan: plan, Price: price[plan], Success: "https://cloudbot.example/plan?paid=1", Cancel: "https://cloudbot.example/plan",
		Expires: s.clock.now().Add(time.Hour), At: s.clock.now(),
	}}
}

// subscribe pays for a plan, and returns the customer and the subscription.
func (s *small) subscribe(t *testing.T, account string, plan billing.Plan) commands.StripeSubscription {
	t.Helper()
	c, err := s.OpenCheckout(t.Context(), s.order("key-"+account, account, plan))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pay(c.Session, stripetest.CardGood, ""); err != nil {
		t.Fatal(err)
	}
	if c, err = s.Checkout(t.Context(), c.Session); err != nil || c.Status != billing.CheckoutComplete {
		t.Fatalf("the paid Checkout is %+v, %v", c, err)
	}
	sub, err := s.Subscription(t.Context(), c.Subscription)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// TestPlan follows one plan: Checkout, the first invoice, a renewal, a change, and its end.
func TestPlan(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	sub := s.subscribe(t, "acc1", billing.Starter)
	start := s.clock.now()
	want := billing.Subscription{
		ID: sub.ID, Customer: sub.Customer, Status: billing.Active, Plan: billing.Starter, Price: stripetest.DefaultPrices[0].ID,
		Created: start, PeriodStart: start, PeriodEnd: start.AddDate(0, 1, 0),
	}
	if sub.Subscription != want || sub.Account != "acc1" || sub.Customer == "" {
		t.Errorf("the subscription is %+v, not %+v", sub, want)
	}
	invoices, err := s.InvoicesOf(t.Context(), sub.Customer, 24)
	if err != nil || len(invoices) != 1 {
		t.Fatalf("the invoices are %v, %v", invoices, err)
	}
	if i := invoices[0]; i.Status != "paid" || i.Paid != 1900 || i.Due != 1900 || i.Currency != "usd" || i.Subscription != sub.ID || i.Account != "acc1" ||
		!i.PeriodStart.Equal(start) || !i.PeriodEnd.Equal(start.AddDate(0, 1, 0)) || i.Number == "" || i.URL == "" || i.PDF == "" {
		t.Errorf("the first invoice is %+v", i)
	}

	s.clock.add(31 * 24 * time.Hour)
	invoices, err = s.InvoicesOf(t.Context(), sub.Customer, 1)
	if err != nil || len(invoices) != 1 {
		t.Fatalf("the invoices are %v, %v", invoices, err)
	}
	if i := invoices[0]; i.Status != "paid" || !i.PeriodStart.Equal(want.PeriodEnd) || !i.PeriodEnd.Equal(start.AddDate(0, 2, 0)) {
		t.Errorf("the second invoice is for %v to %v, %s", i.PeriodStart, i.PeriodEnd, i.Status)
	}

	if sub, err = s.CancelAtPeriodEnd(t.Context(), sub.ID, true); err != nil || !sub.CancelAt.Equal(start.AddDate(0, 2, 0)) {
		t.Errorf("canceled, it ends at %v, %v", sub.CancelAt, err)
	}
	if sub, err = s.CancelAtPeriodEnd(t.Context(), sub.ID, false); err != nil || !sub.CancelAt.IsZero() {
		t.Errorf("no longer canceled, it ends at %v, %v", sub.CancelAt, err)
	}
	if err := s.SetCancel(sub.ID, true); err != nil { // the portal does it in another way
		t.Fatal(err)
	}
	if sub, err = s.Subscription(t.Context(), sub.ID); err != nil || !sub.CancelAt.Equal(start.AddDate(0, 2, 0)) {
		t.Errorf("canceled in the portal, it ends at %v, %v", sub.CancelAt, err)
	}
	if sub, err = s.CancelAtPeriodEnd(t.Context(), sub.ID, false); err != nil || !sub.CancelAt.IsZero() {
		t.Errorf("no longer canceled, it ends at %v, %v", sub.CancelAt, err)
	}
	if err := s.ChangePlan(sub.ID, stripetest.DefaultPrices[1].ID); err != nil {
		t.Fatal(err)
	}
	if sub, err = s.Subscription(t.Context(), sub.ID); err != nil || sub.Price != stripetest.DefaultPrices[1].ID {
		t.Errorf("after the change its price is %s, %v", sub.Price, err)
	}
	if _, err = s.CancelAtPeriodEnd(t.Context(), sub.ID, true); err != nil {
		t.Fatal(err)
	}
	s.clock.add(31 * 24 * time.Hour)
	all, err := s.SubscriptionsOf(t.Context(), sub.Customer)
	if err != nil || len(all) != 1 || all[0].Status != billing.Canceled || !all[0].Ended.Equal(start.AddDate(0, 2, 0)) {
		t.Errorf("at the end it is %+v, %v", all, err)
	}
	if _, err = s.CancelAtPeriodEnd(t.Context(), sub.ID, false); !isRefused(err) {
		t.Errorf("to undo the end of an ended one answers %v", err)
	}
}

func isRefused(err error) bool {
	var no *commands.RefusedError
	return errors.As(err, &no)
}

// TestUsagePrice sells metered usage beside a plan: Stripe bills what was reported, and the plan stays the one of the fixed price,
// although Stripe lists the metered item first.
func TestUsagePrice(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	order := s.order("key-usage", "acc1", billing.Pro)
	order.Usage = stripetest.DefaultUsage.ID
	c, err := s.OpenCheckout(t.Context(), order)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Pay(c.Session, stripetest.CardGood, ""); err != nil {
		t.Fatal(err)
	}
	if c, err = s.Checkout(t.Context(), c.Session); err != nil {
		t.Fatal(err)
	}
	sub, err := s.Subscription(t.Context(), c.Subscription)
	if err != nil || sub.Price != order.Price {
		t.Errorf("the subscription is %+v, %v, want the price of its plan", sub, err)
	}
	day := s.clock.now().Format(time.DateOnly)
	s.clock.add(26 * time.Hour)
	if err := s.ReportUsage(t.Context(), billing.Report{Identifier: "acc1-1", Day: day, Seconds: 10*3600 + 5, Customer: sub.Customer, At: s.clock.now()}); err != nil {
		t.Fatal(err)
	}
	s.clock.add(31 * 24 * time.Hour)
	invoices, err := s.InvoicesOf(t.Context(), sub.Customer, 1)
	if want := stripetest.DefaultPrices[1].Amount + 10*stripetest.DefaultUsage.Amount; err != nil || len(invoices) != 1 || invoices[0].Paid != want || !invoices[0].PeriodStart.Equal(sub.PeriodEnd) {
		t.Errorf("the next invoice is %+v, %v, want %d cents for the period from %v", invoices, err, want, sub.PeriodEnd)
	}
	if err := s.CheckUsagePrice(t.Context(), stripetest.DefaultUsage.ID); err != nil {
		t.Errorf("the usage price: %v", err)
	}
	var refused *commands.RefusedError
	if err := s.CheckUsagePrice(t.Context(), order.Price); !errors.As(err, &refused) {
		t.Errorf("a plan's price as the usage price: %v, want a refusal", err)
	}
	if err := s.CheckUsagePrice(t.Context(), "price_none"); !errors.Is(err, commands.ErrNotAtStripe) {
		t.Errorf("no such price: %v, want %v", err, commands.ErrNotAtStripe)
	}
}
