package billing

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// execute decides, checks that deciding again adds nothing and that the state before was not changed in place, and folds.
func execute(t *rapid.T, s State, c Command) State {
	t.Helper()
	copied := Evolve(s, nil)
	events, err := Decide(s, c)
	after := s
	for _, e := range events {
		after = Evolve(after, e)
	}
	if !reflect.DeepEqual(copied, s) {
		t.Fatalf("%+v: got the state changed in place, want it as it was", c)
	}
	again, err2 := Decide(after, c)
	switch c.(type) {
	case RequestCheckout, WithdrawPlan: // once
		if len(events) > 0 && err2 == nil {
			t.Fatalf("%+v again: got %+v, want a refusal", c, again)
		}
	default:
		if len(again) > 0 || (err == nil) != (err2 == nil) {
			t.Fatalf("%+v again: got %+v, %v, want no events and error %v", c, again, err2, err)
		}
	}
	return after
}

// law follows one account through any commands.
type law struct {
	s       State
	at      time.Time
	terms   Terms
	refused map[desktop]time.Time // since when a desktop that runs is not allowed, without a break; zero: it was stopped since
	changes int                   // of access since the earliest of those
}

// desktop is one of the account's, the nth by age.
type desktop struct {
	kind string
	n    int
}

func desktops() (all []desktop) {
	for _, kind := range []string{"t3.medium", "t3.large", "t3.xlarge", "local"} {
		for _, n := range []int{1, 3, 6, 11} {
			all = append(all, desktop{kind, n})
		}
	}
	return all
}

func (d desktop) allowed(a Access) bool {
	return (a.Level == Full || a.Level == Due) && a.Allows(d.kind) && d.n <= a.Desktops
}

func (d desktop) mustStop(a Access, at time.Time) string {
	return a.MustStop(d.kind, d.n > a.Desktops, at)
}

// For any purchases, changes, failed payments, ends, grants and steps of the clock: the level and the plan are what an
// independent table says; what an access does not allow stops within the grace and one notice for each change; and what it
// allows does not stop.
func TestAccessLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := law{at: noon, terms: terms, refused: map[desktop]time.Time{}}
		l.s = Evolve(Evolve(l.s, CheckoutRequested{Key: "k", At: noon}), CheckoutSeen{Key: "k", Session: "cs_1", Status: CheckoutComplete, Customer: "cus_1", At: noon})
		plans := rapid.SampledFrom([]Plan{Starter, Pro, Enterprise})
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				l.do(t, GrantPlan{plans.Draw(t, "granted"), l.at.Add(time.Duration(rapid.IntRange(1, 400).Draw(t, "for")) * time.Hour), "", l.at, l.terms})
			case 1:
				l.do(t, WithdrawPlan{l.at, l.terms})
			case 2, 3:
				sub := subscription(fmt.Sprint("sub_", rapid.IntRange(1, 2).Draw(t, "which")), plans.Draw(t, "plan"),
					rapid.SampledFrom([]Status{Active, Active, Trialing, PastDue, PastDue, Unpaid, Paused, Incomplete, Canceled, "thawing"}).Draw(t, "status"))
				if rapid.IntRange(0, 9).Draw(t, "unknown") == 0 {
					sub.Plan = ""
				}
				l.do(t, SeeSubscription{sub, l.at, l.terms})
			case 4:
				key := fmt.Sprint("k", n)
				l.do(t, RequestCheckout{CheckoutRequested{Key: key, Plan: plans.Draw(t, "wanted"), At: l.at}, l.terms})
				l.do(t, LoseCheckout{CheckoutLost{Key: key, At: l.at}})
			default:
				l.at = l.at.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "hours")) * time.Hour)
				l.stop()
			}
			l.do(t, Assess{l.at, l.terms})
			l.check(t)
			l.stop()
		}
	})
}

func (l *law) do(t *rapid.T, c Command) {
	t.Helper()
	before := l.s.Access
	l.s = execute(t, l.s, c)
	if !before.Same(l.s.Access) {
		l.changes++
	}
	for _, d := range desktops() {
		if _, known := l.refused[d]; d.allowed(l.s.Access) {
			delete(l.refused, d)
		} else if !known {
			l.refused[d] = l.at
		}
	}
	if len(l.refused) == 0 {
		l.changes = 0
	}
}

// stop stops what has to stop, as the role does each minute.
func (l *law) stop() {
	for _, d := range desktops() {
		if d.mustStop(l.s.Access, l.at) != "" {
			l.refused[d] = time.Time{}
		}
	}
}

func (l *law) check(t *rapid.T) {
	t.Helper()
	a := l.s.Access
	level, plan := oracle(l.s, l.at, l.terms)
	if a.Level != level || level != None && a.Plan != plan || level == None && a.Plan.Offer().Plan == "" && a.Plan != "" {
		t.Fatalf("got %s %s, want %s %s of %+v at %v", a.Level, a.Plan, level, plan, l.s, l.at)
	}
	if (a.Level == Full) != (a.Why() == "") {
		t.Fatalf("got %q for level %s, want a sentence unless it is full", a.Why(), a.Level)
	}
	for _, d := range desktops() {
		since, refused := l.refused[d]
		latest := since.Add(l.terms.Grace + time.Duration(l.changes+1)*l.terms.Notice)
		switch stop := d.mustStop(a, l.at); {
		case !refused && stop != "":
			t.Fatalf("got %q for %+v, which %+v allows", stop, d, a)
		case !refused, since.IsZero():
		case stop == "" && l.at.After(latest):
			t.Fatalf("got %+v running at %v although %+v does not allow it since %v", d, l.at, a, since)
		case d.mustStop(a, latest) == "":
			t.Fatalf("got no stop of %+v by %v with %+v, not allowed since %v", d, latest, a, since)
		}
	}
}

// oracle says by a table of its own what an account may do.
func oracle(s State, at time.Time, terms Terms) (Level, Plan) {
	order := []Plan{"", Starter, Pro, Enterprise}
	var full, due Plan
	larger := func(a, b Plan) Plan {
		if slices.Index(order, a) >= slices.Index(order, b) {
			return a
		}
		return b
	}
	for _, sub := range s.Subscriptions {
		switch sub.Status {
		case Active, Trialing:
			full = larger(full, sub.Plan)
		case PastDue:
			due = larger(due, sub.Plan)
		}
	}
	if full != "" || !at.Before(s.DueSince.Add(terms.Grace)) { // one that is paid counts, and one overdue does not
		due = ""
	}
	var granted Plan
	if s.Grant != nil && (s.Grant.Until.IsZero() || s.Grant.Until.After(at)) {
		granted = s.Grant.Plan
	}
	switch {
	case due != "" && larger(granted, due) != granted:
		return Due, due
	case larger(granted, full) != "":
		return Full, larger(granted, full)
	}
	return None, ""
}

// DueSince is when the account began to owe, for any order of subscriptions: never later, and zero if it owes nothing.
func TestDueSince(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, at, since := decider.Fold(bought(Pro)...), noon, time.Time{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "hours")) * time.Hour)
			status := rapid.SampledFrom([]Status{Active, PastDue, Unpaid, Canceled}).Draw(t, "status")
			if shownBefore := s.Subscriptions["sub_1"].Status; shownBefore != status {
				switch owed := status == PastDue || status == Unpaid; {
				case !owed:
					since = time.Time{}
				case since.IsZero():
					since = at
				}
			}
			s = execute(t, s, see("sub_1", Pro, status, at))
			if !s.DueSince.Equal(since) {
				t.Fatalf("got %v since when a payment is due, want %v", s.DueSince, since)
			}
		}
	})
}

// At most one Checkout may be paid, whatever is seen in whatever order.
func TestCheckoutLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s State
		payable := map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				request := RequestCheckout{CheckoutRequested{Key: key, Plan: Pro, At: noon}, terms}
				if _, err := Decide(s, request); err == nil {
					payable[key] = true
				} else if !errors.Is(err, ErrPending) && !errors.Is(err, ErrSubscribed) {
					t.Fatal(err)
				}
				s = execute(t, s, request)
			case 1:
				s = execute(t, s, LoseCheckout{CheckoutLost{Key: key, At: noon}})
				delete(payable, key)
			default:
				status := rapid.SampledFrom([]CheckoutStatus{CheckoutOpen, CheckoutOpen, CheckoutExpired, CheckoutComplete}).Draw(t, "status")
				s = execute(t, s, SeeCheckout{CheckoutSeen{Key: key, Session: "cs_" + key, Status: status, Customer: "cus_1", At: noon}, terms})
				if status != CheckoutOpen {
					delete(payable, key)
				}
			}
			if open := s.Checkout; len(payable) > 1 || (open != nil) != (len(payable) == 1) || open != nil && !payable[open.Key] {
				t.Fatalf("got %v that may be paid and %+v in the state, want the same one, or none", payable, open)
			}
		}
	})
}
