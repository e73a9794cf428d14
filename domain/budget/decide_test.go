package budget

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}

const (
	desk  = "01JZ8Q3M5T9V2X4Y6A8C0E2G4J"
	today = "2026-11-28"
	month = "2026-11"
)

var (
	noon     = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	tomorrow = noon.AddDate(0, 0, 1)
	december = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
)

func daily(micros int64) LimitsSet { return LimitsSet{Scope: Account, Day: micros} }

func mark(spent, limit int64) Mark {
	return Mark{Scope: Account, Period: Day, Of: today, Limit: limit, Spent: spent, At: noon}
}

func assessed(day, month int64, at time.Time) Assess {
	return Assess{Spent: map[string]Spent{Account: {day, month}}, At: at}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	const usd = Dollar
	ten := daily(10 * usd)
	reached := Reached{mark(10*usd, 10*usd)}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "set", When: SetLimits{Scope: Account, Day: 10 * usd, At: noon}, Then: []Event{ten}},
		{Name: "set again", Given: []Event{ten}, When: SetLimits{Scope: Account, Day: 10 * usd, At: noon}},
		{Name: "set below what is spent", When: SetLimits{Scope: Account, Day: 10 * usd, Spent: Spent{Day: 10 * usd}, At: noon}, Then: []Event{ten, reached}},
		{Name: "less than a cent", When: SetLimits{Scope: Account, Day: Least - 1, At: noon}, Err: domaintest.ErrAny},
		{Name: "more than a million", When: SetLimits{Scope: Account, Month: Greatest + 1, At: noon}, Err: domaintest.ErrAny},
		{Name: "negative", When: SetLimits{Scope: Account, Month: -usd, At: noon}, Err: domaintest.ErrAny},
		{Name: "the operator's ceiling may be more", When: SetLimits{Scope: Installation, Month: Greatest + 1, At: noon}, Then: []Event{LimitsSet{Scope: Installation, Month: Greatest + 1}}},
		{Name: "remove", Given: []Event{ten}, When: SetLimits{Scope: Account, At: noon}, Then: []Event{daily(0)}},
		{Name: "remove none", When: SetLimits{Scope: Account, At: noon}},

		{Name: "nothing spent", Given: []Event{ten}, When: assessed(0, 0, noon)},
		{Name: "below half", Given: []Event{ten}, When: assessed(5*usd-1, 0, noon)},
		{Name: "half", Given: []Event{ten}, When: assessed(5*usd, 0, noon), Then: []Event{Warned{mark(5*usd, 10*usd), 50}}},
		{Name: "half again", Given: []Event{ten, Warned{mark(5*usd, 10*usd), 50}}, When: assessed(6*usd, 0, noon)},
		{Name: "eighty", Given: []Event{ten, Warned{mark(5*usd, 10*usd), 50}}, When: assessed(8*usd, 0, noon), Then: []Event{Warned{mark(8*usd, 10*usd), 80}}},
		{Name: "eighty at once", Given: []Event{ten}, When: assessed(9*usd, 0, noon), Then: []Event{Warned{mark(9*usd, 10*usd), 80}}},
		{Name: "a report that is behind", Given: []Event{ten, Warned{mark(8*usd, 10*usd), 80}}, When: assessed(5*usd, 0, noon)},
		{Name: "a micro-dollar before the limit", Given: []Event{ten, Warned{mark(8*usd, 10*usd), 80}}, When: assessed(10*usd-1, 0, noon)},
		{Name: "reached", Given: []Event{ten}, When: assessed(10*usd, 0, noon), Then: []Event{reached}},
		{Name: "reached again", Given: []Event{ten, reached}, When: assessed(11*usd, 0, noon)},
		{Name: "reached, and then a report that is behind", Given: []Event{ten, reached}, When: assessed(3*usd, 0, noon)},
		{Name: "the next day", Given: []Event{ten, reached}, When: assessed(0, 10*usd, tomorrow),
			Then: []Event{Released{Scope: Account, Period: Day, Of: today, At: tomorrow}}},
		{Name: "released once", Given: []Event{ten, reached, Released{Scope: Account, Period: Day, Of: today, At: tomorrow}}, When: assessed(0, 0, tomorrow)},
		{Name: "warned again on the next day", Given: []Event{ten, Warned{mark(8*usd, 10*usd), 80}}, When: assessed(5*usd, 0, tomorrow),
			Then: []Event{Warned{Mark{Account, Day, "2026-11-29", 10 * usd, 5 * usd, tomorrow}, 50}}},
		{Name: "a clock that steps back to the day before", Given: []Event{ten, reached}, When: assessed(20*usd, 0, noon.AddDate(0, 0, -1))},
		{Name: "the day before, when more was spent", Given: []Event{ten, Warned{mark(5*usd, 10*usd), 50}}, When: assessed(20*usd, 0, noon.AddDate(0, 0, -1))},
		{Name: "a month", Given: []Event{LimitsSet{Scope: Account, Month: 100 * usd}}, When: assessed(1*usd, 100*usd, noon),
			Then: []Event{Reached{Mark{Account, Month, month, 100 * usd, 100 * usd, noon}}}},
		{Name: "a month does not end with the day", Given: []Event{LimitsSet{Scope: Account, Month: 100 * usd}, Reached{Mark{Account, Month, month, 100 * usd, 100 * usd, noon}}},
			When: assessed(0, 100*usd, tomorrow)},
		{Name: "a month ends", Given: []Event{LimitsSet{Scope: Account, Month: 100 * usd}, Reached{Mark{Account, Month, month, 100 * usd, 100 * usd, noon}}},
			When: assessed(0, 0, december), Then: []Event{Released{Scope: Account, Period: Month, Of: month, At: december}}},

		{Name: "raised above what is spent", Given: []Event{ten, reached}, When: SetLimits{Scope: Account, Day: 30 * usd, Spent: Spent{Day: 11 * usd}, At: noon},
			Then: []Event{daily(30 * usd), Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}}},
		{Name: "raised, and half of it is spent", Given: []Event{ten, reached}, When: SetLimits{Scope: Account, Day: 20 * usd, Spent: Spent{Day: 11 * usd}, At: noon},
			Then: []Event{daily(20 * usd), Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}, Warned{mark(11*usd, 20*usd), 50}}},
		{Name: "raised by too little", Given: []Event{ten, reached}, When: SetLimits{Scope: Account, Day: 11 * usd, Spent: Spent{Day: 11 * usd}, At: noon}, Then: []Event{daily(11 * usd)}},
		{Name: "raised by too little, but the report is behind", Given: []Event{ten, Reached{mark(12*usd, 10*usd)}}, When: SetLimits{Scope: Account, Day: 11 * usd, Spent: Spent{Day: 9 * usd}, At: noon},
			Then: []Event{daily(11 * usd)}},
		{Name: "reached again after it was raised", Given: []Event{ten, reached, daily(20 * usd), Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}},
			When: assessed(20*usd, 0, noon), Then: []Event{Reached{mark(20*usd, 20*usd)}}},
		{Name: "removed while it is reached", Given: []Event{ten, reached}, When: SetLimits{Scope: Account, Spent: Spent{Day: 11 * usd}, At: noon},
			Then: []Event{daily(0), Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}}},

		{Name: "admit without limits", When: Admit{desk, noon}},
		{Name: "admit", Given: []Event{ten, Warned{mark(8*usd, 10*usd), 80}}, When: Admit{desk, noon}},
		{Name: "refuse a start", Given: []Event{ten, reached}, When: Admit{desk, noon}, Err: domaintest.ErrAny},
		{Name: "refuse a create", Given: []Event{ten, reached}, When: Admit{"", noon}, Err: domaintest.ErrAny},
		{Name: "refuse until the period ends", Given: []Event{ten, reached}, When: Admit{desk, noon.Truncate(24 * time.Hour).Add(24*time.Hour - 1)}, Err: domaintest.ErrAny},
		{Name: "admit on the next day, before it is released", Given: []Event{ten, reached}, When: Admit{desk, tomorrow.Truncate(24 * time.Hour)}},
		{Name: "refuse while the clock is a day behind", Given: []Event{ten, reached}, When: Admit{desk, noon.AddDate(0, 0, -1)}, Err: domaintest.ErrAny},
		{Name: "admit after it was raised", Given: []Event{ten, reached, daily(20 * usd), Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}}, When: Admit{desk, noon}},
		{Name: "refuse a desktop", Given: []Event{LimitsSet{Scope: desk, Day: usd}, Reached{Mark{desk, Day, today, usd, usd, noon}}}, When: Admit{desk, noon}, Err: domaintest.ErrAny},
		{Name: "admit another desktop", Given: []Event{LimitsSet{Scope: desk, Day: usd}, Reached{Mark{desk, Day, today, usd, usd, noon}}}, When: Admit{"other", noon}},
		{Name: "admit a new desktop", Given: []Event{LimitsSet{Scope: desk, Day: usd}, Reached{Mark{desk, Day, today, usd, usd, noon}}}, When: Admit{"", noon}},
		{Name: "refuse by the ceiling", Given: []Event{LimitsSet{Scope: Installation, Month: usd}, Reached{Mark{Installation, Month, month, usd, usd, noon}}}, When: Admit{"", noon}, Err: ErrInstallationReached},

		{Name: "end a desktop's budget", Given: []Event{LimitsSet{Scope: desk, Day: usd}}, When: EndScope{desk}, Then: []Event{ScopeEnded{desk}}},
		{Name: "end it again", Given: []Event{LimitsSet{Scope: desk, Day: usd}, ScopeEnded{desk}}, When: EndScope{desk}},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
}

// Each refusal says which budget, how much, and until when.
func TestReasons(t *testing.T) {
	t.Parallel()
	s := decider.Fold(daily(10*Dollar), Reached{mark(10_030_001, 10*Dollar)})
	want := "The account's budget of $10.00 for 28 November 2026 (UTC) is used up: $10.030001 is spent."
	if got := s.Why(desk, noon); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err := Decide(s, Admit{desk, noon})
	var refused *domain.Error
	if !errors.As(err, &refused) || refused.Code != "budget_reached" || refused.Kind != domain.Conflict || refused.Msg != want+" You can start desktops again on 29 November 2026 at 00:00 (UTC), or after you raise the budget." {
		t.Errorf("got %v, want the reason and the end", err)
	}
	if _, err := Decide(s, Admit{desk, noon.AddDate(0, 0, -1)}); err == nil || !strings.Contains(err.Error(), "on 29 November") {
		t.Errorf("with a clock that is behind: got %v, want the same end", err)
	}
	_, err = Decide(s, SetLimits{Scope: Account, Day: 2 * Dollar, Month: 1})
	if !errors.As(err, &refused) || refused.Code != "invalid_budget" || refused.Field != "month_micros" {
		t.Errorf("got %v, want a refusal of month_micros", err)
	}
	if got := s.Why(desk, tomorrow); got != "" {
		t.Errorf("on the next day: got %q, want no reason", got)
	}
	s = decider.Fold(LimitsSet{Scope: desk, Month: Dollar}, Reached{Mark{desk, Month, month, Dollar, Dollar, noon}})
	if got, want := s.Why(desk, noon), "This desktop's budget of $1.00 for November 2026 (UTC) is used up: $1.00 is spent."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.Why("other", noon); got != "" {
		t.Errorf("another desktop: got %q, want no reason", got)
	}
}

// The number of scopes with limits is bounded, and a bounded account can still change those it has.
func TestScopes(t *testing.T) {
	t.Parallel()
	s := State{}
	for n := range MostScopes {
		s = Evolve(s, LimitsSet{Scope: fmt.Sprint("d", n), Day: Dollar})
	}
	if _, err := Decide(s, SetLimits{Scope: "more", Day: Dollar, At: noon}); !errors.Is(err, ErrScopes) {
		t.Errorf("got %v, want %v", err, ErrScopes)
	}
	for _, c := range []SetLimits{{Scope: "d7", Day: 2 * Dollar, At: noon}, {Scope: "d8", At: noon}} {
		if events, err := Decide(s, c); err != nil || len(events) != 1 {
			t.Errorf("%+v: got %v, %v, want one event", c, events, err)
		}
	}
}

func TestPercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spent, limit, want int64 }{
		{0, 10, 0}, {1, 0, 0}, {-5, 10, 0}, {1, 3, 33}, {5, 10, 50}, {9_999_999, 10_000_000, 99}, {10, 10, 100}, {25, 10, 250},
		{math.MaxInt64, 1, 1_000_000}, {math.MaxInt64, math.MaxInt64, 100}, {math.MaxInt64 / 2, math.MaxInt64, 49}, {1, math.MaxInt64, 0},
	} {
		if got := Percent(c.spent, c.limit); got != c.want {
			t.Errorf("%d of %d: got %d, want %d", c.spent, c.limit, got, c.want)
		}
	}
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	late := time.Date(2026, 12, 31, 20, 0, 0, 0, time.FixedZone("", -5*3600)) // 2027-01-01 01:00 UTC
	if got := Day.Of(late) + " " + Month.Of(late); got != "2027-01-01 2027-01" {
		t.Errorf("got %s, want the periods of UTC", got)
	}
	if got := Month.end(month); !got.Equal(december) {
		t.Errorf("got %v, want %v", got, december)
	}
	if got := Day.end("2026-12-31"); !got.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("got %v, want the next midnight of UTC", got)
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec,
		LimitsSet{Scope: Account, Day: 2_000_000, Month: 30_000_000}, Warned{mark(1_000_000, 2_000_000), 50}, Reached{mark(2_000_001, 2_000_000)},
		Released{Scope: Account, Period: Day, Of: today, Raised: true, At: noon}, ScopeEnded{desk})
}
