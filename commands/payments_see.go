package commands

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// askError says that Stripe was asked and did not give what was asked for.
type askError struct {
	what string
	err  error
}

func (e *askError) Error() string { return "ask Stripe " + e.what + ": " + e.err.Error() }
func (e *askError) Unwrap() error { return e.err }

func asked(what string, err error) error {
	if err == nil {
		return nil
	}
	return &askError{what, err}
}

// forUser returns an error that a user may see, and tells the operator the reason.
func (c *Payments) forUser(ctx context.Context, account string, err error) error {
	var ask *askError
	if !errors.As(err, &ask) || ctx.Err() != nil {
		return err
	}
	c.Logger.WarnContext(ctx, "a user's request to Stripe failed", "account", account, "err", err)
	return ErrPayments
}

// seeCheckout returns what follows from how Stripe shows the account's Checkout that may still be paid, and if it was paid, its
// subscription. A Checkout without an answer is lost once it cannot be paid any more: no user ever had its URL.
func (c *Payments) seeCheckout(ctx context.Context, s billing.State) ([]billing.Command, error) {
	open := s.Checkout
	switch now := c.Now(); {
	case open == nil, open.Session == "" && now.Before(open.Expires):
		return nil, nil
	case open.Session == "":
		return lost(*open, "Stripe's answer did not arrive.", c), nil
	}
	seen, err := c.Stripe.Checkout(ctx, open.Session)
	if errors.Is(err, ErrNotAtStripe) {
		return lost(*open, "Stripe does not have it.", c), nil
	}
	if err != nil {
		return nil, asked("for a Checkout", err)
	}
	return c.checkoutSeen(ctx, s, seen)
}

func lost(open billing.Checkout, reason string, c *Payments) []billing.Command {
	return []billing.Command{billing.LoseCheckout{CheckoutLost: billing.CheckoutLost{Key: open.Key, Reason: reason, At: c.Now()}}}
}

// checkoutSeen returns what follows from a Checkout as Stripe shows it: the account's that may still be paid.
func (c *Payments) checkoutSeen(ctx context.Context, s billing.State, seen Checkout) ([]billing.Command, error) {
	cmds := []billing.Command{billing.SeeCheckout{Terms: c.Terms, CheckoutSeen: billing.CheckoutSeen{
		Key: s.Checkout.Key, Session: seen.Session, Status: seen.Status, Customer: seen.Customer, Subscription: seen.Subscription, At: c.Now(),
	}}}
	if seen.Status != billing.CheckoutComplete || seen.Subscription == "" {
		return cmds, nil
	}
	bought, err := c.seeSubscription(ctx, seen.Subscription)
	return append(cmds, bought...), err
}

// seeSubscription returns what follows from how Stripe shows a subscription.
func (c *Payments) seeSubscription(ctx context.Context, id string) ([]billing.Command, error) {
	seen, err := c.Stripe.Subscription(ctx, id)
	if errors.Is(err, ErrNotAtStripe) {
		c.Logger.WarnContext(ctx, "subscription not found at Stripe, left as it is; is STRIPE_SECRET_KEY another account's?", "subscription", id)
		return nil, nil
	}
	if err != nil {
		return nil, asked("for a subscription", err)
	}
	return []billing.Command{c.subscriptionSeen(seen)}, nil
}

// seeSubscriptions returns what follows from how Stripe shows the subscriptions of the account's customer.
func (c *Payments) seeSubscriptions(ctx context.Context, s billing.State) (cmds []billing.Command, err error) {
	if s.Customer == "" {
		return nil, nil
	}
	list, err := c.Stripe.SubscriptionsOf(ctx, s.Customer)
	if err != nil && !errors.Is(err, ErrNotAtStripe) {
		return nil, asked("for a customer's subscriptions", err)
	}
	// Those that have ended come last: access that moves from one subscription to another is not lost in between.
	slices.SortStableFunc(list, func(a, b StripeSubscription) int { return ended(a) - ended(b) })
	for _, seen := range list {
		cmds = append(cmds, c.subscriptionSeen(seen))
	}
	return cmds, nil
}

func ended(s StripeSubscription) int {
	if s.Status.Over() {
		return 1
	}
	return 0
}

func (c *Payments) subscriptionSeen(seen StripeSubscription) billing.Command {
	return billing.SeeSubscription{Subscription: c.plan(seen), At: c.Now(), Terms: c.Terms}
}

// seeInvoice returns what follows from how Stripe shows an invoice.
func (c *Payments) seeInvoice(ctx context.Context, id string) ([]billing.Command, error) {
	seen, err := c.Stripe.Invoice(ctx, id)
	if errors.Is(err, ErrNotAtStripe) { // a draft that was deleted
		return nil, nil
	}
	if err != nil {
		return nil, asked("for an invoice", err)
	}
	return []billing.Command{billing.SeeInvoice{Invoice: seen.Invoice, At: c.Now()}}, nil
}

// seeInvoices returns what follows from how Stripe shows the newest invoices of the account's customer.
func (c *Payments) seeInvoices(ctx context.Context, s billing.State) (cmds []billing.Command, err error) {
	if s.Customer == "" {
		return nil, nil
	}
	list, err := c.Stripe.InvoicesOf(ctx, s.Customer, 100)
	if err != nil && !errors.Is(err, ErrNotAtStripe) {
		return nil, asked("for a customer's invoices", err)
	}
	for _, seen := range list {
		cmds = append(cmds, billing.SeeInvoice{Invoice: seen.Invoice, At: c.Now()})
	}
	return cmds, nil
}

// seeAll returns what follows from everything that Stripe shows of the account.
func (c *Payments) seeAll(ctx context.Context, s billing.State) ([]billing.Command, error) {
	cmds, err := c.seeCheckout(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, see := range []func(context.Context, billing.State) ([]billing.Command, error){c.seeSubscriptions, c.seeInvoices} {
		more, err := see(ctx, s)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, more...)
	}
	return append(cmds, billing.Assess{At: c.Now(), Terms: c.Terms}), nil
}

// Sync looks at everything that Stripe shows of the sender's account, and records what differs from the log.
func (c *Payments) Sync(ctx context.Context, o Origin) error {
	_, err := c.look(ctx, o, o.Account, func(s billing.State) ([]billing.Command, error) { return c.seeAll(ctx, s) })
	return c.forUser(ctx, o.Account, err)
}

// priceOf returns the id of a plan's price, "" if the plan is not sold.
func (c *Payments) priceOf(plan billing.Plan) string {
	for id, p := range c.Prices {
		if p == plan {
			return id
		}
	}
	return ""
}

// mayReturn refuses a URL to which Stripe must not send users.
func (c *Payments) mayReturn(field, to string) error {
	origin, ok := originOf(to)
	if !ok || !slices.ContainsFunc(c.Origins, func(of string) bool { ours, ok := originOf(of); return ok && ours == origin }) {
		return &domain.Error{Kind: domain.Invalid, Code: "invalid_url", Field: field, Msg: "Give a URL of this dashboard, with http or https and at most 2048 bytes."}
	}
	return nil
}
