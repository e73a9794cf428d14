package billing

import (
	"fmt"
	"time"
)

// Stripe's rules for meter events, and how far we stay from them: it remembers an identifier for at least 24 hours, and
// accepts a time of the past 35 days.
const (
	repeatable = 23 * time.Hour
	reportable = 34 * 24 * time.Hour
)

// Report is metered usage of one account and UTC day that Stripe is to count once.
type Report struct {
	Identifier string    `json:"identifier"`
	Day        string    `json:"day"` // "2026-11-28"
	Seconds    int64     `json:"seconds"`
	Customer   string    `json:"customer"`
	At         time.Time `json:"at"` // when it was recorded, before the first call
}

// Timestamp is the time that the usage has at Stripe: the day's last second. Whatever period began on that day has it.
func (r Report) Timestamp() time.Time { return dayOf(r.Day).Add(24*time.Hour - time.Second) }

// Repeatable reports whether Stripe certainly still knows the identifier, so that sending the report again counts once. A
// report that is not repeatable is settled by what Stripe's meter shows for the day.
func (r Report) Repeatable(now time.Time) bool { return now.Before(r.At.Add(repeatable)) }

// Outcome is what became of a report.
type Outcome string

const (
	Sent    Outcome = "sent"    // Stripe has it
	Absent  Outcome = "absent"  // Stripe does not have it and never will: its seconds may be part of another report
	Unclear Outcome = "unclear" // Stripe shows something else than our reports: an operator has to look. It is never sent again
)

// Metered is what is known of a day's reports.
type Metered struct {
	Count   int     `json:"count"`             // of the reports so far
	Sent    int64   `json:"sent,omitempty"`    // seconds that Stripe has
	Unclear int64   `json:"unclear,omitempty"` // seconds that Stripe may have
	Open    *Report `json:"open,omitempty"`    // without an outcome
}

// Shown returns the outcome of the day's open report, by the seconds that Stripe's meter shows for the day.
func (m Metered) Shown(seconds int64) Outcome {
	switch {
	case m.Open == nil || m.Unclear > 0:
		return Unclear
	case seconds == m.Sent+m.Open.Seconds:
		return Sent
	case seconds == m.Sent:
		return Absent
	}
	return Unclear
}

func dayOf(text string) time.Time {
	day, _ := time.Parse(time.DateOnly, text)
	return day
}

// decideReport reports a day's seconds that Stripe does not have yet. A day that shows fewer seconds than were reported is
// left as it is.
func decideReport(s State, account string, c ReportUsage) []Event {
	day, m := dayOf(c.Day), s.Usage[c.Day]
	more := c.Seconds - m.Sent - m.Unclear
	if day.IsZero() || m.Open != nil || more <= 0 || s.Customer == "" || c.At.Before(day.AddDate(0, 0, 1)) || !c.At.Before(day.Add(reportable)) || !s.meters(day) {
		return nil
	}
	return []Event{UsageReported{Report{
		Identifier: fmt.Sprintf("%s-%s-%d", account, c.Day, m.Count+1), Day: c.Day, Seconds: more, Customer: s.Customer, At: c.At,
	}}}
}

// meters reports whether a subscription that still runs had begun by the end of the day.
func (s State) meters(day time.Time) bool {
	from := s.MeteredFrom()
	return !from.IsZero() && from.Before(day.AddDate(0, 0, 1))
}

// MeteredFrom returns since when the account's usage is reported: since its subscription was made. Zero: it has none.
func (s State) MeteredFrom() time.Time {
	sub, ok := s.Current()
	if !ok || !sub.Status.Paying() {
		return time.Time{}
	}
	return sub.Created
}

func settle(s State, c SettleUsage) []Event {
	m := s.Usage[c.Day]
	if m.Open == nil || m.Open.Identifier != c.Identifier {
		return nil
	}
	return []Event{UsageSettled(c)}
}
