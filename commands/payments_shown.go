package commands

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// These functions return the commands that record what Stripe shows of an account. Call them in look.

// newestInvoices is how many invoices of a customer are read at a time.
const newestInvoices = 100

// checkoutShown looks at the account's Checkout that may still be paid. If it is complete, it also looks at what the customer
// has: deliveries about that may have come before the log knew whose customer it is.
func (c *Payments) checkoutShown(ctx context.Context, s billing.State) ([]billing.Command, error) {
	open := s.Checkout
	if open == nil || open.Session == "" {
		return nil, nil
	}
	shown, err := c.Stripe.Checkout(ctx, open.Session)
	if errors.Is(err, ErrNotAtStripe) && c.Now().After(open.Expires) {
		return []billing.Command{billing.LoseCheckout{CheckoutLost: billing.CheckoutLost{Key: open.Key, Reason: "Stripe does not have it.", At: c.Now()}}}, nil
	}
	if err != nil {
		return nil, err
	}
	cmds := []billing.Command{billing.SeeCheckout{Terms: c.Terms, CheckoutSeen: billing.CheckoutSeen{
		Key: open.Key, Session: open.Session, Status: shown.Status, Customer: shown.Customer, Subscription: shown.Subscription, At: c.Now(),
	}}}
	if shown.Status != billing.CheckoutComplete || shown.Customer == "" {
		return cmds, nil
	}
	s.Customer = shown.Customer
	more, err := c.customerShown(ctx, s)
	return append(cmds, more...), err
}

// customerShown looks at all subscriptions of the account's customer and at its newest invoices, and one by one at what the
// log has and those lists do not.
func (c *Payments) customerShown(ctx context.Context, s billing.State) ([]billing.Command, error) {
	if s.Customer == "" {
		return nil, nil
	}
	subs, err := c.Stripe.SubscriptionsOf(ctx, s.Customer)
	if err != nil {
		return nil, err
	}
	invoices, err := c.Stripe.InvoicesOf(ctx, s.Customer, newestInvoices)
	if err != nil {
		return nil, err
	}
	var cmds []billing.Command
	listed := map[string]bool{}
	for _, sub := range subs {
		listed[sub.ID] = true
		cmds = append(cmds, c.shownSubscription(s, sub))
	}
	for _, inv := range invoices {
		listed[inv.ID] = true
		cmds = append(cmds, c.shownInvoice(inv))
	}
	for _, id := range slices.Sorted(maps.Keys(s.Subscriptions)) {
		if !listed[id] && !s.Subscriptions[id].Status.Over() {
			more, err := c.subscriptionShown(ctx, s, id)
			if err != nil {
				return nil, err
			}
			cmds = append(cmds, more...)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Invoices)) {
		if !listed[id] && !s.Invoices[id].Settled() {
			more, err := c.invoiceAlone(ctx, s, id)
			if err != nil {
				return nil, err
			}
			cmds = append(cmds, more...)
		}
	}
	return cmds, nil
}

// missingFor is how long after the end of its paid period a subscription ends that Stripe does not have.
const missingFor = 3 * 24 * time.Hour

// subscriptionShown looks at one subscription. Stripe keeps subscriptions that have ended, so one that it does not have is
// test data that was deleted, or the key is of another account of Stripe. What was paid is used; then the subscription ends.
func (c *Payments) subscriptionShown(ctx context.Context, s billing.State, id string) ([]billing.Command, error) {
	sub, err := c.Stripe.Subscription(ctx, id)
	known, recorded := s.Subscriptions[id]
	if errors.Is(err, ErrNotAtStripe) && recorded {
		c.Logger.ErrorContext(ctx, "subscription missing at Stripe: check that STRIPE_SECRET_KEY is of the same account and mode as before", "subscription", id)
		if c.Now().Before(known.PeriodEnd.Add(missingFor)) {
			return nil, nil
		}
		known.Status, known.Ended = billing.Canceled, c.Now()
		return []billing.Command{billing.SeeSubscription{Subscription: known, At: c.Now(), Terms: c.Terms}}, nil
	}
	if err != nil {
		return nil, err
	}
	return []billing.Command{c.shownSubscription(s, sub)}, nil
}

// invoiceShown looks at one invoice and at its subscription.
func (c *Payments) invoiceShown(ctx context.Context, id string, s billing.State) ([]billing.Command, error) {
	inv, err := c.Stripe.Invoice(ctx, id)
	if err != nil {
		return nil, err
	}
	cmds := []billing.Command{c.shownInvoice(inv)}
	if inv.Subscription == "" {
		return cmds, nil
	}
	more, err := c.subscriptionShown(ctx, s, inv.Subscription)
	if errors.Is(err, ErrNotAtStripe) {
		return cmds, nil
	}
	return append(cmds, more...), err
}

// invoiceAlone looks at one invoice that the log has. Only a draft can be deleted at Stripe.
func (c *Payments) invoiceAlone(ctx context.Context, s billing.State, id string) ([]billing.Command, error) {
	inv, err := c.Stripe.Invoice(ctx, id)
	if known := s.Invoices[id]; errors.Is(err, ErrNotAtStripe) {
		if known.Status != "draft" {
			c.Logger.ErrorContext(ctx, "invoice missing at Stripe: check that STRIPE_SECRET_KEY is of the same account and mode as before", "invoice", id)
			return nil, nil
		}
		known.Status, known.NextAttempt = billing.InvoiceDeleted, time.Time{}
		return []billing.Command{billing.SeeInvoice{Invoice: known, At: c.Now()}}, nil
	}
	if err != nil {
		return nil, err
	}
	return []billing.Command{c.shownInvoice(inv)}, nil
}

func (c *Payments) shownSubscription(s billing.State, sub StripeSubscription) billing.Command {
	return billing.SeeSubscription{Subscription: c.planned(s, sub), At: c.Now(), Terms: c.Terms}
}

func (c *Payments) shownInvoice(inv StripeInvoice) billing.Command {
	return billing.SeeInvoice{Invoice: inv.Invoice, At: c.Now()}
}

// planned returns a subscription with its plan. If the operator has changed the price ids, a subscription whose price has not
// changed keeps the plan that it was recorded with: its metadata still name the first plan, and the user may have changed it.
func (c *Payments) planned(s billing.State, sub StripeSubscription) billing.Subscription {
	known, recorded := s.Subscriptions[sub.ID]
	if _, ok := c.Prices[sub.Price]; !ok && recorded && known.Price == sub.Price && known.Plan != "" {
		sub.Subscription.Plan = known.Plan
		return sub.Subscription
	}
	return c.plan(sub)
}
