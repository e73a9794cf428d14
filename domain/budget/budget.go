// Package budget decides when a desktop or an account has spent its budget of a day or a month. Each account has one stream, with
// the limits of the account and of its desktops. The stream InstallationStream has the operator's ceiling for all accounts.
//
// The one thing to know: a limit that is reached stays reached until its period ends or its limit is raised above what was
// spent. What is spent only grows within a period; a report that shows less comes from a read model that is behind.
package budget

import (
	"maps"
	"time"
)

// InstallationStream is the id of the stream of all accounts together. No account has it.
const InstallationStream = "installation"

// Scopes that are no desktop. A desktop's scope is its id.
const (
	Account      = "account"      // all desktops of the account
	Installation = "installation" // all desktops of all accounts, in InstallationStream
)

// Period is Day or Month, of UTC.
type Period string

const (
	Day   Period = "day"
	Month Period = "month"
)

// layout is how a period is written: "2026-11-28" or "2026-11". As texts they sort by time.
func (p Period) layout() string {
	if p == Day {
		return time.DateOnly
	}
	return "2006-01"
}

// Of returns the period of a time: "2026-11-28" or "2026-11".
func (p Period) Of(at time.Time) string { return at.UTC().Format(p.layout()) }

// begin returns when a period begins; zero for a text that is none.
func (p Period) begin(of string) time.Time {
	at, _ := time.Parse(p.layout(), of)
	return at
}

// end returns when a period ends.
func (p Period) end(of string) time.Time {
	if p == Day {
		return p.begin(of).AddDate(0, 0, 1)
	}
	return p.begin(of).AddDate(0, 1, 0)
}

// Event is a fact about an account's budgets.
type Event interface{ event() }

type (
	// LimitsSet sets both limits of a scope, in micro-dollars; 0: none.
	LimitsSet struct {
		Scope string `json:"scope"`
		Day   int64  `json:"day_micros,omitempty"`
		Month int64  `json:"month_micros,omitempty"`
	}
	// Warned records that a part of a limit is spent. It is recorded once for each limit, period and threshold.
	Warned struct {
		Mark
		Percent int `json:"percent"` // 50 or 80
	}
	// Reached records that a limit is spent. The desktops of the scope stop, and none starts, until Released.
	Reached struct{ Mark }
	// Released ends Reached.
	Released struct {
		Scope  string    `json:"scope"`
		Period Period    `json:"period"`
		Of     string    `json:"of"`
		Raised bool      `json:"raised"` // the limit was raised or removed; otherwise the period ended
		At     time.Time `json:"at"`
	}
	// ScopeEnded removes the limits of a desktop that has ended.
	ScopeEnded struct {
		Scope string `json:"scope"`
	}
)

// Mark is a limit of a period, and what was spent of it.
type Mark struct {
	Scope  string    `json:"scope"`
	Period Period    `json:"period"`
	Of     string    `json:"of"` // "2026-11-28" or "2026-11"
	Limit  int64     `json:"limit_micros"`
	Spent  int64     `json:"spent_micros"`
	At     time.Time `json:"at"`
}

func (LimitsSet) event()  {}
func (Warned) event()     {}
func (Reached) event()    {}
func (Released) event()   {}
func (ScopeEnded) event() {}

// State is the scopes with limits. Its JSON form, which a read model keeps, has all of it.
type State map[string]Scope

// Scope is the limits of a scope.
type Scope struct {
	Day   Limit `json:"day"`
	Month Limit `json:"month"`
}

// Of returns the limit of a period.
func (s Scope) Of(p Period) Limit {
	if p == Day {
		return s.Day
	}
	return s.Month
}

func (s Scope) with(p Period, l Limit) Scope {
	if p == Day {
		s.Day = l
	} else {
		s.Month = l
	}
	return s
}

// Limit is a limit and what is known of its latest period.
type Limit struct {
	Micros  int64  `json:"micros,omitempty"`  // 0: none
	Of      string `json:"of,omitempty"`      // the period that the other fields are about
	Percent int    `json:"percent,omitempty"` // the highest threshold that was warned of
	Reached bool   `json:"reached,omitempty"`
	Spent   int64  `json:"spent,omitempty"` // when it was reached
}

// Holds reports whether the limit is reached at a time.
func (l Limit) Holds(p Period, at time.Time) bool { return l.Reached && l.Of >= p.Of(at) }

// Limited reports whether any limit is set.
func (s State) Limited() bool {
	for _, scope := range s {
		if scope.Day.Micros > 0 || scope.Month.Micros > 0 {
			return true
		}
	}
	return false
}

// Evolve folds one event into the state. It never refuses: the event has happened.
func Evolve(s State, e Event) State {
	s = maps.Clone(s)
	if s == nil {
		s = State{}
	}
	switch e := e.(type) {
	case LimitsSet:
		scope := s[e.Scope]
		scope.Day, scope.Month = scope.Day.set(e.Day), scope.Month.set(e.Month)
		s[e.Scope] = scope
	case Warned:
		s[e.Scope] = s[e.Scope].with(e.Period, e.mark(s).warned(e.Percent))
	case Reached:
		l := e.mark(s)
		l.Percent, l.Reached, l.Spent = full, true, e.Spent
		s[e.Scope] = s[e.Scope].with(e.Period, l)
	case Released:
		l := s[e.Scope].Of(e.Period)
		l.Reached, l.Spent = false, 0
		s[e.Scope] = s[e.Scope].with(e.Period, l)
	case ScopeEnded:
		delete(s, e.Scope)
	}
	for name, scope := range s {
		if scope.Day.forgettable() && scope.Month.forgettable() {
			delete(s, name)
		}
	}
	return s
}

// set returns the limit with another amount. Its thresholds are warned of again.
func (l Limit) set(micros int64) Limit {
	if micros != l.Micros {
		l.Micros, l.Percent = micros, 0
	}
	return l
}

// mark returns the limit of the mark in its period; an earlier period is over.
func (m Mark) mark(s State) Limit {
	l := s[m.Scope].Of(m.Period)
	if l.Of != m.Of {
		l.Of, l.Percent = m.Of, 0
	}
	return l
}

func (l Limit) warned(percent int) Limit {
	l.Percent = percent
	return l
}

// forgettable reports whether there is no limit, and none that was removed while it was reached.
func (l Limit) forgettable() bool { return l.Micros == 0 && !l.Reached }
