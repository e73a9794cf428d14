package billing

import (
	"maps"
	"slices"
	"time"
)

// keptDays is for how many days what was reported is kept: no report is about an earlier one.
const keptDays = 40

// keptInvoices is how many invoices are kept. If there are more, the oldest settled ones are no longer compared.
const keptInvoices = 120

// State is what decisions read of an account. Its JSON form, which a read model keeps, has all of it.
type State struct {
	Grant         *Grant                  `json:"grant,omitempty"`
	Customer      string                  `json:"customer,omitempty"` // at Stripe
	Checkout      *Checkout               `json:"checkout,omitempty"` // that may still be paid
	Subscriptions map[string]Subscription `json:"subscriptions,omitempty"`
	DueSince      time.Time               `json:"due_since,omitzero"` // since when the current subscription has a payment that is due
	Invoices      map[string]Invoice      `json:"invoices,omitempty"`
	Usage         map[string]Metered      `json:"usage,omitempty"` // by day
	Access        Access                  `json:"access,omitzero"` // Level "": none was recorded
}

// Grant is a plan that an operator gave.
type Grant struct {
	Plan  Plan      `json:"plan"`
	Until time.Time `json:"until,omitzero"` // zero: no end
}

// Granted returns the plan that an operator gave, if it has not ended at a time.
func (s State) Granted(at time.Time) (Grant, bool) {
	if g := s.Grant; g != nil && (g.Until.IsZero() || at.Before(g.Until)) {
		return *g, true
	}
	return Grant{}, false
}

// Checkout is a Checkout that may still be paid. Session "": Stripe's answer is not known.
type Checkout struct {
	CheckoutRequested
	Session string `json:"session,omitempty"`
}

// Current returns the subscription that counts: of those that give more, the one with the largest plan.
func (s State) Current() (Subscription, bool) {
	var best Subscription
	for _, id := range slices.Sorted(maps.Keys(s.Subscriptions)) {
		if sub := s.Subscriptions[id]; best.ID == "" || better(sub, best) {
			best = sub
		}
	}
	return best, best.ID != ""
}

// Several returns how many subscriptions of the account have not ended. More than one is the operator's to solve.
func (s State) Several() (n int) {
	for _, sub := range s.Subscriptions {
		if !sub.Status.Over() {
			n++
		}
	}
	return n
}

// HasSubscription reports whether the state has a subscription exactly so.
func (s State) HasSubscription(sub Subscription) bool { return s.Subscriptions[sub.ID] == sub.utc() }

// HasInvoice reports whether the state has an invoice exactly so.
func (s State) HasInvoice(i Invoice) bool { return s.Invoices[i.ID] == i.utc() }

// gives reports whether the subscription gives the account a plan, perhaps with a payment that is due.
func (s Subscription) gives() bool { return s.Status.Paying() && s.Plan.rank() >= 0 }

func better(a, b Subscription) bool {
	if a.gives() != b.gives() {
		return a.gives()
	}
	if x, y := a.Status.order(), b.Status.order(); x != y {
		return x < y
	}
	if x, y := a.Plan.rank(), b.Plan.rank(); x != y {
		return x > y
	}
	return a.Created.After(b.Created)
}

// order sorts statuses by what they give. One that Stripe adds later comes before those that have ended.
func (s Status) order() int {
	switch s {
	case Active, Trialing:
		return 0
	case PastDue:
		return 1
	case Unpaid:
		return 2
	case Canceled, IncompleteExpired:
		return 5
	case Paused, Incomplete:
		return 3
	}
	return 4
}

// Evolve folds one event into the state. It never refuses: the event has happened.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case PlanGranted:
		s.Grant = &Grant{e.Plan, e.Until}
	case PlanWithdrawn:
		s.Grant = nil
	case CheckoutRequested:
		s.Checkout = &Checkout{CheckoutRequested: e}
	case CheckoutSeen:
		s = s.checkout(e)
	case CheckoutLost:
		if s.Checkout != nil && s.Checkout.Key == e.Key {
			s.Checkout = nil
		}
	case SubscriptionSeen:
		s = s.subscription(e)
	case InvoiceSeen:
		s.Invoices = with(s.Invoices, e.ID, e.Invoice)
		for len(s.Invoices) > keptInvoices && s.dropInvoice() {
		}
	case AccessSet:
		s.Access = e.Access
	case UsageReported:
		m := s.Usage[e.Day]
		m.Count, m.Open = m.Count+1, &e.Report
		s.Usage = with(s.Usage, e.Day, m)
		oldest := dayOf(e.Day).AddDate(0, 0, -keptDays).Format(time.DateOnly)
		maps.DeleteFunc(s.Usage, func(day string, m Metered) bool { return day < oldest && m.Open == nil })
	case UsageSettled:
		s = s.settled(e)
	}
	return s
}

func (s State) checkout(e CheckoutSeen) State {
	if s.Checkout == nil || s.Checkout.Key != e.Key {
		return s
	}
	if e.Status == CheckoutOpen {
		open := *s.Checkout
		open.Session, s.Checkout = e.Session, &open
		return s
	}
	if e.Status == CheckoutComplete && e.Customer != "" {
		s.Customer = e.Customer
	}
	s.Checkout = nil
	return s
}

func (s State) subscription(e SubscriptionSeen) State {
	s.Subscriptions = with(s.Subscriptions, e.ID, e.Subscription)
	switch sub, _ := s.Current(); {
	case sub.Status != PastDue && sub.Status != Unpaid:
		s.DueSince = time.Time{}
	case s.DueSince.IsZero():
		s.DueSince = e.At
	}
	return s
}

func (s State) settled(e UsageSettled) State {
	m := s.Usage[e.Day]
	if m.Open == nil || m.Open.Identifier != e.Identifier {
		return s
	}
	switch e.Outcome {
	case Sent:
		m.Sent += m.Open.Seconds
	case Unclear:
		m.Unclear += m.Open.Seconds
	case Absent:
	}
	m.Open = nil
	s.Usage = with(s.Usage, e.Day, m)
	return s
}

// dropInvoice forgets the oldest settled invoice of a map that is not shared.
func (s State) dropInvoice() bool {
	oldest := ""
	for _, id := range slices.Sorted(maps.Keys(s.Invoices)) { // sorted: each fold has to drop the same one
		if i := s.Invoices[id]; i.Settled() && (oldest == "" || i.Created.Before(s.Invoices[oldest].Created)) {
			oldest = id
		}
	}
	delete(s.Invoices, oldest)
	return oldest != ""
}

// with returns a copy of a map with one entry more or changed: states share maps.
func with[V any](m map[string]V, key string, value V) map[string]V {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}
