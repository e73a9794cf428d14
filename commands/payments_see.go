package commands

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

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
	if errors.Is(err, ErrNotAtStripe) && !c.Now().Before(open.Expires) { // before, perhaps the key is of another account of Stripe
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

// checkoutSeen returns what follows from a Checkout as Stripe shows it: the account's that may still be paid. If it was paid,
// everything of its customer is looked at: the log did not know whose customer it is when deliveries about that came.
func (c *Payments) checkoutSeen(ctx context.Context, s billing.State, seen Checkout) ([]billing.Command, error) {
	cmds := []billing.Command{billing.SeeCheckout{Terms: c.Terms, CheckoutSeen: billing.CheckoutSeen{
		Key: s.Checkout.Key, Session: seen.Session, Status: seen.Status, Customer: seen.Customer, Subscription: seen.Subscription, At: c.Now(),
	}}}
	if seen.Status != billing.CheckoutComplete || seen.Customer == "" {
		return cmds, nil
	}
	s.Customer = seen.Customer
	more, err := c.seeCustomer(ctx, s)
	return append(cmds, more...), err
}

// seeCustomer returns what follows from how Stripe shows the subscriptions and the newest invoices of the account's customer.
func (c *Payments) seeCustomer(ctx context.Context, s billing.State) ([]billing.Command, error) {
	cmds, err := c.seeSubscriptions(ctx, s)
	if err != nil {
		return nil, err
	}
	more, err := c.seeInvoices(ctx, s)
	return append(cmds, more...), err
}

// missingFor is how long after the end of its paid period a subscription ends that Stripe does not have.
const missingFor = 3 * 24 * time.Hour

// seeSubscription returns what follows from how Stripe shows a subscription. Stripe keeps those that have ended, so one that it
// does not have is test data that was deleted, or the key is of another account of Stripe. What was paid can be used; then the
// subscription ends.
func (c *Payments) seeSubscription(ctx context.Context, s billing.State, id string) ([]billing.Command, error) {
	seen, err := c.Stripe.Subscription(ctx, id)
	switch known, recorded := s.Subscriptions[id]; {
	case errors.Is(err, ErrNotAtStripe):
		c.Logger.ErrorContext(ctx, "subscription not found at Stripe; is STRIPE_SECRET_KEY of another account or mode?", "subscription", id)
		if !recorded || known.Status.Over() || c.Now().Before(known.PeriodEnd.Add(missingFor)) {
			return nil, nil
		}
		known.Status, known.Ended = billing.Canceled, c.Now()
		return []billing.Command{billing.SeeSubscription{Subscription: known, At: c.Now(), Terms: c.Terms}}, nil
	case err != nil:
		return nil, asked("for a subscription", err)
	}
	return []billing.Command{c.subscriptionSeen(s, seen)}, nil
}

// seeSubscriptions returns what follows from how Stripe shows the subscriptions of the account's customer, and those that the
// log has and Stripe's list does not.
func (c *Payments) seeSubscriptions(ctx context.Context, s billing.State) (cmds []billing.Command, err error) {
	if s.Customer == "" {
		return nil, nil
	}
	list, err := c.Stripe.SubscriptionsOf(ctx, s.Customer)
	if err != nil && !missing(err) {
		return nil, asked("for a customer's subscriptions", err)
	}
	// Those that have ended come last: access that moves from one subscription to another is not lost in between.
	slices.SortStableFunc(list, func(a, b StripeSubscription) int { return ended(a) - ended(b) })
	listed := map[string]bool{}
	for _, seen := range list {
		listed[seen.ID] = true
		cmds = append(cmds, c.subscriptionSeen(s, seen))
	}
	for _, id := range slices.Sorted(maps.Keys(s.Subscriptions)) {
		if listed[id] || s.Subscriptions[id].Status.Over() {
			continue
		}
		more, err := c.seeSubscription(ctx, s, id)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, more...)
	}
	return cmds, nil
}

func ended(s StripeSubscription) int {
	if s.Status.Over() {
		return 1
	}
	return 0
}

// subscriptionSeen returns what follows from a subscription as Stripe shows it. If the operator has changed the price ids, a
// subscription keeps the plan that it was recorded with while its price does not change: its metadata still name its first
// plan, which its user may have changed.
func (c *Payments) subscriptionSeen(s billing.State, seen StripeSubscription) billing.Command {
	return billing.SeeSubscription{Subscription: c.planned(s, seen), At: c.Now(), Terms: c.Terms}
}

func (c *Payments) planned(s billing.State, seen StripeSubscription) billing.Subscription {
	known := s.Subscriptions[seen.ID]
	if _, sold := c.Prices[seen.Price]; !sold && known.Price == seen.Price && known.Plan != "" {
		seen.Subscription.Plan = known.Plan
		return seen.Subscription
	}
	return c.plan(seen)
}

// seeInvoice returns what follows from how Stripe shows an invoice. Only a draft can be deleted there.
func (c *Payments) seeInvoice(ctx context.Context, s billing.State, id string) ([]billing.Command, error) {
	seen, err := c.Stripe.Invoice(ctx, id)
	switch known, recorded := s.Invoices[id]; {
	case errors.Is(err, ErrNotAtStripe) && recorded && known.Status == "draft":
		known.Status, known.NextAttempt = billing.InvoiceDeleted, time.Time{}
		return []billing.Command{billing.SeeInvoice{Invoice: known, At: c.Now()}}, nil
	case errors.Is(err, ErrNotAtStripe):
		if recorded {
			c.Logger.ErrorContext(ctx, "invoice not found at Stripe; is STRIPE_SECRET_KEY of another account or mode?", "invoice", id)
		}
		return nil, nil
	case err != nil:
		return nil, asked("for an invoice", err)
	}
	return []billing.Command{billing.SeeInvoice{Invoice: seen.Invoice, At: c.Now()}}, nil
}

// missing reports whether Stripe does not have what a call is about, or a customer that it names: it was deleted.
func missing(err error) bool {
	var refused *RefusedError
	return errors.Is(err, ErrNotAtStripe) || errors.As(err, &refused) && refused.Code == codeMissing
}

// newestInvoices is how many invoices of a customer are looked at.
const newestInvoices = 100

// seeInvoices returns what follows from how Stripe shows the newest invoices of the account's customer, and those that the log
// has, that may still change and that Stripe's list does not have.
func (c *Payments) seeInvoices(ctx context.Context, s billing.State) (cmds []billing.Command, err error) {
	if s.Customer == "" {
		return nil, nil
	}
	list, err := c.Stripe.InvoicesOf(ctx, s.Customer, newestInvoices)
	if err != nil && !missing(err) {
		return nil, asked("for a customer's invoices", err)
	}
	listed := map[string]bool{}
	for _, seen := range list {
		listed[seen.ID] = true
		cmds = append(cmds, billing.SeeInvoice{Invoice: seen.Invoice, At: c.Now()})
	}
	for _, id := range slices.Sorted(maps.Keys(s.Invoices)) {
		if listed[id] || s.Invoices[id].Settled() {
			continue
		}
		more, err := c.seeInvoice(ctx, s, id)
		if err != nil {
			return nil, err
		}
		cmds = append(cmds, more...)
	}
	return cmds, nil
}

// seeAll returns what follows from everything that Stripe shows of the account.
func (c *Payments) seeAll(ctx context.Context, s billing.State) ([]billing.Command, error) {
	cmds, err := c.seeCheckout(ctx, s)
	if err != nil {
		return nil, err
	}
	more, err := c.seeCustomer(ctx, s)
	if err != nil {
		return nil, err
	}
	cmds = append(cmds, more...)
	return append(cmds, billing.Assess{At: c.Now(), Terms: c.Terms}), nil
}

// Sync looks at everything that Stripe shows of the sender's account, and records what differs from the log.
func (c *Payments) Sync(ctx context.Context, o Origin) error {
	_, err := c.look(ctx, o, o.Account, func(s billing.State) ([]billing.Command, error) { return c.seeAll(ctx, s) })
	return c.forUser(ctx, o.Account, err)
}

// priceOf returns the id of a plan's price, "" if the plan is not sold.
func (c *Payments) priceOf(plan billing.Plan) string {
	for _, id := range slices.Sorted(maps.Keys(c.Prices)) {
		if c.Prices[id] == plan {
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
