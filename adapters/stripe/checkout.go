package stripe

import (
	"context"
	"fmt"
	"net/url"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// OpenCheckout implements commands.Stripe. The fields of a call with the same key must be the same.
func (c *Client) OpenCheckout(ctx context.Context, n commands.NewCheckout) (commands.Checkout, error) {
	success, err := returnURL(n.Success)
	if err != nil {
		return commands.Checkout{}, &commands.RefusedError{Code: "invalid_url", Reason: "The success URL cannot be read."}
	}
	about := map[string]string{"user_id": n.Account, "plan_type": string(n.Plan)}
	params := &stripe.CheckoutSessionCreateParams{
		Mode:              stripe.String(stripe.CheckoutSessionModeSubscription),
		LineItems:         []*stripe.CheckoutSessionCreateLineItemParams{{Price: stripe.String(n.Price), Quantity: stripe.Int64(1)}},
		SuccessURL:        stripe.String(success),
		CancelURL:         stripe.String(n.Cancel),
		ClientReferenceID: stripe.String(n.Account),
		ExpiresAt:         stripe.Int64(n.Expires.Unix()),
		Metadata:          about,
		SubscriptionData:  &stripe.CheckoutSessionCreateSubscriptionDataParams{Metadata: about},
	}
	if n.Usage != "" {
		params.LineItems = append(params.LineItems, &stripe.CheckoutSessionCreateLineItemParams{Price: stripe.String(n.Usage)}) // it has no quantity
	}
	switch { // Stripe refuses both at a time
	case n.Customer != "":
		params.Customer = stripe.String(n.Customer)
	case n.Email != "":
		params.CustomerEmail = stripe.String(n.Email)
	}
	params.SetIdempotencyKey(n.Key)
	s, err := call(ctx, c, func(ctx context.Context) (*stripe.CheckoutSession, error) {
		return c.api.V1CheckoutSessions.Create(ctx, params)
	})
	return checkout(s, err)
}

// returnURL returns the URL to which Stripe sends the user after the payment, which it completes with the session's id.
func returnURL(success string) (string, error) {
	u, err := url.Parse(success)
	if err != nil {
		return "", err
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += "session_id={CHECKOUT_SESSION_ID}" // as it is: Stripe does not know an escaped one
	return u.String(), nil
}

// Checkout implements commands.Stripe.
func (c *Client) Checkout(ctx context.Context, session string) (commands.Checkout, error) {
	s, err := call(ctx, c, func(ctx context.Context) (*stripe.CheckoutSession, error) {
		return c.api.V1CheckoutSessions.Retrieve(ctx, session, nil)
	})
	return checkout(s, err)
}

// ExpireCheckout implements commands.Stripe.
func (c *Client) ExpireCheckout(ctx context.Context, session string) (commands.Checkout, error) {
	s, err := call(ctx, c, func(ctx context.Context) (*stripe.CheckoutSession, error) {
		return c.api.V1CheckoutSessions.Expire(ctx, session, nil)
	})
	return checkout(s, err)
}

func checkout(s *stripe.CheckoutSession, err error) (commands.Checkout, error) {
	if err != nil {
		return commands.Checkout{}, err
	}
	found := commands.Checkout{
		Session: s.ID, Account: s.ClientReferenceID, Status: billing.CheckoutStatus(s.Status), URL: s.URL,
	}
	if s.Customer != nil {
		found.Customer = s.Customer.ID
	}
	if s.Subscription != nil {
		found.Subscription = s.Subscription.ID
	}
	switch found.Status {
	case billing.CheckoutOpen, billing.CheckoutComplete, billing.CheckoutExpired:
	default:
		return commands.Checkout{}, fmt.Errorf("%w: a Checkout has the status %q", errAnswer, s.Status)
	}
	if found.Session == "" || found.Status == billing.CheckoutOpen && found.URL == "" {
		return commands.Checkout{}, fmt.Errorf("%w: a Checkout has no id or no URL", errAnswer)
	}
	return found, nil
}

// OpenPortal implements commands.Stripe.
func (c *Client) OpenPortal(ctx context.Context, customer, returnURL string) (string, error) {
	params := &stripe.BillingPortalSessionCreateParams{Customer: stripe.String(customer), ReturnURL: stripe.String(returnURL)}
	s, err := call(ctx, c, func(ctx context.Context) (*stripe.BillingPortalSession, error) {
		return c.api.V1BillingPortalSessions.Create(ctx, params)
	})
	switch {
	case err != nil:
		return "", err
	case s.URL == "":
		return "", fmt.Errorf("%w: a session of the portal has no URL", errAnswer)
	}
	return s.URL, nil
}

// CheckUsagePrice returns why a price cannot be that of the meter, or nil.
func (c *Client) CheckUsagePrice(ctx context.Context, id string) error {
	p, err := call(ctx, c, func(ctx context.Context) (*stripe.Price, error) { return c.api.V1Prices.Retrieve(ctx, id, nil) })
	if err != nil {
		return err
	}
	meter, err := c.Meter(ctx)
	switch {
	case err != nil:
		return err
	case !p.Active:
		return &commands.RefusedError{Code: "price_inactive", Reason: "The price is not active."}
	case p.Recurring == nil || p.Recurring.UsageType != stripe.PriceRecurringUsageTypeMetered || p.Recurring.Meter != meter:
		return &commands.RefusedError{Code: "price_of_another_meter", Reason: "The price is not a metered one of this meter."}
	}
	return nil
}

// Price implements commands.Stripe.
func (c *Client) Price(ctx context.Context, id string) (commands.Price, error) {
	p, err := call(ctx, c, func(ctx context.Context) (*stripe.Price, error) { return c.api.V1Prices.Retrieve(ctx, id, nil) })
	switch {
	case err != nil:
		return commands.Price{}, err
	case p.ID == "":
		return commands.Price{}, fmt.Errorf("%w: a price has no id", errAnswer)
	case !p.Active:
		return commands.Price{}, &commands.RefusedError{Code: "price_inactive", Reason: "The price is not active."}
	case p.Recurring == nil || p.Recurring.UsageType != stripe.PriceRecurringUsageTypeLicensed:
		return commands.Price{}, &commands.RefusedError{Code: "price_not_recurring", Reason: "The price is not one of a subscription with a fixed amount."}
	}
	interval := string(p.Recurring.Interval)
	if n := p.Recurring.IntervalCount; n > 1 {
		interval = fmt.Sprintf("%d %ss", n, interval)
	}
	return commands.Price{Amount: p.UnitAmount, Currency: string(p.Currency), Interval: interval}, nil
}
