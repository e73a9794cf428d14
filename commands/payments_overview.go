package commands

import (
	"context"
	"errors"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Overview is what an account's plan and payments are now, by the log's own state.
type Overview struct {
	Billing bool // plans are required. Without, Access says what a plan would allow
	Access  billing.Access
	Held    int // desktops that count towards the plan's

	// Stopping are the running desktops that stop at StopAt if nothing changes, in the order in which they were created.
	// StopAt is zero if there are none. While a payment is due, it is when the payment has to be made.
	Stopping []string
	StopAt   time.Time

	Subscription *billing.Subscription // the one that counts; nil: none that has not ended
	Granted      *billing.Grant        // nil: none that has not ended
	Checkout     *billing.Checkout     // that may still be paid; nil: none
	Due          *PaymentDue           // nil: nothing has to be paid
	Customer     bool                  // the account has a customer at Stripe, so there is a portal
	Several      bool                  // more than one subscription has not ended
}

// PaymentDue is what Stripe tried to collect and did not get. Amount is in the smallest unit of the currency.
type PaymentDue struct {
	Amount      int64
	Currency    string
	Attempts    int64
	NextAttempt time.Time // zero: Stripe does not try again
}

// Overview returns an account's plan and payments.
func (l Log) Overview(ctx context.Context, account string) (Overview, error) {
	s, err := billings.Fold(ctx, l.Store, account)
	if err != nil {
		return Overview{}, err
	}
	now := l.Now()
	events, err := billing.Decide(s, billing.Assess{At: now, Terms: l.Terms})
	if err != nil {
		return Overview{}, err
	}
	for _, e := range events { // the role that records it may be late
		s = billing.Evolve(s, e)
	}
	v := Overview{Billing: l.Plans, Access: s.Access, Due: due(s), Customer: s.Customer != "", Several: s.Several() > 1}
	if sub, ok := s.Current(); ok && !sub.Status.Over() {
		v.Subscription = &sub
	}
	if g, ok := s.Granted(now); ok {
		v.Granted = &g
	}
	if s.Checkout != nil && now.Before(s.Checkout.Expires) {
		v.Checkout = s.Checkout
	}
	return v, l.desktops(ctx, account, &v)
}

// desktops adds which of the account's desktops stop.
func (l Log) desktops(ctx context.Context, account string, v *Overview) error {
	held, err := quotas.Fold(ctx, l.Store, account)
	if err != nil {
		return err
	}
	v.Held = held.Held()
	now := l.Now()
	stops := v.Access.StopAt
	if v.Access.Level == billing.Full {
		stops = domain.Later(stops, now)
	}
	for n, id := range held.Instances() {
		s, err := instances.Fold(ctx, l.Store, id)
		if errors.Is(err, eventstore.ErrDamaged) {
			continue // it must not keep its owner from paying
		}
		if err != nil {
			return err
		}
		if s.Status == instance.Running && (v.Access.Level != billing.Full || v.Access.MustStop(planType(s), n >= v.Access.Desktops, stops) != "") {
			v.Stopping = append(v.Stopping, id)
		}
	}
	if v.Access.Level == billing.Due || len(v.Stopping) > 0 {
		v.StopAt = stops
	}
	return nil
}

// due adds up the invoices that were not paid when Stripe tried.
func due(s billing.State) *PaymentDue {
	var d *PaymentDue
	current, _ := s.Current()
	for _, i := range s.Invoices {
		failed := i.Attempts > 0 || i.Subscription == current.ID && (current.Status == billing.PastDue || current.Status == billing.Unpaid)
		if i.Status != "open" || i.Due <= i.Paid || !failed {
			continue
		}
		if d == nil {
			d = &PaymentDue{Currency: i.Currency}
		}
		if i.Currency == d.Currency {
			d.Amount += i.Due - i.Paid
		}
		d.Attempts = max(d.Attempts, i.Attempts)
		if !i.NextAttempt.IsZero() && (d.NextAttempt.IsZero() || i.NextAttempt.Before(d.NextAttempt)) {
			d.NextAttempt = i.NextAttempt
		}
	}
	return d
}
