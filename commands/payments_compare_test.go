package commands_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

func TestCompareFindsWhatNoDeliveryTold(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	draft := c.stripe.Bill(sub, "draft")
	c.sync(t, c.user)
	compare := func() commands.Comparison {
		t.Helper()
		found, err := c.payments.Compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got := compare(); got.Accounts != 1 || got.Different != 0 || got.Subscriptions != 1 || got.Invoices != 2 {
		t.Errorf("got %+v, want one account without a difference", got)
	}
	c.till.gone[draft] = true
	if got := compare(); got.Different != 1 || got.Changed != 1 {
		t.Errorf("a draft was deleted: got %+v, want one account that was corrected", got)
	}
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	late := c.stripe.Bill(sub, "open")
	if got := compare(); got.Different != 1 || got.Changed != 1 {
		t.Errorf("got %+v, want one account that was corrected", got)
	}
	s := c.state(t)
	if s.Subscriptions[sub].Status != billing.PastDue || s.Invoices[late].Status != "open" || s.Invoices[draft].Status != billing.InvoiceDeleted {
		t.Errorf("got %s, %s and %s, want past_due, open and deleted", s.Subscriptions[sub].Status, s.Invoices[late].Status, s.Invoices[draft].Status)
	}
	if got := compare(); got.Different != 0 {
		t.Errorf("again: got %+v, want no difference", got)
	}
	other := c.newStranger(t)
	if got := compare(); got.Foreign != 3 || len(got.Unlinked) != 1 || got.Unlinked[0] != other.sub {
		t.Errorf("got %+v, want a subscription that names an account which did not order it", got)
	}
}

// A subscription that Stripe does not have stays as it is while it is paid: the key may be another account's for a while.
func TestCompareWithoutTheSubscription(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	c.till.gone[sub] = true
	for _, step := range []struct {
		after time.Duration
		want  billing.Status
	}{{0, billing.Active}, {33 * 24 * time.Hour, billing.Active}, {2 * 24 * time.Hour, billing.Canceled}} {
		c.Clock.Advance(step.after)
		if _, err := c.payments.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := c.state(t).Subscriptions[sub].Status; got != step.want {
			t.Errorf("%v later: got %s, want %s", step.after, got, step.want)
		}
	}
	c.till.gone[sub] = false
	if _, err := c.payments.Compare(t.Context()); err != nil || c.state(t).Subscriptions[sub].Status != billing.Active {
		t.Errorf("got %s, %v, want what Stripe shows again", c.state(t).Subscriptions[sub].Status, err)
	}
}

// An account that cannot be compared does not keep the others from it.
func TestCompareGoesOn(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	first := c.buy(t, c.user, billing.Pro)
	second, _ := c.SignUp(t, "bea@example.org")
	sub := c.buy(t, second, billing.Pro)
	c.till.gone[first], c.till.fails = true, commandstest.ErrNoAnswer
	c.payments.Stripe = brittle{c.till, first}
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.Unpaid })
	found, err := c.payments.Compare(t.Context())
	if err == nil || found.Failed != 1 || found.Changed != 1 {
		t.Errorf("got %+v, %v, want one that failed and one that was corrected", found, err)
	}
}

// brittle is a till that does not answer about one subscription.
type brittle struct {
	*till
	id string
}

func (b brittle) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	if id == b.id {
		return commands.StripeSubscription{}, commandstest.ErrNoAnswer
	}
	return b.Stripe.Subscription(ctx, id)
}

// A subscription keeps its plan when the operator changes the price ids, until its price changes.
func TestPricesThatAreNoLongerSold(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Starter)
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Price = "price_pro" }) // in the portal: its metadata still say starter
	c.sync(t, c.user)
	c.payments.Prices = maps.Clone(c.payments.Prices)
	delete(c.payments.Prices, "price_pro")
	c.payments.Prices["price_pro_2027"] = billing.Pro
	c.stripe.Change(sub, func(s *billing.Subscription) { s.PeriodEnd = s.PeriodEnd.AddDate(0, 1, 0) })
	c.deliver(t, "evt_1", "customer.subscription.updated", sub)
	if got := c.state(t).Subscriptions[sub]; got.Plan != billing.Pro {
		t.Errorf("got %q, want the plan that it was recorded with", got.Plan)
	}
	if found, err := c.payments.Compare(t.Context()); err != nil || found.Different != 0 {
		t.Errorf("got %+v, %v, want no difference", found, err)
	}
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Price = "price_of_another_product" })
	c.deliver(t, "evt_2", "customer.subscription.updated", sub)
	if got := c.state(t).Subscriptions[sub]; got.Plan != billing.Starter {
		t.Errorf("got %q, want the plan of its metadata", got.Plan)
	}
}

func TestCompareCheckouts(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	_, session := c.checkout(t, c.user, billing.Pro)
	compare := func() {
		t.Helper()
		if err := c.payments.CompareCheckouts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.till.gone[session] = true
	if err := c.payments.CompareCheckouts(t.Context()); !errors.Is(err, commands.ErrNotAtStripe) || c.state(t).Checkout == nil {
		t.Errorf("got %v, want a Checkout that is kept while it may be paid: perhaps the key is another account's", err)
	}
	c.till.gone[session] = false
	c.stripe.Pay(session)
	compare()
	if s := c.state(t); s.Checkout != nil || s.Several() != 1 {
		t.Errorf("got %+v, want the subscription", s)
	}
	bea, _ := c.SignUp(t, "bea@example.org")
	c.stripe.After = func(call string) error {
		if strings.HasPrefix(call, "OpenCheckout") {
			return commandstest.ErrNoAnswer
		}
		return nil
	}
	if _, _, err := c.payments.Checkout(t.Context(), bea, billing.Pro, success, cancel); err == nil {
		t.Fatal("got a Checkout without an answer")
	}
	compare()
	if open, _ := c.payers.CheckingOut(t.Context(), "", 10); len(open) != 1 {
		t.Errorf("got %d open Checkouts, want the one without an answer", len(open))
	}
	c.Clock.Advance(2 * time.Hour)
	compare()
	if open, _ := c.payers.CheckingOut(t.Context(), "", 10); len(open) != 0 {
		t.Errorf("got %d open Checkouts, want none: its time is over", len(open))
	}
}

// The customer of an account was deleted at Stripe, which refuses to list by it. What the log has is looked at one by one.
func TestCompareWithoutTheCustomer(t *testing.T) {
	t.Parallel()
	c := newCounter(t)
	sub := c.buy(t, c.user, billing.Pro)
	c.payments.Stripe = customerless{c.till}
	c.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.Canceled })
	if found, err := c.payments.Compare(t.Context()); err != nil || found.Changed != 1 || c.state(t).Subscriptions[sub].Status != billing.Canceled {
		t.Errorf("got %+v, %v, want the end of the subscription", found, err)
	}
}

type customerless struct{ *till }

func (customerless) SubscriptionsOf(context.Context, string) ([]commands.StripeSubscription, error) {
	return nil, &commands.RefusedError{Code: "resource_missing", Reason: "No such customer."}
}

func (customerless) InvoicesOf(context.Context, string, int) ([]commands.StripeInvoice, error) {
	return nil, &commands.RefusedError{Code: "resource_missing", Reason: "No such customer."}
}
