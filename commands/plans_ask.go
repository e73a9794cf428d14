package commands

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

const (
	askFor  = 20 * time.Second // of one enforcement: the plans of others do not wait longer for Stripe
	awayFor = 24 * time.Hour   // after the time for a payment, it is over even if Stripe does not answer
)

// asker asks Stripe in one enforcement.
type asker struct {
	*Payments
	ctx context.Context // ends when this enforcement has asked for long enough
}

// askFirst looks at what Stripe shows of an account if the time for its payment is over, because no delivery may have told that
// it was paid. It reports whether that was recorded. If Stripe does not answer, it returns an error while that counts.
func (a asker) askFirst(of Billed, due []billing.Event) (bool, error) {
	if a.Payments == nil || of.State.Access.Level != billing.Due || !lapses(due) {
		return false, nil
	}
	_, err := a.look(a.ctx, Origin{}, of.Account, func(s billing.State) ([]billing.Command, error) { return a.seeAll(a.ctx, s) })
	switch {
	case err == nil:
		return true, nil
	case a.Now().Before(of.State.DueSince.Add(a.Terms.Grace + awayFor)):
		return false, fmt.Errorf("ask Stripe whether account %s has paid: %w", of.Account, err)
	}
	return false, nil
}

// lapses reports whether events end an account's access because of a payment.
func lapses(events []billing.Event) bool {
	for _, e := range events {
		if set, ok := e.(billing.AccessSet); ok && set.Level == billing.None && set.Reason == billing.PaymentFailed {
			return true
		}
	}
	return false
}
