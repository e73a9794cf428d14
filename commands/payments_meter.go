package commands

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/usage"
)

const (
	meterBack   = 33                  // days: earlier ones are no longer reported
	meterAfter  = time.Hour           // after a day's end, its usage is reported
	meterWhole  = 6 * time.Hour       // between two passes over all accounts: usage may become known late
	meterSettle = 26 * time.Hour      // after a report, Stripe's meter shows it: Stripe counts within hours, and the last repeat is 23 hours after the report
	meterGiveUp = 34 * 24 * time.Hour // after a report, an operator has to settle it: Stripe does not take it any more
	meterRefuse = 6 * time.Hour       // an account whose report Stripe refused is reported again after that
)

// Metering reports to Stripe how many seconds each account's desktops ran, by UTC day.
//
// A report is recorded before it is sent, with the identifier by which Stripe counts it once. One whose outcome is not known
// is sent again with that identifier while Stripe knows it, and later settled by what Stripe's meter shows.
type Metering struct {
	*Payments
	Usage Usages

	// Warm is for how long no new day is reported after the first pass, and after a gap of half of it between two passes
	// [1 h]. If the control plane was down, the read models show runs that have ended meanwhile: by then the saga has looked.
	Warm time.Duration

	mu      sync.Mutex
	began   time.Time            // of the first pass without a gap since
	passed  time.Time            // of the latest pass
	whole   time.Time            // of the latest pass over all accounts
	open    map[string]bool      // accounts with reports that have no outcome
	refused map[string]time.Time // accounts whose report was refused, with when
}

// Usages are the read models of what desktops used.
type Usages interface {
	// Position returns how far they have followed the log.
	Position() int64
	// Spent returns what accounts used since a time.
	Spent(ctx context.Context, since time.Time, accounts ...string) (usage.Usage, error)
}

// Pass reports what is due and settles what is open. An account that fails does not keep the others from it. Passes of
// several processes at once do no harm, but a process makes one at a time.
func (c *Metering) Pass(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.followed(ctx, c.Usage.Position, customersPatience); err != nil {
		return fmt.Errorf("report usage: %w", err)
	}
	now := c.Now()
	if c.passed.IsZero() || now.Sub(c.passed).Abs() > c.warm()/2 {
		c.began = now
	}
	c.passed = now
	if since := now.Sub(c.whole); !c.whole.IsZero() && since >= 0 && since < meterWhole && usage.Day(now.Add(-meterAfter)).Equal(usage.Day(c.whole.Add(-meterAfter))) {
		return c.again(ctx)
	}
	var failed error
	for after := ""; ; {
		page, err := c.Books.Billed(ctx, after, billedPage)
		if err != nil {
			return joined(failed, fmt.Errorf("report usage: %w", err))
		}
		failed = joined(failed, c.page(ctx, page, now))
		if ctx.Err() != nil {
			return failed
		}
		if len(page) < billedPage {
			break
		}
		after = page[len(page)-1].Account
	}
	if failed == nil && c.isWarm(now) {
		c.whole = now
	}
	return failed
}

func (c *Metering) warm() time.Duration { return cmp.Or(c.Warm, time.Hour) }

func (c *Metering) isWarm(now time.Time) bool { return !now.Before(c.began.Add(c.warm())) }

// again goes on with the reports without an outcome.
func (c *Metering) again(ctx context.Context) error {
	var failed error
	for _, account := range slices.Sorted(maps.Keys(c.open)) {
		failed = joined(failed, c.settleAccount(ctx, account))
	}
	return failed
}

func (c *Metering) page(ctx context.Context, page []Billed, now time.Time) error {
	var ids []string
	for _, of := range page {
		if of.State.Customer != "" {
			ids = append(ids, of.Account)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	used, err := c.Usage.Spent(ctx, usage.Day(now).AddDate(0, 0, -meterBack), ids...)
	if err != nil {
		return fmt.Errorf("read usage: %w", err)
	}
	runs := map[string][]usage.Interval{}
	for _, i := range used.Intervals {
		if i.Kind == usage.Compute {
			runs[i.Account] = append(runs[i.Account], i)
		}
	}
	var failed error
	for _, id := range ids {
		failed = joined(failed, c.settleAccount(ctx, id))
		if c.isWarm(now) { // also if the report of another day cannot be settled
			failed = joined(failed, c.account(ctx, id, runs[id], now))
		}
		if ctx.Err() != nil {
			return joined(failed, ctx.Err())
		}
	}
	return failed
}
