package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// Delivery is what Stripe says in a delivery whose signature was verified. It is a hint: the object that it is about is fetched
// from Stripe.
type Delivery struct {
	ID       string // "evt_…"; Stripe repeats a delivery with the same id
	Type     string // "customer.subscription.updated"
	Object   string // the object's type: "subscription"
	ObjectID string // "sub_…"; "": the object has no id
	Livemode bool   // false: it is about Stripe's test data
}

// ErrSignature refuses a delivery that was not signed with the webhook's secret, or not within five minutes.
var ErrSignature = &domain.Error{Kind: domain.Malformed, Code: "invalid_signature", Msg: "The delivery's signature is missing, wrong or too old."}

// Delivered is what became of a delivery.
type Delivered string

const (
	Handled Delivered = "success" // now, or before
	Ignored Delivered = "ignored" // it is about nothing of ours
)

// customersPatience is how long a delivery waits for the read models that know the accounts of customers.
const customersPatience = 5 * time.Second

// Deliver handles a delivery: it fetches the object that the delivery is about, and records what Stripe shows. After an error,
// Stripe has to repeat the delivery. A delivery is remembered only after it was handled, so a crash in between costs one
// more look.
func (c *Payments) Deliver(ctx context.Context, d Delivery) (Delivered, error) {
	about := c.subject(d)
	if about == nil || d.ObjectID == "" {
		return Ignored, nil
	}
	switch handled, err := c.Deliveries.Handled(ctx, d.ID); {
	case err != nil:
		return "", fmt.Errorf("look up delivery %s: %w", d.ID, err)
	case handled:
		return Handled, nil
	}
	ours, err := about(ctx, d.ObjectID)
	switch {
	case errors.Is(err, ErrNotAtStripe):
		// A draft that was deleted, or a webhook and a key of different accounts of Stripe.
		c.Logger.WarnContext(ctx, "delivery ignored, Stripe does not have its object", "delivery", d.ID, "type", d.Type, "object", d.ObjectID)
		ours = false
	case err != nil:
		return "", fmt.Errorf("delivery %s of %s: %w", d.ID, d.Type, err)
	}
	if err := c.Deliveries.Remember(ctx, d.ID); err != nil {
		return "", fmt.Errorf("remember delivery %s: %w", d.ID, err)
	}
	if !ours {
		return Ignored, nil
	}
	return Handled, nil
}

// subject returns what handles deliveries of a type: it reports whether the object is of an account of ours. Nil: no such
// delivery is handled.
func (c *Payments) subject(d Delivery) func(ctx context.Context, id string) (bool, error) {
	for prefix, about := range map[string]func(context.Context, string) (bool, error){
		"checkout.session.": c.aboutCheckout, "customer.subscription.": c.aboutSubscription, "invoice.": c.aboutInvoice,
	} {
		if strings.HasPrefix(d.Type, prefix) {
			return about
		}
	}
	return nil
}

// aboutCheckout looks at a Checkout of which a delivery told. Only the account's own one counts, as the log has it.
func (c *Payments) aboutCheckout(ctx context.Context, session string) (bool, error) {
	shown, err := c.Stripe.Checkout(ctx, session)
	if err != nil || shown.Account == "" {
		return false, err
	}
	s, err := billings.Fold(ctx, c.Store, shown.Account)
	if err != nil || s.Checkout == nil || s.Checkout.Session != session {
		return false, err
	}
	_, err = c.look(ctx, Origin{}, shown.Account, func(s billing.State) ([]billing.Command, error) {
		return c.seeCheckout(ctx, s)
	})
	return err == nil, err
}

// aboutSubscription looks at a subscription of which a delivery told, and at the Checkout that may have led to it.
func (c *Payments) aboutSubscription(ctx context.Context, id string) (bool, error) {
	sub, err := c.Stripe.Subscription(ctx, id)
	if err != nil {
		return false, err
	}
	return c.about(ctx, sub.Account, sub.Customer, func(s billing.State) ([]billing.Command, error) {
		return c.seeSubscription(ctx, s, id)
	})
}

// aboutInvoice looks at an invoice of which a delivery told, and at its subscription, whose status follows from it.
func (c *Payments) aboutInvoice(ctx context.Context, id string) (bool, error) {
	inv, err := c.Stripe.Invoice(ctx, id)
	if err != nil {
		return false, err
	}
	return c.about(ctx, inv.Account, inv.Customer, func(s billing.State) ([]billing.Command, error) {
		cmds, err := c.seeInvoice(ctx, s, id)
		if err != nil || inv.Subscription == "" {
			return cmds, err
		}
		more, err := c.seeSubscription(ctx, s, inv.Subscription)
		return append(cmds, more...), err
	})
}

// about looks at an object of a customer, if that is an account's.
func (c *Payments) about(ctx context.Context, named, customer string, find func(billing.State) ([]billing.Command, error)) (bool, error) {
	account, err := c.accountOf(ctx, named, customer)
	if err != nil || account == "" {
		return false, err
	}
	_, err = c.look(ctx, Origin{}, account, find)
	return err == nil, err
}

// accountOf returns the account of a customer; "": none of ours. named is the account in the object's metadata: it is only
// where to look first, because the log's link counts.
func (c *Payments) accountOf(ctx context.Context, named, customer string) (string, error) {
	if customer == "" {
		return "", nil
	}
	if named != "" {
		switch linked, err := c.linked(ctx, named, customer); {
		case err != nil:
			return "", err
		case linked:
			return named, nil
		}
	}
	account, err := c.Books.Customer(ctx, customer)
	if err == nil && account == "" { // perhaps it was linked a moment ago
		if err = c.followed(ctx, c.Books.Position, customersPatience); err == nil {
			account, err = c.Books.Customer(ctx, customer)
		}
	}
	return account, err
}

// linked reports whether the log has a customer as the account's. The delivery that completes the account's Checkout may
// be late or lost, so the Checkout is looked at first.
func (c *Payments) linked(ctx context.Context, account, customer string) (bool, error) {
	s, err := billings.Fold(ctx, c.Store, account)
	if err != nil || s.Customer == customer || s.Checkout == nil || s.Checkout.Session == "" {
		return s.Customer == customer, err
	}
	s, err = c.look(ctx, Origin{}, account, func(s billing.State) ([]billing.Command, error) {
		return c.seeCheckout(ctx, s)
	})
	return s.Customer == customer, err
}
