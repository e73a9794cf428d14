package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// invoicesShown is how many invoices a user sees.
const invoicesShown = 24

// CancelAtPeriodEnd cancels the account's subscription at the end of the period that is paid, and returns it. If the account
// has several by mistake, all are cancelled. It returns billing.ErrNoSubscription if there is none that has not ended.
func (c *Payments) CancelAtPeriodEnd(ctx context.Context, o Origin) (billing.Subscription, error) {
	return c.renew(ctx, o, false)
}

// Resume takes the cancellation of the account's subscription back, and returns the subscription.
func (c *Payments) Resume(ctx context.Context, o Origin) (billing.Subscription, error) {
	return c.renew(ctx, o, true)
}

func (c *Payments) renew(ctx context.Context, o Origin, renews bool) (billing.Subscription, error) {
	s, err := billings.Fold(ctx, c.Store, o.Account)
	if err != nil {
		return billing.Subscription{}, err
	}
	current, ok := s.Current()
	if !ok || current.Status.Over() {
		return billing.Subscription{}, billing.ErrNoSubscription
	}
	for _, id := range slices.Sorted(maps.Keys(s.Subscriptions)) {
		if s.Subscriptions[id].Status.Over() || renews && id != current.ID {
			continue
		}
		// It has an effect once, however often it is called. A refusal shows in how the subscription is now.
		if _, err := c.Stripe.CancelAtPeriodEnd(ctx, id, !renews); err != nil && !errors.As(err, new(*RefusedError)) && !errors.Is(err, ErrNotAtStripe) {
			return billing.Subscription{}, c.forUser(ctx, o.Account, asked("to change a subscription", err))
		}
	}
	s, err = c.look(ctx, o, o.Account, func(s billing.State) ([]billing.Command, error) { return c.seeSubscriptions(ctx, s) })
	if err != nil {
		return billing.Subscription{}, c.forUser(ctx, o.Account, err)
	}
	switch after := s.Subscriptions[current.ID]; {
	case after.Status.Over():
		return after, billing.ErrNoSubscription
	case after.CancelAt.IsZero() != renews:
		return after, c.forUser(ctx, o.Account, asked("to change a subscription", fmt.Errorf("subscription %s did not change", current.ID)))
	default:
		return after, nil
	}
}

// Portal returns the URL of Stripe's portal for the account: cards, invoices, other plans. The URL logs its user in there.
func (c *Payments) Portal(ctx context.Context, o Origin, returnURL string) (string, error) {
	if err := c.mayReturn("return_url", returnURL); err != nil {
		return "", err
	}
	s, err := billings.Fold(ctx, c.Store, o.Account)
	if err != nil {
		return "", err
	}
	if s.Customer == "" {
		return "", billing.ErrNoCustomer
	}
	to, err := c.Stripe.OpenPortal(ctx, s.Customer, returnURL)
	return to, c.forUser(ctx, o.Account, asked("for the portal", err))
}

// Invoices returns the account's newest invoices as Stripe shows them now, newest first.
func (c *Payments) Invoices(ctx context.Context, o Origin) ([]StripeInvoice, error) {
	s, err := billings.Fold(ctx, c.Store, o.Account)
	if err != nil || s.Customer == "" {
		return nil, err
	}
	list, err := c.Stripe.InvoicesOf(ctx, s.Customer, invoicesShown)
	if errors.Is(err, ErrNotAtStripe) {
		return nil, nil
	}
	return list, c.forUser(ctx, o.Account, asked("for a customer's invoices", err))
}
