package budget

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Bounds of a limit that a user may set, in micro-dollars: a cent, and a million dollars.
const (
	Least    = 10_000
	Greatest = 1_000_000_000_000
)

// MostScopes is how many scopes of an account may have limits.
const MostScopes = 1000

// thresholds are the percentages that are recorded; the last one is Reached.
var thresholds = [...]int{50, 80, full}

const full = 100

// Refusals.
var (
	ErrScopes = &domain.Error{Kind: domain.Conflict, Code: "too_many_budgets", Msg: fmt.Sprintf("You have %d desktops with a budget of their own. Remove one to add another.", MostScopes)}
	// ErrInstallationReached does not say how much is spent: that is not for users.
	ErrInstallationReached = &domain.Error{Kind: domain.Conflict, Code: "installation_budget_reached",
		Msg: "This server has used up its budget for the month, so it cannot create desktops until the month ends (UTC). Contact its operator."}
)

// Command is SetLimits, Assess, Admit or EndScope.
type Command interface{ command() }

// Spent is what a scope has spent in the current day and month, in micro-dollars.
type Spent struct{ Day, Month int64 }

// In returns what is spent in a period.
func (s Spent) In(p Period) int64 {
	if p == Day {
		return s.Day
	}
	return s.Month
}

type (
	// SetLimits sets both limits of a scope, 0 for none, and compares them with what it has spent.
	SetLimits struct {
		Scope      string
		Day, Month int64
		Spent      Spent
		At         time.Time
	}
	// Assess compares all limits with what their scopes have spent. A scope that is missing in Spent has spent nothing.
	Assess struct {
		Spent map[string]Spent
		At    time.Time
	}
	// Admit asks whether a desktop may be created ("") or started. It never emits events.
	Admit struct {
		Instance string
		At       time.Time
	}
	// EndScope removes the limits of a desktop that has ended.
	EndScope struct{ Scope string }
)

func (SetLimits) command() {}
func (Assess) command()    {}
func (Admit) command()     {}
func (EndScope) command()  {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case SetLimits:
		return decideLimits(s, c)
	case Assess:
		var events []Event
		for _, scope := range slices.Sorted(maps.Keys(s)) {
			events = append(events, assess(s, scope, c.Spent[scope], c.At)...)
		}
		return events, nil
	case Admit:
		for _, scope := range []string{Installation, Account, c.Instance} {
			if err := s.admit(scope, c.At); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case EndScope:
		if _, ok := s[c.Scope]; !ok {
			return nil, nil
		}
		return []Event{ScopeEnded(c)}, nil
	}
	return nil, fmt.Errorf("budget: unknown command %T", c)
}

func decideLimits(s State, c SetLimits) ([]Event, error) {
	for _, limit := range []struct {
		field  string
		micros int64
	}{{"day_micros", c.Day}, {"month_micros", c.Month}} {
		if c.Scope != Installation && limit.micros != 0 && (limit.micros < Least || limit.micros > Greatest) {
			return nil, &domain.Error{Kind: domain.Invalid, Code: "invalid_budget", Field: limit.field,
				Msg: "A budget is from one cent to a million dollars, or none (null)."}
		}
	}
	scope, exists := s[c.Scope]
	if !exists && len(s) >= MostScopes && c.Day+c.Month > 0 {
		return nil, ErrScopes
	}
	var events []Event
	if scope.Day.Micros != c.Day || scope.Month.Micros != c.Month {
		events = append(events, LimitsSet{Scope: c.Scope, Day: c.Day, Month: c.Month})
		s = Evolve(s, events[0])
	}
	return append(events, assess(s, c.Scope, c.Spent, c.At)...), nil
}

// assess compares the limits of a scope with what it has spent.
func assess(s State, scope string, spent Spent, at time.Time) (events []Event) {
	for _, p := range []Period{Day, Month} {
		events = append(events, compare(s[scope].Of(p), Mark{Scope: scope, Period: p, Of: p.Of(at), Spent: spent.In(p), At: at})...)
	}
	return events
}

// compare compares a limit with what is spent in the current period. A clock that stepped back to an earlier period shows
// what was spent in that one, which says nothing about the later one.
func compare(l Limit, now Mark) (events []Event) {
	if l.Reached && l.Of < now.Of {
		events = append(events, Released{Scope: now.Scope, Period: now.Period, Of: l.Of, At: now.At})
		l.Reached = false
	}
	switch {
	case l.Of < now.Of:
		l.Percent = 0
	case l.Of > now.Of:
		now.Of, now.Spent = l.Of, 0
	}
	now.Limit = l.Micros
	if l.Reached {
		now.Spent = max(now.Spent, l.Spent)
		if l.Micros > 0 && now.Spent >= l.Micros {
			return events
		}
		events = append(events, Released{Scope: now.Scope, Period: now.Period, Of: l.Of, Raised: true, At: now.At})
	}
	switch percent := threshold(Percent(now.Spent, l.Micros)); {
	case l.Micros == 0 || percent <= l.Percent:
	case percent == full:
		events = append(events, Reached{now})
	default:
		events = append(events, Warned{now, percent})
	}
	return events
}

// threshold returns the highest threshold that a percentage has reached, 0 for none.
func threshold(percent int64) (highest int) {
	for _, t := range thresholds {
		if percent >= int64(t) {
			highest = t
		}
	}
	return highest
}

// Percent returns how much of a limit is spent, rounded down, and at most 1,000,000; 0 without a limit.
func Percent(spent, limit int64) int64 {
	const most = 1_000_000
	switch {
	case limit <= 0 || spent <= 0:
		return 0
	case spent/limit >= most/full:
		return most
	}
	// Of the two parts of spent, neither overflows.
	return spent/limit*full + percentOf(spent%limit, limit)
}

// percentOf returns the percentage of a part that is less than the whole.
func percentOf(part, whole int64) int64 {
	if whole > 1<<55 {
		part, whole = part>>8, whole>>8
	}
	return part * full / whole
}

func (s State) admit(name string, at time.Time) error {
	scope := s[name]
	for _, p := range []Period{Month, Day} { // a month lasts longer, so it is the better answer
		l := scope.Of(p)
		switch {
		case !l.Holds(p, at):
		case name == Installation:
			return ErrInstallationReached
		default:
			return &domain.Error{Kind: domain.Conflict, Code: "budget_reached", Msg: s.why(name, p) + fmt.Sprintf(
				" You can start desktops again on %s at 00:00 (UTC), or after you raise the budget.", p.end(l.Of).Format("2 January 2006"))}
		}
	}
	return nil
}

// Why returns the reason to stop a desktop at a time, as a sentence for its user; "": there is none.
func (s State) Why(instanceID string, at time.Time) string {
	for _, name := range []string{Account, instanceID} {
		for _, p := range []Period{Month, Day} {
			if s[name].Of(p).Holds(p, at) {
				return s.why(name, p)
			}
		}
	}
	return ""
}

func (s State) why(name string, p Period) string {
	l := s[name].Of(p)
	return fmt.Sprintf("%s of %s for %s is used up: %s is spent.", Whose(name), Dollars(l.Micros), Named(p, l.Of), Dollars(l.Spent))
}

// Whose returns whose budget a scope is, as the beginning of a sentence.
func Whose(scope string) string {
	switch scope {
	case Account:
		return "The account's budget"
	case Installation:
		return "The server's budget"
	}
	return "This desktop's budget"
}

// Named returns a period as people call it: "28 November 2026 (UTC)", "November 2026 (UTC)".
func Named(p Period, of string) string {
	name := "January 2006"
	if p == Day {
		name = "2 January 2006"
	}
	return p.begin(of).Format(name) + " (UTC)"
}
