package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// account reports the days of an account that Stripe does not have yet.
func (c *Metering) account(ctx context.Context, account string, runs []usage.Interval, now time.Time) error {
	if at, refused := c.refused[account]; refused && now.Sub(at).Abs() < meterRefuse {
		return nil
	}
	s, err := billings.Fold(ctx, c.Store, account)
	if err != nil {
		return fmt.Errorf("report usage of account %s: %w", account, err)
	}
	from := s.MeteredFrom()
	if from.IsZero() {
		return nil
	}
	last := usage.Day(now.Add(-meterAfter)) // goes on, or ended only a moment ago
	for day := domain.Later(usage.Day(from), usage.Day(now).AddDate(0, 0, -meterBack)); day.Before(last); day = day.AddDate(0, 0, 1) {
		name, seconds := day.Format(time.DateOnly), ranOn(runs, day, from)
		if m := s.Usage[name]; seconds <= m.Sent+m.Unclear { // nothing more to report
			if seconds < m.Sent && m.Open == nil {
				c.Logger.InfoContext(ctx, "usage became less than was reported", "account", account, "day", name, "reported", m.Sent, "seconds", seconds)
			}
			continue
		}
		due := billing.ReportUsage{Account: account, Day: name, Seconds: seconds}
		known, err := c.known(ctx, s, day, now)
		if err == nil && known != "" {
			err = c.doubt(ctx, account, due, known)
		} else if err == nil {
			err = c.report(ctx, account, due)
		}
		if err != nil {
			return fmt.Errorf("report usage of account %s on %s: %w", account, name, err)
		}
		if at, refused := c.refused[account]; refused && !at.Before(now) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// known returns a reason not to report more of a day: Stripe's meter shows more than the log has, so the log is a backup that was
// restored. While Stripe knows the identifiers of that day's reports, it counts them once anyway. "": there is no reason.
func (c *Metering) known(ctx context.Context, s billing.State, day, now time.Time) (string, error) {
	name := day.Format(time.DateOnly)
	m := s.Usage[name]
	if m.Open != nil || now.Before(day.AddDate(0, 0, 1).Add(sendWithin)) {
		return "", nil
	}
	shown, err := c.Stripe.UsageShown(ctx, s.Customer, name)
	switch {
	case missing(err): // the report will be refused
		return "", nil
	case err != nil || shown <= m.Sent+m.Unclear:
		return "", err
	}
	return fmt.Sprintf("Stripe's meter shows %d seconds of the day already, and the log has %d.", shown, m.Sent+m.Unclear), nil
}

// doubt records a report that is not sent, for an operator to look at.
func (c *Metering) doubt(ctx context.Context, account string, due billing.ReportUsage, reason string) error {
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		before, err := billings.Load(ctx, u, account)
		if err != nil {
			return nil, err
		}
		due.At = c.Now()
		s, err := billings.Execute(ctx, u, account, due)
		if err != nil || s.Usage[due.Day].Count == before.Usage[due.Day].Count {
			return nil, err
		}
		open := s.Usage[due.Day].Open
		_, err = billings.Execute(ctx, u, account, billing.SettleUsage{Identifier: open.Identifier, Day: due.Day, Outcome: billing.Unclear, Reason: reason, At: due.At})
		return nil, err
	})
	if err == nil {
		c.Logger.ErrorContext(ctx, "usage not reported, because Stripe's meter shows more of the day than the log: look at the account", "account", account, "day", due.Day)
	}
	return err
}

// ranOn returns the whole seconds that desktops ran on a UTC day, since a time. An open run lasts until the day's end.
func ranOn(runs []usage.Interval, day, since time.Time) int64 {
	var ran time.Duration
	for _, i := range runs {
		from, to := domain.Later(domain.Later(i.From, day), since), day.AddDate(0, 0, 1)
		if i.End != usage.Open {
			to = domain.Earlier(to, i.To)
		}
		ran += max(0, to.Sub(from))
	}
	return int64(ran / time.Second)
}

// report records a report, sends it, and records the outcome if that is known.
func (c *Metering) report(ctx context.Context, account string, due billing.ReportUsage) error {
	var made *billing.Report
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		before, err := billings.Load(ctx, u, account)
		if err != nil {
			return nil, err
		}
		due.At, made = c.Now(), nil
		s, err := billings.Execute(ctx, u, account, due)
		if err == nil && s.Usage[due.Day].Count > before.Usage[due.Day].Count {
			made = s.Usage[due.Day].Open
		}
		return nil, err
	})
	if err != nil || made == nil {
		return err
	}
	return c.send(ctx, account, *made, true)
}

// send sends a report. Only if this is the first call, a refusal proves that Stripe does not have it.
func (c *Metering) send(ctx context.Context, account string, r billing.Report, first bool) error {
	left := r.At.Add(sendWithin).Sub(c.Now())
	if !r.Repeatable(c.Now()) || left <= 0 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, left) // a process that was paused must not send what Stripe may have forgotten
	defer cancel()
	err := c.Stripe.ReportUsage(call, r)
	var refused *RefusedError
	switch {
	case err == nil:
		return c.settle(ctx, account, r, billing.Sent, "")
	case errors.As(err, &refused) || errors.Is(err, ErrNotAtStripe):
		c.Logger.ErrorContext(ctx, "Stripe refused a report of usage", "account", account, "report", r.Identifier, "err", err)
		c.refuse(account)
		if first {
			return c.settle(ctx, account, r, billing.Absent, "Stripe refused it: "+clip(err.Error(), 300))
		}
		c.unsure(account)
		return nil
	}
	c.unsure(account)
	return err
}

// sendWithin is how long after a report was recorded it may be sent: as long as it is repeatable.
const sendWithin = 23 * time.Hour

func (c *Metering) refuse(account string) {
	if c.refused == nil {
		c.refused = map[string]time.Time{}
	}
	c.refused[account] = c.Now()
}

func (c *Metering) unsure(account string) {
	if c.open == nil {
		c.open = map[string]bool{}
	}
	c.open[account] = true
}

func (c *Metering) settle(ctx context.Context, account string, r billing.Report, as billing.Outcome, reason string) error {
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := billings.Execute(ctx, u, account, billing.SettleUsage{Identifier: r.Identifier, Day: r.Day, Outcome: as, Reason: reason, At: c.Now()})
		return nil, err
	})
	if err != nil {
		c.unsure(account)
	}
	return err
}

// settleAccount goes on with an account's reports that have no outcome: it repeats those that Stripe counts once, and has
// Stripe's meter decide about older ones.
func (c *Metering) settleAccount(ctx context.Context, account string) error {
	s, err := billings.Fold(ctx, c.Store, account)
	if err != nil {
		return fmt.Errorf("settle usage of account %s: %w", account, err)
	}
	delete(c.open, account)
	var failed error
	for _, day := range slices.Sorted(maps.Keys(s.Usage)) {
		r := s.Usage[day].Open
		switch now := c.Now(); {
		case r == nil:
			continue
		case r.Repeatable(now):
			err = c.send(ctx, account, *r, false)
		case now.Before(r.At.Add(meterSettle)):
			c.unsure(account)
			continue
		default:
			err = c.settleByMeter(ctx, account, *r)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("settle report %s: %w", r.Identifier, err))
		}
	}
	return failed
}

// settleByMeter records what Stripe's meter shows of a report. It asks in the unit that records the answer.
func (c *Metering) settleByMeter(ctx context.Context, account string, r billing.Report) error {
	var outcome billing.Outcome
	_, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := billings.Load(ctx, u, account)
		m := s.Usage[r.Day]
		if outcome = ""; err != nil || m.Open == nil || m.Open.Identifier != r.Identifier {
			return nil, err
		}
		shown, err := c.Stripe.UsageShown(ctx, r.Customer, r.Day)
		reason := fmt.Sprintf("Stripe's meter shows %d seconds for the day.", shown)
		switch {
		case err == nil:
			outcome = m.Shown(shown)
		case missing(err) && !c.Now().Before(r.At.Add(meterGiveUp)):
			outcome, reason = billing.Unclear, "Stripe does not have the customer or the meter any more."
		default:
			return nil, err
		}
		_, err = billings.Execute(ctx, u, account, billing.SettleUsage{Identifier: r.Identifier, Day: r.Day, Outcome: outcome, At: c.Now(), Reason: reason})
		return nil, err
	})
	switch {
	case err != nil:
		c.unsure(account)
	case outcome == billing.Unclear:
		c.Logger.ErrorContext(ctx, "Stripe's meter shows other usage than was reported: look at the account, nothing is sent again", "account", account, "report", r.Identifier)
	case outcome != "":
		c.Logger.WarnContext(ctx, "report of usage settled by Stripe's meter", "account", account, "report", r.Identifier, "outcome", outcome)
	}
	return err
}
