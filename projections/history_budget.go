package projections

import (
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain/budget"
)

// scopeOf returns the scope that an event is about.
func scopeOf(ev budget.Event) string {
	switch ev := ev.(type) {
	case budget.LimitsSet:
		return ev.Scope
	case budget.Warned:
		return ev.Scope
	case budget.Reached:
		return ev.Scope
	case budget.Released:
		return ev.Scope
	case budget.ScopeEnded:
		return ev.Scope
	}
	return ""
}

// aboutDesktop returns the desktop whose budget an event is about, "" for the account's.
func aboutDesktop(ev budget.Event) string {
	if scope := scopeOf(ev); scope != budget.Account && scope != budget.Installation {
		return scope
	}
	return ""
}

// phraseBudget is phrase for budgets. The operator's ceiling is in no account's history. The end of a desktop's budget is
// not mentioned: the desktop has ended.
func phraseBudget(ev budget.Event) (string, facts) {
	if scopeOf(ev) == budget.Installation {
		return "", nil
	}
	switch ev := ev.(type) {
	case budget.LimitsSet:
		return limitsSentence(ev), facts{"scope": ev.Scope, "day_micros": orNone(ev.Day), "month_micros": orNone(ev.Month)}
	case budget.Warned:
		return fmt.Sprintf("%s of %s for %s is used to %d percent: %s is spent.", budget.Whose(ev.Scope), budget.Dollars(ev.Limit),
			budget.Named(ev.Period, ev.Of), budget.Percent(ev.Spent, ev.Limit), budget.Dollars(ev.Spent)), markFacts(ev.Mark, ev.Percent)
	case budget.Reached:
		effect := "It is being stopped if it is running."
		if ev.Scope == budget.Account {
			effect = "Running desktops are being stopped."
		}
		return fmt.Sprintf("%s of %s for %s is used up: %s is spent. %s", budget.Whose(ev.Scope), budget.Dollars(ev.Limit),
			budget.Named(ev.Period, ev.Of), budget.Dollars(ev.Spent), effect), markFacts(ev.Mark, 100)
	case budget.Released:
		why := "the period has ended"
		if ev.Raised {
			why = "it was changed"
		}
		return fmt.Sprintf("%s for %s no longer prevents starts: %s.", budget.Whose(ev.Scope), budget.Named(ev.Period, ev.Of), why),
			facts{"scope": ev.Scope, "period": ev.Period, "of": ev.Of, "raised": ev.Raised}
	}
	return "", nil
}

func limitsSentence(ev budget.LimitsSet) string {
	whose := budget.Whose(ev.Scope)
	switch {
	case ev.Day > 0 && ev.Month > 0:
		return fmt.Sprintf("%s was set to %s a day and %s a month.", whose, budget.Dollars(ev.Day), budget.Dollars(ev.Month))
	case ev.Day > 0:
		return fmt.Sprintf("%s was set to %s a day.", whose, budget.Dollars(ev.Day))
	case ev.Month > 0:
		return fmt.Sprintf("%s was set to %s a month.", whose, budget.Dollars(ev.Month))
	}
	return whose + " was removed."
}

func markFacts(m budget.Mark, percent int) facts {
	return facts{"scope": m.Scope, "period": m.Period, "of": m.Of, "limit_micros": m.Limit, "spent_micros": m.Spent, "percent": percent}
}

// orNone returns an amount, or null for none.
func orNone(micros int64) any {
	if micros == 0 {
		return nil
	}
	return micros
}
