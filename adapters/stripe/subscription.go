package stripe

import (
	"context"
	"fmt"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// Subscription implements commands.Stripe.
func (c *Client) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	s, err := call(ctx, c, func(ctx context.Context) (*stripe.Subscription, error) {
		return c.api.V1Subscriptions.Retrieve(ctx, id, nil)
	})
	if err != nil {
		return commands.StripeSubscription{}, err
	}
	return subscription(s)
}

// SubscriptionsOf implements commands.Stripe.
func (c *Client) SubscriptionsOf(ctx context.Context, customer string) (all []commands.StripeSubscription, err error) {
	err = c.eachSubscription(ctx, &stripe.SubscriptionListParams{Customer: stripe.String(customer)}, subscription, func(page []commands.StripeSubscription) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

// EachSubscription implements commands.Stripe.
func (c *Client) EachSubscription(ctx context.Context, do func([]commands.StripeSubscription) error) error {
	return c.eachSubscription(ctx, &stripe.SubscriptionListParams{}, anySubscription, do)
}

// anySubscription reads one that may be another program's: of one that cannot be read, only its id and its customer.
func anySubscription(s *stripe.Subscription) (commands.StripeSubscription, error) {
	found, err := subscription(s)
	if err != nil {
		found.ID = s.ID
		if s.Customer != nil {
			found.Customer = s.Customer.ID
		}
	}
	return found, nil
}

func (c *Client) eachSubscription(ctx context.Context, params *stripe.SubscriptionListParams,
	read func(*stripe.Subscription) (commands.StripeSubscription, error), do func([]commands.StripeSubscription) error,
) error {
	params.Status = stripe.String("all") // without it, Stripe leaves out those that were canceled
	return pages(ctx, c, &params.ListParams,
		func(ctx context.Context) *stripe.V1List[*stripe.Subscription] {
			return c.api.V1Subscriptions.List(ctx, params)
		},
		func(s *stripe.Subscription) string { return s.ID }, read, do)
}

// CancelAtPeriodEnd implements commands.Stripe.
func (c *Client) CancelAtPeriodEnd(ctx context.Context, id string, cancel bool) (commands.StripeSubscription, error) {
	s, err := c.update(ctx, id, &stripe.SubscriptionUpdateParams{CancelAtPeriodEnd: stripe.Bool(cancel)})
	if err == nil && !cancel && s.CancelAt != 0 {
		// The portal sets a date instead. Stripe does not take both fields in one call.
		s, err = c.update(ctx, id, &stripe.SubscriptionUpdateParams{UnsetFields: []stripe.SubscriptionUpdateParamsUnsetField{stripe.SubscriptionUpdateParamsUnsetFieldCancelAt}})
	}
	if err != nil {
		return commands.StripeSubscription{}, err
	}
	return subscription(s)
}

func (c *Client) update(ctx context.Context, id string, params *stripe.SubscriptionUpdateParams) (*stripe.Subscription, error) {
	return call(ctx, c, func(ctx context.Context) (*stripe.Subscription, error) {
		return c.api.V1Subscriptions.Update(ctx, id, params)
	})
}

// subscription reads one of Stripe's. Its period and its price are those of its first item with a fixed amount; another
// item may be metered.
func subscription(s *stripe.Subscription) (commands.StripeSubscription, error) {
	if s.ID == "" || s.Status == "" || s.Customer == nil || s.Items == nil || len(s.Items.Data) == 0 {
		return commands.StripeSubscription{}, fmt.Errorf("%w: a subscription has no id, status, customer or item", errAnswer)
	}
	item := s.Items.Data[0]
	for _, i := range s.Items.Data {
		if i.Price != nil && i.Price.Recurring != nil && i.Price.Recurring.UsageType == stripe.PriceRecurringUsageTypeLicensed {
			item = i
			break
		}
	}
	if item.Price == nil {
		return commands.StripeSubscription{}, fmt.Errorf("%w: a subscription's item has no price", errAnswer)
	}
	found := commands.StripeSubscription{Account: s.Metadata["user_id"], Subscription: billing.Subscription{
		ID: s.ID, Customer: s.Customer.ID, Status: billing.Status(s.Status), Plan: billing.Plan(s.Metadata["plan_type"]),
		Price: item.Price.ID, Created: at(s.Created), PeriodStart: at(item.CurrentPeriodStart), PeriodEnd: at(item.CurrentPeriodEnd),
		CancelAt: at(s.CancelAt), Ended: at(s.EndedAt),
	}}
	if found.CancelAt.IsZero() && s.CancelAtPeriodEnd {
		found.CancelAt = found.PeriodEnd
	}
	return found, nil
}

// at returns a time of Stripe's; 0: none.
func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}
