package stripe

import (
	"context"
	"fmt"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// Invoice implements commands.Stripe.
func (c *Client) Invoice(ctx context.Context, id string) (commands.StripeInvoice, error) {
	i, err := call(ctx, c, func(ctx context.Context) (*stripe.Invoice, error) { return c.api.V1Invoices.Retrieve(ctx, id, nil) })
	if err != nil {
		return commands.StripeInvoice{}, err
	}
	return invoice(i)
}

// InvoicesOf implements commands.Stripe.
func (c *Client) InvoicesOf(ctx context.Context, customer string, limit int) (all []commands.StripeInvoice, err error) {
	params := &stripe.InvoiceListParams{Customer: stripe.String(customer)}
	params.Limit = stripe.Int64(int64(min(max(limit, 1), pageSize)))
	params.Single = true
	page, err := list(ctx, c, func(ctx context.Context) *stripe.V1List[*stripe.Invoice] { return c.api.V1Invoices.List(ctx, params) })
	if err != nil {
		return nil, err
	}
	return each(page.Data(), invoice)
}

// EachInvoice implements commands.Stripe.
func (c *Client) EachInvoice(ctx context.Context, since time.Time, do func([]commands.StripeInvoice) error) error {
	params := &stripe.InvoiceListParams{CreatedRange: &stripe.RangeQueryParams{GreaterThanOrEqual: since.Unix()}}
	return pages(ctx, c, &params.ListParams,
		func(ctx context.Context) *stripe.V1List[*stripe.Invoice] { return c.api.V1Invoices.List(ctx, params) },
		func(i *stripe.Invoice) string { return i.ID }, anyInvoice, do)
}

// anyInvoice reads one that may be another program's: of one that cannot be read, only its id and its customer.
func anyInvoice(i *stripe.Invoice) (commands.StripeInvoice, error) {
	found, err := invoice(i)
	if err != nil {
		found.ID = i.ID
		if i.Customer != nil {
			found.Customer = i.Customer.ID
		}
	}
	return found, nil
}

// invoice reads one of Stripe's. Its period is the one of the plan that it is for: Stripe's own fields for that say from
// when to when usage was added to the invoice, which is the period before.
func invoice(i *stripe.Invoice) (commands.StripeInvoice, error) {
	if i.ID == "" || i.Status == "" || i.Customer == nil {
		return commands.StripeInvoice{}, fmt.Errorf("%w: an invoice has no id, status or customer", errAnswer)
	}
	found := commands.StripeInvoice{Number: i.Number, URL: i.HostedInvoiceURL, PDF: i.InvoicePDF, Invoice: billing.Invoice{
		ID: i.ID, Customer: i.Customer.ID, Status: string(i.Status), Currency: string(i.Currency), Due: i.AmountDue, Paid: i.AmountPaid,
		PeriodStart: at(i.PeriodStart), PeriodEnd: at(i.PeriodEnd), Attempts: i.AttemptCount, NextAttempt: at(i.NextPaymentAttempt), Created: at(i.Created),
	}}
	if i.Parent != nil && i.Parent.SubscriptionDetails != nil {
		found.Account = i.Parent.SubscriptionDetails.Metadata["user_id"]
		if s := i.Parent.SubscriptionDetails.Subscription; s != nil {
			found.Subscription = s.ID
		}
	}
	if p := period(i); p != nil {
		found.PeriodStart, found.PeriodEnd = at(p.Start), at(p.End)
	}
	return found, nil
}

// period returns the period of the line that ends last: what is paid in advance, and not usage of the past. Lines about a
// change within a period count only if there are no others. Nil: there are no lines.
func period(i *stripe.Invoice) (last *stripe.Period) {
	if i.Lines == nil {
		return nil
	}
	for _, changes := range []bool{false, true} {
		for _, line := range i.Lines.Data {
			if line.Period != nil && prorated(line) == changes && (last == nil || line.Period.End > last.End) {
				last = line.Period
			}
		}
		if last != nil {
			return last
		}
	}
	return nil
}

func prorated(line *stripe.InvoiceLineItem) bool {
	switch p := line.Parent; {
	case p == nil:
		return false
	case p.SubscriptionItemDetails != nil:
		return p.SubscriptionItemDetails.Proration
	case p.InvoiceItemDetails != nil:
		return p.InvoiceItemDetails.Proration
	}
	return false
}
