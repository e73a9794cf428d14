package billing

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestUsage(t *testing.T) {
	t.Parallel()
	dayOf := func(n int) string { return after(time.Duration(n) * day).Format(time.DateOnly) }
	report := func(d string, seconds int64, at time.Time) ReportUsage {
		return ReportUsage{Account: "a", Day: d, Seconds: seconds, At: at}
	}
	reported := func(id, d string, seconds int64, at time.Time) UsageReported {
		return UsageReported{Report{Identifier: id, Day: d, Seconds: seconds, Customer: "cus_1", At: at}}
	}
	settled := func(id string, o Outcome) UsageSettled {
		return UsageSettled{Identifier: id, Day: dayOf(1), Outcome: o, At: after(3 * day)}
	}
	first := reported("a-2026-11-29-1", dayOf(1), 100, after(2*day))
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "a day", Given: bought(Pro), When: report(dayOf(1), 100, after(2*day)), Then: []Event{first}},
		{Name: "the day on which it began", Given: bought(Pro), When: report(dayOf(0), 100, after(2*day)), Then: []Event{reported("a-2026-11-28-1", dayOf(0), 100, after(2*day))}},
		{Name: "the day before", Given: bought(Pro), When: report(dayOf(-1), 100, after(2*day))},
		{Name: "a day that is not over", Given: bought(Pro), When: report(dayOf(1), 100, after(day+12*time.Hour-1))},
		{Name: "a day that is just over", Given: bought(Pro), When: report(dayOf(1), 100, after(day+12*time.Hour)), Then: []Event{reported("a-2026-11-29-1", dayOf(1), 100, after(day+12*time.Hour))}},
		{Name: "a day too long ago", Given: bought(Pro), When: report(dayOf(1), 100, noon.Add(12*time.Hour).Add(34*day))},
		{Name: "no day", Given: bought(Pro), When: report("yesterday", 100, after(2*day))},
		{Name: "no usage", Given: bought(Pro), When: report(dayOf(1), 0, after(2*day))},
		{Name: "without a customer", When: report(dayOf(1), 100, after(2*day))},
		{Name: "after the subscription ended", Given: bought(Pro, shown("sub_1", Pro, Canceled, noon)), When: report(dayOf(1), 100, after(2*day))},
		{Name: "while the first report has no outcome", Given: bought(Pro, first), When: report(dayOf(1), 200, after(3*day))},
		{Name: "the same", Given: bought(Pro, first, settled(first.Identifier, Sent)), When: report(dayOf(1), 100, after(3*day))},
		{Name: "more", Given: bought(Pro, first, settled(first.Identifier, Sent)), When: report(dayOf(1), 130, after(3*day)), Then: []Event{reported("a-2026-11-29-2", dayOf(1), 30, after(3*day))}},
		{Name: "less", Given: bought(Pro, first, settled(first.Identifier, Sent)), When: report(dayOf(1), 90, after(3*day))},
		{Name: "after an absent one", Given: bought(Pro, first, settled(first.Identifier, Absent)), When: report(dayOf(1), 100, after(3*day)), Then: []Event{reported("a-2026-11-29-2", dayOf(1), 100, after(3*day))}},
		{Name: "after an unclear one", Given: bought(Pro, first, settled(first.Identifier, Unclear)), When: report(dayOf(1), 100, after(3*day))},

		{Name: "settle", Given: bought(Pro, first), When: SettleUsage(settled(first.Identifier, Sent)), Then: []Event{settled(first.Identifier, Sent)}},
		{Name: "settle again", Given: bought(Pro, first, settled(first.Identifier, Sent)), When: SettleUsage(settled(first.Identifier, Absent))},
		{Name: "settle another", Given: bought(Pro, first), When: SettleUsage(settled("a-2026-11-29-9", Sent))},
	})
	if got := first.Timestamp(); !got.Equal(time.Date(2026, 11, 29, 23, 59, 59, 0, time.UTC)) {
		t.Errorf("got time %v of the report, want the day's last second", got)
	}
	if !first.Repeatable(first.At.Add(23*time.Hour-1)) || first.Repeatable(first.At.Add(23*time.Hour)) {
		t.Errorf("got a report that is repeatable at another time than for 23 hours")
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	open := &Report{Seconds: 40}
	for name, c := range map[string]struct {
		m       Metered
		seconds int64
		want    Outcome
	}{
		"it has it":                  {Metered{Sent: 100, Open: open}, 140, Sent},
		"it does not have it":        {Metered{Sent: 100, Open: open}, 100, Absent},
		"it has a part":              {Metered{Sent: 100, Open: open}, 120, Unclear},
		"it has more":                {Metered{Sent: 100, Open: open}, 180, Unclear},
		"it has less than before":    {Metered{Sent: 100, Open: open}, 60, Unclear},
		"an earlier one was unclear": {Metered{Sent: 100, Unclear: 40, Open: open}, 140, Unclear},
		"no report is open":          {Metered{Sent: 100}, 100, Unclear},
	} {
		if got := c.m.Shown(c.seconds); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

// For any usage that Stripe gets or loses, and any time at which its meter is asked: what the log says was sent is what Stripe
// has unless a report is open, and no second is reported twice.
func TestUsageLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := decider.Fold(bought(Pro)...)
		atStripe, used, sum := map[string]int64{}, map[string]int64{}, map[string]bool{}
		now := noon
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "hours")) * time.Hour)
			d := now.AddDate(0, 0, -rapid.IntRange(1, 40).Draw(t, "ago")).Format(time.DateOnly)
			used[d] += rapid.Int64Range(0, 5000).Draw(t, "used")
			if m := s.Usage[d]; m.Open != nil { // its answer was lost
				o := Sent
				switch {
				case !m.Open.Repeatable(now):
					o = m.Shown(atStripe[d])
				case !sum[m.Open.Identifier]: // the same identifier counts once
					atStripe[d] += m.Open.Seconds
					sum[m.Open.Identifier] = true
				}
				s = execute(t, s, SettleUsage{Identifier: m.Open.Identifier, Day: d, Outcome: o, At: now})
				continue
			}
			s = execute(t, s, ReportUsage{"a", d, used[d], now})
			m := s.Usage[d]
			if m.Open == nil {
				continue
			}
			if arrives := rapid.Bool().Draw(t, "arrives"); arrives {
				atStripe[d] += m.Open.Seconds
				sum[m.Open.Identifier] = true
			}
			if rapid.Bool().Draw(t, "answer") && sum[m.Open.Identifier] {
				s = execute(t, s, SettleUsage{Identifier: m.Open.Identifier, Day: d, Outcome: Sent, At: now})
			}
		}
		for d, m := range s.Usage {
			if m.Unclear > 0 {
				t.Fatalf("got %+v of %s, want nothing unclear: Stripe's meter shows all", m, d)
			}
			if m.Open == nil && m.Sent != atStripe[d] || atStripe[d] > used[d] {
				t.Fatalf("got %+v of %s and %d seconds at Stripe, want the same, and at most %d", m, d, atStripe[d], used[d])
			}
		}
	})
}
