package commands_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/usage"
)

// ReportUsage counts a report once in 24 hours.
func (c *till) ReportUsage(ctx context.Context, r billing.Report) error {
	c.sent = append(c.sent, r)
	if c.refuse != nil {
		return c.refuse
	}
	if at, known := c.seen[r.Identifier]; !known || c.Now().Sub(at) >= 24*time.Hour {
		c.seen[r.Identifier] = c.Now()
		c.counted[r.Day] += r.Seconds
	}
	if c.report != nil {
		return c.report(r)
	}
	return ctx.Err()
}

func (c *till) UsageShown(_ context.Context, customer, day string) (int64, error) {
	if c.gone[customer] {
		return 0, &commands.RefusedError{Code: "resource_missing"}
	}
	return c.counted[day], c.fails
}

// meter is a counter with runs of desktops, which Metering reports.
type meter struct {
	*counter
	runs []usage.Interval
	*commands.Metering
}

// Position says that the read models follow the log.
func (m *meter) Position() int64 { return 1 << 60 }

func (m *meter) Spent(_ context.Context, _ time.Time, _ ...string) (usage.Usage, error) {
	return usage.Usage{Intervals: slices.Clone(m.runs)}, nil
}

// newMeter returns one with a subscriber, at 12:00 of the first day, and a process that has run for long.
func newMeter(t *testing.T) *meter {
	m := &meter{counter: newCounter(t)}
	noon := m.Clock.Now().Truncate(24 * time.Hour).Add(36 * time.Hour)
	m.Clock.Advance(noon.Sub(m.Clock.Now()))
	m.buy(t, m.user, billing.Pro)
	m.restart()
	return m
}

func (m *meter) restart() {
	m.Metering = &commands.Metering{Payments: m.payments, Usage: m, Warm: -1}
}

// at returns a time of a day; day 0 is the one on which the subscription began.
func (m *meter) at(t testing.TB, day, hour int) time.Time {
	sub, _ := m.state(t).Current()
	return usage.Day(sub.Created).AddDate(0, 0, day).Add(time.Duration(hour) * time.Hour)
}

func (m *meter) day(t testing.TB, day int) string { return m.at(t, day, 0).Format(time.DateOnly) }

func (m *meter) ran(from, to time.Time) {
	i := usage.Interval{Instance: "d", Account: m.user.Account, N: len(m.runs) + 1, Kind: usage.Compute, From: from, To: to, End: usage.ByCloud}
	if to.IsZero() {
		i.End = usage.Open
	}
	m.runs = append(m.runs, i)
}

// goTo moves the clock to a time and makes a pass.
func (m *meter) goTo(t testing.TB, at time.Time) error {
	t.Helper()
	m.Clock.Advance(at.Sub(m.Clock.Now()))
	return m.Pass(t.Context())
}

func (m *meter) counts(t testing.TB, day int, want int64) {
	t.Helper()
	name := m.day(t, day)
	if got, known := m.till.counted[name], m.state(t).Usage[name]; got != want || known.Sent != want || known.Open != nil || known.Unclear != 0 {
		t.Errorf("day %d: Stripe counts %d seconds, the log has %+v, want %d", day, got, known, want)
	}
}

const hour = int64(3600)

func TestMeterReportsEachDayOnce(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.ran(m.at(t, 0, 6), m.at(t, 0, 15))                                                                    // three hours of it since the subscription began
	m.ran(m.at(t, 0, 20), m.at(t, 1, 2))                                                                    // over midnight
	m.ran(m.at(t, 1, 10), time.Time{})                                                                      // goes on
	m.runs = append(m.runs, usage.Interval{Kind: usage.Disk, Account: m.user.Account, From: m.at(t, 0, 0)}) // a disk does not run
	for _, at := range []time.Time{m.at(t, 0, 18), m.at(t, 1, 0), m.at(t, 1, 0).Add(50 * time.Minute)} {
		if err := m.goTo(t, at); err != nil || len(m.till.sent) > 0 {
			t.Fatalf("at %v: got %v and %d reports, want none before an hour after the day's end", at, err, len(m.till.sent))
		}
	}
	for hours := 1; hours < 60; hours++ {
		if err := m.goTo(t, m.at(t, 1, hours)); err != nil {
			t.Fatal(err)
		}
	}
	m.counts(t, 0, 7*hour)
	m.counts(t, 1, 16*hour)
	m.counts(t, 2, 24*hour)
	if len(m.till.sent) != 3 || m.till.sent[0].Timestamp() != m.at(t, 1, 0).Add(-time.Second) {
		t.Errorf("got %+v, want one report a day, with the time of its end", m.till.sent)
	}
}

// What is known late is reported as the difference. What was too much stays so, and is not taken from another day.
func TestMeterLateUsage(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.ran(m.at(t, 0, 13), m.at(t, 0, 14))
	m.ran(m.at(t, 1, 1), m.at(t, 1, 5))
	for day := 1; day <= 2; day++ {
		if err := m.goTo(t, m.at(t, day, 2)); err != nil {
			t.Fatal(err)
		}
	}
	m.runs[0].To, m.runs[1].To = m.at(t, 0, 16), m.at(t, 1, 2)
	if err := m.goTo(t, m.at(t, 2, 9)); err != nil {
		t.Fatal(err)
	}
	m.counts(t, 0, 3*hour)
	m.counts(t, 1, 4*hour)
	if len(m.till.sent) != 3 || m.till.sent[2].Seconds != 2*hour || m.till.sent[2].Identifier == m.till.sent[0].Identifier {
		t.Errorf("got %+v, want a report of two hours more with its own identifier", m.till.sent)
	}
}

// lost has the first report counted, and its answer lost.
func (m *meter) lost(t testing.TB) {
	t.Helper()
	m.ran(m.at(t, 0, 13), m.at(t, 0, 14))
	m.till.report = func(billing.Report) error { return commandstest.ErrNoAnswer }
	if err := m.goTo(t, m.at(t, 1, 1)); !errors.Is(err, commandstest.ErrNoAnswer) {
		t.Fatalf("got %v, want %v", err, commandstest.ErrNoAnswer)
	}
}

func TestMeterRepeatsWithTheSameIdentifier(t *testing.T) {
	t.Parallel()
	for _, restarts := range []bool{false, true} {
		m := newMeter(t)
		m.lost(t)
		m.till.report = nil
		if restarts {
			m.restart()
		}
		if err := m.goTo(t, m.at(t, 1, 23)); err != nil {
			t.Fatal(err)
		}
		m.counts(t, 0, hour)
		if len(m.till.sent) != 2 || m.till.sent[1] != m.till.sent[0] {
			t.Errorf("got %+v, want the same report again", m.till.sent)
		}
	}
}

// After 23 hours nothing is sent, and Stripe's meter decides once it certainly shows what was sent until then.
func TestMeterDecides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		effect  bool  // the first call had one
		other   int64 // seconds of another program
		counted int64 // in the end, by the log
		unclear int64
	}{"counted": {true, 0, hour, 0}, "not counted": {false, 0, hour, 0}, "something else": {true, 7, 0, hour}} {
		m := newMeter(t)
		if m.lost(t); !c.effect {
			clear(m.till.counted)
			clear(m.till.seen)
		}
		day := m.day(t, 0)
		m.till.counted[day] += c.other
		m.till.report = nil
		sent := len(m.till.sent)
		for _, hours := range []int{24, 25, 26} {
			if err := m.goTo(t, m.at(t, 1, hours).Add(30*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		if open := m.state(t).Usage[day].Open; len(m.till.sent) != sent || open == nil {
			t.Errorf("%s: got %d reports and the open one %v between 23 and 26 hours, want to wait", name, len(m.till.sent)-sent, open)
		}
		for hours := 27; hours < 40; hours++ {
			if err := m.goTo(t, m.at(t, 1, hours).Add(30*time.Minute)); err != nil {
				t.Fatal(err)
			}
		}
		got := m.state(t).Usage[day]
		if got.Sent != c.counted || got.Unclear != c.unclear || got.Open != nil || m.till.counted[day] != hour+c.other {
			t.Errorf("%s: got %+v and %d at Stripe, want %d sent, %d unclear and %d at Stripe", name, got, m.till.counted[day], c.counted, c.unclear, hour+c.other)
		}
	}
}

// A refusal proves something only about the call that was refused: the one before it may have been counted.
func TestMeterRefusedRepeat(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.lost(t)
	m.till.report, m.till.refuse = nil, &commands.RefusedError{Code: "meter_inactive", Reason: "The meter is not active."}
	if err := m.goTo(t, m.at(t, 1, 3)); err != nil {
		t.Fatal(err)
	}
	if m.state(t).Usage[m.day(t, 0)].Open == nil {
		t.Error("a refused repeat settled a report that was counted")
	}
	m.till.refuse = nil
	if err := m.goTo(t, m.at(t, 1, 23)); err != nil {
		t.Fatal(err)
	}
	m.counts(t, 0, hour)
}

// What Stripe refuses is reported again hours later, with another identifier, and does not fill the log.
func TestMeterRefused(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.ran(m.at(t, 0, 13), m.at(t, 0, 14))
	m.till.refuse = &commands.RefusedError{Code: "no_meter", Reason: "No active meter."}
	for minutes := 0; minutes < 60*5; minutes += 10 {
		if err := m.goTo(t, m.at(t, 1, 1).Add(time.Duration(minutes)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.till.sent) != 1 {
		t.Errorf("got %d calls in five hours, want one", len(m.till.sent))
	}
	m.till.refuse = nil
	for hours := 7; hours < 20; hours++ {
		if err := m.goTo(t, m.at(t, 1, hours)); err != nil {
			t.Fatal(err)
		}
	}
	m.counts(t, 0, hour)
}

// A process reports no new day in its first hour, nor after a gap: the read models may show runs that have ended.
func TestMeterWarmsUp(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.Warm = time.Hour
	m.ran(m.at(t, 0, 13), time.Time{})
	pass := func(from, to time.Time) {
		t.Helper()
		for at := from; at.Before(to); at = at.Add(10 * time.Minute) {
			if err := m.goTo(t, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	pass(m.at(t, 1, 2), m.at(t, 1, 3))
	if len(m.till.sent) != 0 {
		t.Error("a new process reported in its first hour")
	}
	pass(m.at(t, 1, 3), m.at(t, 1, 4))
	m.counts(t, 0, 11*hour)
	pass(m.at(t, 2, 3), m.at(t, 2, 4)) // it could not pass for 23 hours
	if len(m.till.sent) != 1 {
		t.Error("a process reported in the first hour after a gap")
	}
	m.runs[0].To, m.runs[0].End = m.at(t, 1, 5), usage.ByCloud // seen now
	pass(m.at(t, 2, 4), m.at(t, 2, 5))
	m.counts(t, 1, 5*hour)
}

// A call has to begin within 23 hours of the report, however long the process was paused.
func TestMeterCallEnds(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.ran(m.at(t, 0, 13), m.at(t, 0, 14))
	m.Payments.Stripe = deadlines{m.till, t}
	if err := m.goTo(t, m.at(t, 1, 1)); err != nil {
		t.Fatal(err)
	}
	m.counts(t, 0, hour)
}

type deadlines struct {
	*till
	t *testing.T
}

func (d deadlines) ReportUsage(ctx context.Context, r billing.Report) error {
	if at, ok := ctx.Deadline(); !ok || time.Until(at) > 23*time.Hour {
		d.t.Errorf("got the deadline %v, want one within 23 hours", at)
	}
	return d.till.ReportUsage(ctx, r)
}

// Without a subscription that pays, nothing is reported.
func TestMeterWithoutSubscription(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	sub, _ := m.state(t).Current()
	m.ran(m.at(t, 0, 13), time.Time{})
	m.stripe.Change(sub.ID, func(s *billing.Subscription) { s.Status = billing.Canceled })
	m.sync(t, m.user)
	if err := m.goTo(t, m.at(t, 3, 3)); err != nil || len(m.till.sent) > 0 {
		t.Errorf("got %v and %d reports, want none", err, len(m.till.sent))
	}
}

// A report of a customer that Stripe no longer has is left to the operator, after the time in which it could be sent.
func TestMeterOfADeletedCustomer(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.lost(t)
	m.till.report = nil
	m.till.gone[m.state(t).Customer] = true
	if err := m.goTo(t, m.at(t, 3, 0)); err == nil || m.state(t).Usage[m.day(t, 0)].Open == nil {
		t.Errorf("got %v, want an error and an open report: the key may be another account's", err)
	}
	m.ran(m.at(t, 2, 1), m.at(t, 2, 2))
	if err := m.goTo(t, m.at(t, 3, 12)); err == nil {
		t.Error("got no error, want one about the open report")
	}
	m.counts(t, 2, hour) // the other days go on
	if err := m.goTo(t, m.at(t, 36, 0)); err != nil {
		t.Fatal(err)
	}
	if got := m.state(t).Usage[m.day(t, 0)]; got.Open != nil || got.Unclear != hour {
		t.Errorf("got %+v, want an unclear hour", got)
	}
}

// After a backup was restored, the log lacks reports that Stripe has and whose identifiers it has forgotten. They are not sent
// again: an operator has to look at the days. What is new is reported.
func TestMeterAfterARestore(t *testing.T) {
	t.Parallel()
	m := newMeter(t)
	m.ran(m.at(t, 0, 13), m.at(t, 0, 15))
	m.ran(m.at(t, 3, 1), m.at(t, 3, 2))
	lost := m.day(t, 0)
	m.till.counted[lost] = 2 * hour // it was reported after the backup
	for _, at := range []time.Time{m.at(t, 3, 12), m.at(t, 4, 3), m.at(t, 4, 12)} {
		if err := m.goTo(t, at); err != nil {
			t.Fatal(err)
		}
	}
	if got, known := m.till.counted[lost], m.state(t).Usage[lost]; got != 2*hour || known.Sent != 0 || known.Open != nil || known.Unclear != 2*hour {
		t.Errorf("Stripe counts %d seconds, the log has %+v, want %d, unclear", got, known, 2*hour)
	}
	m.counts(t, 3, hour)
	if len(m.till.sent) != 1 {
		t.Errorf("got %+v, want only the new day's report", m.till.sent)
	}
}
