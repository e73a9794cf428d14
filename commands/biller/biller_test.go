package biller_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/biller"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// office is a biller with what it needs, and counts.
type office struct {
	*commandstest.World
	*biller.Biller
	stripe   *commandstest.Stripe
	payers   *commandstest.Payers
	enforced atomic.Int64
	last     commands.Comparison
	compared int
	fails    error // what listing subscriptions returns
}

func (o *office) Enforce(context.Context) error {
	o.enforced.Add(1)
	return errors.New("what fails is repeated")
}

func (o *office) LastComparison(context.Context) (time.Time, error) { return o.last.Began, nil }

func (o *office) RememberComparison(_ context.Context, c commands.Comparison) error {
	o.last = c
	o.compared++
	return nil
}

// in runs f in a bubble, with a biller that does not run yet.
func in(t *testing.T, f func(t *testing.T, o *office)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &office{World: commandstest.NewWorld(9)}
		o.World.Clock.ShowTime()
		o.stripe, o.payers = commandstest.NewStripe(o.World.Log.Now), &commandstest.Payers{Store: o.Recorder}
		o.stripe.Before = func(call string) error {
			if call == "EachSubscription" {
				return o.fails
			}
			return nil
		}
		quiet := slog.New(slog.DiscardHandler)
		paid := &commands.Payments{Log: o.World.Log, Stripe: o.stripe, Prices: commandstest.PriceIDs, Books: o.payers, Logger: quiet, Origins: []string{"https://cloudbot.example"}}
		o.Biller = &biller.Biller{
			Payments: paid, Plans: o, Comparisons: o, Logger: quiet,
			Metering: &commands.Metering{Payments: paid, Usage: &commandstest.Books{Store: o.Recorder}},
		}
		f(t, o)
	})
}

// runs runs the biller for a time.
func (o *office) runs(t *testing.T, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	time.Sleep(d)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// Run enforces every minute, finds a payment that no delivery told within a minute, and compares once a day.
func TestRun(t *testing.T) {
	in(t, func(t *testing.T, o *office) {
		ada, _ := o.SignUp(t, "ada@example.org")
		_, session, err := o.Payments.Checkout(t.Context(), ada, billing.Pro, "https://cloudbot.example/paid", "https://cloudbot.example/")
		if err != nil {
			t.Fatal(err)
		}
		sub := o.stripe.Pay(session)
		o.runs(t, 90*time.Second)
		if account, err := o.payers.Customer(t.Context(), o.stripe.Subscriptions()[0].Customer); account != ada.Account || err != nil {
			t.Errorf("got the account %q, %v, want the one that paid", account, err)
		}
		if n := o.enforced.Load(); n != 2 {
			t.Errorf("got %d enforcements in 90 seconds, want 2", n)
		}
		o.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.Canceled })
		o.runs(t, 49*time.Hour)
		if o.compared != 3 {
			t.Errorf("got %d comparisons in 49 hours, want 3", o.compared)
		}
		list, err := o.payers.Billed(t.Context(), "", 9)
		if err != nil || list[0].State.Subscriptions[sub].Status != billing.Canceled {
			t.Errorf("got %+v, %v, want the end of the subscription", list, err)
		}
	})
}

// A new process compares only if the last comparison is a day old, and soon again after one that failed.
func TestCompareWhenDue(t *testing.T) {
	in(t, func(t *testing.T, o *office) {
		o.runs(t, time.Hour)
		o.runs(t, time.Hour)
		if o.compared != 1 {
			t.Errorf("got %d comparisons by two processes, want 1", o.compared)
		}
		o.fails = commandstest.ErrNoAnswer
		o.runs(t, 25*time.Hour)
		o.fails = nil
		if o.compared != 1 {
			t.Errorf("got %d comparisons while Stripe was away, want 1", o.compared)
		}
		o.runs(t, time.Minute)
		if o.compared != 2 {
			t.Errorf("got %d comparisons, want one as soon as Stripe answers", o.compared)
		}
		o.last.Began = o.World.Log.Now().Add(time.Hour) // by a clock that is ahead
		o.runs(t, time.Minute)
		if o.compared != 3 {
			t.Errorf("got %d comparisons, want none put off by a clock that is ahead", o.compared)
		}
	})
}
