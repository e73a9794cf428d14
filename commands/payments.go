package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Payments are the commands about plans that are paid at Stripe, and what follows from what Stripe shows.
//
// The log records what was seen at Stripe, never what a delivery says. Each look is made inside the unit that records it,
// after the account's stream was read: if another replica recorded a look meanwhile, the append is refused and the look is
// made again. After a look was recorded, another one follows, because a newer look that found nothing new recorded nothing.
// So what the log has last is what Stripe showed last.
type Payments struct {
	Log
	Stripe     Stripe
	Prices     map[string]billing.Plan // by the ids of their prices
	UsagePrice string                  // of the metered usage, a second item of new subscriptions; "": it is not sold
	Books      Customers
	Deliveries Deliveries
	Logger     *slog.Logger
	// Origins are where Stripe may send users to: "https://cloudbot.example".
	Origins []string
	// Email returns an account's e-mail address, which Stripe's page shows. Nil: the user types it there.
	Email func(ctx context.Context, account string) (string, error)
	// RepeatAfter is how long a call waits that is repeated because its answer was lost [300 ms].
	RepeatAfter time.Duration
}

// Refusals.
var (
	ErrPayments      = &domain.Error{Kind: domain.Unavailable, Code: "payments_unavailable", Msg: "The payment provider does not answer or refused the request. Nothing was changed; try again in a few minutes."}
	ErrNotOffered    = &domain.Error{Kind: domain.Unavailable, Code: "plan_not_offered", Msg: "This server does not sell this plan."}
	errKeepsChanging = errors.New("what Stripe shows keeps changing")
)

// Stripe is what the commands need of Stripe. An answer that says that the call had no effect is a *RefusedError, one that
// says that an object does not exist is ErrNotAtStripe. After any other error, the call may have had its effect. An
// implementation never repeats a call by itself.
type Stripe interface {
	// OpenCheckout opens a Checkout. Within 23 hours, a repeated call with the same fields returns the same one.
	OpenCheckout(ctx context.Context, c NewCheckout) (Checkout, error)
	Checkout(ctx context.Context, session string) (Checkout, error)
	// ExpireCheckout ends a Checkout that is open. One that is complete or has expired is refused.
	ExpireCheckout(ctx context.Context, session string) (Checkout, error)

	Subscription(ctx context.Context, id string) (StripeSubscription, error)
	// SubscriptionsOf returns a customer's subscriptions of any status.
	SubscriptionsOf(ctx context.Context, customer string) ([]StripeSubscription, error)
	// EachSubscription calls do with pages of all subscriptions of any status. One that cannot be read has only its id and its
	// customer.
	EachSubscription(ctx context.Context, do func([]StripeSubscription) error) error
	// CancelAtPeriodEnd cancels a subscription at the end of its period, or no longer.
	CancelAtPeriodEnd(ctx context.Context, id string, cancel bool) (StripeSubscription, error)

	Invoice(ctx context.Context, id string) (StripeInvoice, error)
	// InvoicesOf returns a customer's newest invoices, newest first, at most 100.
	InvoicesOf(ctx context.Context, customer string, limit int) ([]StripeInvoice, error)
	// EachInvoice calls do with pages of all invoices that were made since a time. One that cannot be read has only its id and
	// its customer.
	EachInvoice(ctx context.Context, since time.Time, do func([]StripeInvoice) error) error

	// OpenPortal returns the URL of a new session of the customer portal.
	OpenPortal(ctx context.Context, customer, returnURL string) (string, error)
	// Price returns what a price costs.
	Price(ctx context.Context, id string) (Price, error)

	// ReportUsage sends a meter event. Within 23 hours, a repeated call with the same identifier counts once.
	ReportUsage(ctx context.Context, r billing.Report) error
	// UsageShown returns the seconds that the meter shows for a customer on a UTC day.
	UsageShown(ctx context.Context, customer, day string) (seconds int64, err error)
}

// NewCheckout asks for a Checkout of a plan.
type NewCheckout struct {
	Account string
	Email   string // filled in on Stripe's page; "": the user types it
	// Customer is the account's customer at Stripe; "": the Checkout makes one.
	Customer string
	billing.CheckoutRequested
}

// Checkout is a Checkout as Stripe shows it.
type Checkout struct {
	Session      string
	Account      string // its client_reference_id
	Status       billing.CheckoutStatus
	URL          string // where the user pays; "" unless it is open. It is never logged
	Customer     string
	Subscription string
}

// StripeSubscription is a subscription with what the log does not keep. Its Plan is the one of its metadata.
type StripeSubscription struct {
	billing.Subscription
	Account string // of its metadata
}

// StripeInvoice is an invoice with what the log does not keep.
type StripeInvoice struct {
	billing.Invoice
	Account string // of its subscription's metadata
	Number  string
	URL     string // Stripe's page for it, which anyone with the URL can open. It is never logged
	PDF     string
}

// Price is what a plan costs: Amount is in the smallest unit of the currency.
type Price struct {
	Amount   int64
	Currency string // "usd"
	Interval string // "month"
}

// RefusedError says that Stripe refused a call, so it had no effect. Reason is Stripe's message for developers; it has no
// secrets, and is not for users.
type RefusedError struct{ Code, Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("Stripe refused: %s (%s)", e.Reason, e.Code)
}

// ErrNotAtStripe says that Stripe has no such object.
var ErrNotAtStripe = errors.New("no such object at Stripe")

// Customers finds accounts, in read models that may be behind.
type Customers interface {
	// Position returns how far the read models have followed the log.
	Position() int64
	// Customer returns the account of a customer at Stripe; "": none is known.
	Customer(ctx context.Context, customer string) (account string, err error)
	// Billed returns accounts with anything in their billing streams whose ids are above after, by their ids.
	Billed(ctx context.Context, after string, limit int) ([]Billed, error)
	// CheckingOut returns accounts with a Checkout that may still be paid, whose ids are above after, by their ids.
	CheckingOut(ctx context.Context, after string, limit int) ([]string, error)
}

// Billed is an account with what the read models know of its plan.
type Billed struct {
	Account string
	State   billing.State
}

// Deliveries remembers which deliveries of Stripe were handled.
type Deliveries interface {
	// Handled reports whether a delivery was handled.
	Handled(ctx context.Context, id string) (bool, error)
	// Remember records that one was handled, for longer than Stripe repeats it.
	Remember(ctx context.Context, id string) error
}

// maxLooks bounds how often a look is repeated after one that was recorded.
const maxLooks = 8

// look decides about an account by what Stripe shows, until that changes nothing. find returns the commands that follow from
// the state that the log has; it asks Stripe, and may be called several times.
func (c *Payments) look(ctx context.Context, o Origin, account string, find func(billing.State) ([]billing.Command, error)) (s billing.State, err error) {
	for range maxLooks {
		res, err := eventstore.Run(ctx, c.Store, c.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			if s, err = billings.Load(ctx, u, account); err != nil {
				return nil, err
			}
			before := s
			cmds, err := find(s)
			if err != nil {
				return nil, err
			}
			s, err = executeBilling(ctx, u, account, before, cmds...)
			return nil, err
		})
		if err != nil || res.Last == 0 {
			return s, err
		}
	}
	return s, asked("for what it shows", errKeepsChanging)
}

// executeBilling executes commands on an account's billing stream that the unit has loaded. What changes its access is
// written to its quota in the same append.
func executeBilling(ctx context.Context, u *eventstore.Unit, account string, before billing.State, cmds ...billing.Command) (billing.State, error) {
	s := before
	for _, cmd := range cmds {
		var err error
		if s, err = billings.Execute(ctx, u, account, cmd); err != nil {
			return before, err
		}
	}
	if s.Access.Same(before.Access) {
		return s, nil
	}
	_, err := quotas.Execute(ctx, u, account, quota.SetAllowance{Access: s.Access})
	return s, err
}

// plan returns a subscription with the plan of its price, or of its metadata if the price is not known.
func (c *Payments) plan(s StripeSubscription) billing.Subscription {
	if p, ok := c.Prices[s.Price]; ok {
		s.Plan = p
	} else if s.Plan.Offer().Plan == "" {
		s.Plan = ""
	}
	return s.Subscription
}
