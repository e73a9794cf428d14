package commands_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// till is a small Stripe that loses objects and counts usage.
type till struct {
	*commandstest.Stripe
	gone    map[string]bool // objects that it does not have
	fails   error           // what each call that looks returns; nil: it works
	looks   int
	report  func(billing.Report) error // what happens to a report after it was counted; nil: nothing
	refuse  error                      // what a report gets that is not counted; nil: it is counted
	sent    []billing.Report
	counted map[string]int64 // by day
	seen    map[string]time.Time
}

func (c *till) look(id string) error {
	c.looks++
	if c.gone[id] {
		return commands.ErrNotAtStripe
	}
	return c.fails
}

func (c *till) Checkout(ctx context.Context, id string) (commands.Checkout, error) {
	if err := c.look(id); err != nil {
		return commands.Checkout{}, err
	}
	return c.Stripe.Checkout(ctx, id)
}

func (c *till) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	if err := c.look(id); err != nil {
		return commands.StripeSubscription{}, err
	}
	return c.Stripe.Subscription(ctx, id)
}

func (c *till) Invoice(ctx context.Context, id string) (commands.StripeInvoice, error) {
	if err := c.look(id); err != nil {
		return commands.StripeInvoice{}, err
	}
	return c.Stripe.Invoice(ctx, id)
}

func (c *till) EachSubscription(ctx context.Context, do func([]commands.StripeSubscription) error) error {
	return c.Stripe.EachSubscription(ctx, func(page []commands.StripeSubscription) error {
		var left []commands.StripeSubscription
		for _, s := range page {
			if !c.gone[s.ID] {
				left = append(left, s)
			}
		}
		return do(left)
	})
}

func (c *till) SubscriptionsOf(ctx context.Context, customer string) ([]commands.StripeSubscription, error) {
	list, err := c.Stripe.SubscriptionsOf(ctx, customer)
	var left []commands.StripeSubscription
	for _, s := range list {
		if !c.gone[s.ID] {
			left = append(left, s)
		}
	}
	return left, err
}

func (c *till) EachInvoice(ctx context.Context, since time.Time, do func([]commands.StripeInvoice) error) error {
	return c.Stripe.EachInvoice(ctx, since, func(page []commands.StripeInvoice) error { return do(c.left(page)) })
}

func (c *till) InvoicesOf(ctx context.Context, customer string, limit int) ([]commands.StripeInvoice, error) {
	list, err := c.Stripe.InvoicesOf(ctx, customer, limit)
	return c.left(list), err
}

func (c *till) left(list []commands.StripeInvoice) (left []commands.StripeInvoice) {
	for _, i := range list {
		if !c.gone[i.ID] {
			left = append(left, i)
		}
	}
	return left
}

// remembered are the deliveries that were handled.
type remembered struct {
	ids   map[string]bool
	fails error
}

func (r *remembered) Handled(_ context.Context, id string) (bool, error) { return r.ids[id], nil }
func (r *remembered) Remember(_ context.Context, id string) error {
	if r.fails == nil {
		r.ids[id] = true
	}
	return r.fails
}

// counter is a shop with a till, whose deliveries are remembered.
type counter struct {
	*shop
	till       *till
	remembered *remembered
	user       commands.Origin
}

func newCounter(t testing.TB) *counter {
	c := &counter{shop: newShop(), remembered: &remembered{ids: map[string]bool{}}}
	c.till = &till{Stripe: c.stripe, gone: map[string]bool{}, counted: map[string]int64{}, seen: map[string]time.Time{}}
	c.payments.Stripe, c.payments.Deliveries = c.till, c.remembered
	c.user, _ = c.SignUp(t, "ada@example.org")
	return c
}

func (c *counter) state(t testing.TB) billing.State {
	t.Helper()
	list, err := c.payers.Billed(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		if b.Account == c.user.Account {
			return b.State
		}
	}
	return billing.State{}
}

func (c *counter) deliver(t testing.TB, id, kind, object string) commands.Delivered {
	t.Helper()
	out, err := c.payments.Deliver(t.Context(), commands.Delivery{ID: id, Type: kind, ObjectID: object})
	if err != nil {
		t.Fatalf("deliver %s: %v", kind, err)
	}
	return out
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	_, session := c.checkout(t, c.user, billing.Pro)
	sub := c.stripe.Pay(session)
	// The subscription's delivery may come first. The account's own Checkout shows whose it is.
	if got := c.deliver(t, "evt_1", "customer.subscription.created", sub); got != commands.Handled {
		t.Errorf("got %s, want %s", got, commands.Handled)
	}
	s := c.state(t)
	if got, _ := s.Current(); got.ID != sub || got.Status != billing.Active || s.Checkout != nil || len(s.Invoices) != 1 {
		t.Errorf("got %+v with %d invoices, want the active subscription %s with one", got, len(s.Invoices), sub)
	}
	head := c.Last(t)
	for id, about := range map[string][2]string{
		"evt_2": {"checkout.session.completed", session}, "evt_3": {"customer.subscription.updated", sub}, "evt_4": {"customer.created", "cus_000001"},
		"evt_5": {"customer.subscription.updated", ""}, "evt_6": {"payment_intent.created", sub},
	} {
		c.deliver(t, id, about[0], about[1])
	}
	if c.Last(t) != head {
		t.Error("deliveries about what the log has wrote to it")
	}
	// An invoice also shows how its subscription is now: its own delivery may be lost.
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	invoice := c.stripe.Bill(sub, "open")
	c.deliver(t, "evt_7", "invoice.payment_failed", invoice)
	if s := c.state(t); s.Subscriptions[sub].Status != billing.PastDue || s.Invoices[invoice].Status != "open" || s.Access.Level != billing.Due {
		t.Errorf("got %s, invoice %s, access %s, want past_due, open and due", s.Subscriptions[sub].Status, s.Invoices[invoice].Status, s.Access.Level)
	}
}

func TestDeliverOnce(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	c.remembered.fails = errors.New("the database is away")
	d := commands.Delivery{ID: "evt_1", Type: "customer.subscription.updated", ObjectID: sub}
	if _, err := c.payments.Deliver(t.Context(), d); err == nil {
		t.Error("got no error, want Stripe to repeat what was not remembered")
	}
	c.remembered.fails = nil
	head := c.Last(t)
	if c.deliver(t, "evt_1", d.Type, sub) != commands.Handled || c.Last(t) != head {
		t.Error("a repeated delivery wrote to the log")
	}
	looks := c.till.looks
	if c.deliver(t, "evt_1", d.Type, sub) != commands.Handled || c.till.looks != looks {
		t.Errorf("a delivery that was handled made %d calls to Stripe, want none", c.till.looks-looks)
	}
}

// A delivery that cannot be handled is not remembered.
func TestDeliverFails(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	d := commands.Delivery{ID: "evt_1", Type: "customer.subscription.updated", ObjectID: sub}
	for _, fails := range []error{commandstest.ErrNoAnswer, &commands.RefusedError{Code: "api_key_expired"}} {
		c.till.fails = fails
		if _, err := c.payments.Deliver(t.Context(), d); err == nil || len(c.remembered.ids) > 0 {
			t.Errorf("%v: got %v, remembered %v, want an error and nothing", fails, err, c.remembered.ids)
		}
	}
	c.till.fails = nil
	c.Refuse.Store(true)
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	if _, err := c.payments.Deliver(t.Context(), d); err == nil || len(c.remembered.ids) > 0 {
		t.Errorf("log away: got %v, remembered %v, want an error and nothing", err, c.remembered.ids)
	}
}

// What is no account's changes nothing: another program's objects, and objects that Stripe does not have.
func TestDeliverForeign(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	c.buy(t, c.user, billing.Starter)
	other := c.newStranger(t)
	head := c.Last(t)
	for id, about := range map[string][2]string{
		"evt_1": {"checkout.session.completed", other.session}, "evt_2": {"customer.subscription.updated", other.sub}, "evt_3": {"invoice.paid", other.invoice},
		"evt_4": {"customer.subscription.deleted", "sub_none"}, "evt_5": {"invoice.deleted", "in_none"}, "evt_6": {"checkout.session.expired", "cs_none"},
	} {
		if got := c.deliver(t, id, about[0], about[1]); got != commands.Ignored {
			t.Errorf("%s: got %s, want %s", about[0], got, commands.Ignored)
		}
	}
	if c.Last(t) != head {
		t.Error("foreign deliveries wrote to the log")
	}
}

// stranger is a subscription that another program sold in the same account of Stripe. It names our account.
type stranger struct{ session, sub, invoice string }

func (c *counter) newStranger(t testing.TB) (s stranger) {
	t.Helper()
	out, err := c.stripe.OpenCheckout(t.Context(), commands.NewCheckout{Account: c.user.Account, CheckoutRequested: billing.CheckoutRequested{
		Key: "other", Plan: billing.Enterprise, Price: "price_enterprise", Expires: c.Clock.Now().Add(time.Hour),
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.session, s.sub = out.Session, c.stripe.Pay(out.Session)
	s.invoice = c.stripe.Bill(s.sub, "paid")
	return s
}

// The account of a customer that the read models do not know yet is found once they have followed the log.
func TestDeliverWhileReadModelsAreBehind(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	c.payments.Stripe = anonymous{c.till}
	c.payers.Behind.Store(c.Last(t))
	time.AfterFunc(100*time.Millisecond, func() { c.payers.Behind.Store(0) })
	if got := c.deliver(t, "evt_1", "customer.subscription.updated", sub); got != commands.Handled {
		t.Errorf("got %s, want %s", got, commands.Handled)
	}
	if s := c.state(t); s.Subscriptions[sub].Status != billing.PastDue {
		t.Errorf("got %s, want past_due", s.Subscriptions[sub].Status)
	}
}

// anonymous is a till whose subscriptions name no account, as those that an operator makes.
type anonymous struct{ *till }

func (a anonymous) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	s, err := a.till.Subscription(ctx, id)
	s.Account = ""
	return s, err
}

// An invoice that is older than all those that are kept is not recorded again with each delivery about it.
func TestDeliverOldInvoice(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	old := c.stripe.Bill(sub, "paid")
	c.sync(t, c.user)
	for range 2 {
		c.Clock.Advance(time.Hour)
		for range 70 {
			c.stripe.Bill(sub, "paid")
		}
		c.sync(t, c.user)
	}
	if _, kept := c.state(t).Invoices[old]; kept {
		t.Fatal("the oldest invoice is kept; bill more")
	}
	head := c.Last(t)
	if got := c.deliver(t, "evt_1", "invoice.updated", old); got != commands.Handled || c.Last(t) != head {
		t.Errorf("got %s and %d events, want %s and none", got, c.Last(t)-head, commands.Handled)
	}
}
