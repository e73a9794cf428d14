// Package biller is the role that keeps the log and Stripe together: it looks at open Checkouts, compares everything once a
// day, reports metered usage, and enforces plans.
//
// The one thing to know: each of its decisions is made again in the append that records it, and each of its calls to Stripe
// may be repeated. Several billers, or one that was paused, do no harm.
package biller

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Plans enforces plans; commands has it.
type Plans interface {
	// Enforce records plans that have ended by time, and stops the desktops that no longer may run.
	Enforce(ctx context.Context) error
}

// Biller is the role; see Run.
type Biller struct {
	Payments    *commands.Payments
	Metering    *commands.Metering // nil: usage is not metered
	Plans       Plans
	Comparisons commands.Comparisons
	Logger      *slog.Logger

	Every      time.Duration // between two looks at open Checkouts, and between two enforcements [1 min]
	MeterEvery time.Duration // between two passes of Metering [10 min]
	CompareAge time.Duration // after it, everything is compared again [24 h]

	partly time.Time // when a comparison left accounts out
}

// partlyWait is how long after a comparison that left accounts out everything is compared again.
const partlyWait = time.Hour

// Run bills until ctx ends. What failed is repeated with the next look.
func (b *Biller) Run(ctx context.Context) error {
	every := cmp.Or(b.Every, time.Minute)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error { return b.each(ctx, every, "enforcing plans failed, will retry", b.Plans.Enforce) }))
	g.Go(crash.Guard(func() error {
		return b.each(ctx, every, "look at open Checkouts failed, will retry", b.Payments.CompareCheckouts)
	}))
	g.Go(crash.Guard(func() error {
		return b.each(ctx, 10*every, "comparison with Stripe failed, will retry", b.Compare)
	}))
	if b.Metering != nil {
		g.Go(crash.Guard(func() error {
			return b.each(ctx, cmp.Or(b.MeterEvery, 10*time.Minute), "reporting usage failed, will retry", b.Metering.Pass)
		}))
	}
	return g.Wait()
}

func (b *Biller) each(ctx context.Context, every time.Duration, failed string, do func(context.Context) error) error {
	for {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			b.Logger.WarnContext(ctx, failed, "err", err)
		}
		if retry.Sleep(ctx, every) != nil {
			return nil
		}
	}
}

// Compare compares everything if the latest comparison is too old. One that failed for some accounts is repeated.
func (b *Biller) Compare(ctx context.Context) error {
	last, err := b.Comparisons.LastComparison(ctx)
	if err != nil {
		return err
	}
	now := b.Payments.Now()
	if within(now, last, cmp.Or(b.CompareAge, 24*time.Hour)) || within(now, b.partly, partlyWait) {
		return nil
	}
	found, err := b.Payments.Compare(ctx)
	if found.Failed > 0 {
		b.partly = now
	}
	if err != nil {
		return err
	}
	b.Logger.InfoContext(ctx, "compared with Stripe", "accounts", found.Accounts, "subscriptions", found.Subscriptions, "invoices", found.Invoices,
		"different", found.Different, "changed", found.Changed, "missing", found.Missing, "foreign", found.Foreign, "unlinked", len(found.Unlinked), "several", len(found.Several))
	return b.Comparisons.RememberComparison(ctx, found)
}

// within reports whether a time was less than an interval ago. One in the future is of a clock that was ahead: it must not put
// anything off.
func within(now, at time.Time, interval time.Duration) bool {
	since := now.Sub(at)
	return !at.IsZero() && since >= 0 && since < interval
}
