package billing

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

var decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}

var (
	noon  = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	terms = Terms{Grace: 7 * day, Notice: time.Hour}
)

const day = 24 * time.Hour

func after(d time.Duration) time.Time { return noon.Add(d) }

// allows is the access of a plan at noon, with what it does not allow stopping at a time.
func allows(p Plan, at, stop time.Time) AccessSet {
	return AccessSet{Access{Level: Full, Plan: p, Desktops: p.Offer().Desktops, Types: p.Types(), StopAt: stop, At: at}}
}

func owes(p Plan, at, stop, beyond time.Time) AccessSet {
	return AccessSet{Access{Level: Due, Plan: p, Desktops: p.Offer().Desktops, Types: p.Types(), Reason: PaymentFailed, StopAt: stop, BeyondAt: beyond, At: at}}
}

func nothing(latest Plan, why Reason, at, stop time.Time) AccessSet {
	return AccessSet{Access{Level: None, Plan: latest, Reason: why, StopAt: stop, At: at}}
}

func subscription(id string, p Plan, status Status) Subscription {
	return Subscription{
		ID: id, Customer: "cus_1", Status: status, Plan: p, Price: "price_" + string(p), Created: noon, PeriodStart: noon, PeriodEnd: noon.AddDate(0, 1, 0),
	}
}

func shown(id string, p Plan, status Status, at time.Time) SubscriptionSeen {
	return SubscriptionSeen{subscription(id, p, status), at}
}

func see(id string, p Plan, status Status, at time.Time) SeeSubscription {
	return SeeSubscription{subscription(id, p, status), at, terms}
}

// requested is a Checkout of a plan, opened is its session, and paid its payment.
func requested(p Plan) CheckoutRequested {
	return CheckoutRequested{Key: "k", Plan: p, Price: "price_" + string(p), Success: "https://a/", Cancel: "https://b/", Expires: after(time.Hour), At: noon}
}

func session(status CheckoutStatus) CheckoutSeen {
	c := CheckoutSeen{Key: "k", Session: "cs_1", Status: status, At: noon}
	if status == CheckoutComplete {
		c.Customer, c.Subscription = "cus_1", "sub_1"
	}
	return c
}

// none is what an account has that was never assessed, from noon on.
var none = nothing("", NoPlan, noon, after(7*day))

// bought is what the log has of an account that has paid for a plan.
func bought(p Plan, more ...Event) []Event {
	return append([]Event{
		requested(p), none, session(CheckoutOpen), session(CheckoutComplete), shown("sub_1", p, Active, noon), allows(p, noon, after(7*day)),
	}, more...)
}

func TestCheckouts(t *testing.T) {
	t.Parallel()
	request := RequestCheckout{requested(Pro), terms}
	other := RequestCheckout{CheckoutRequested{Key: "k2", Plan: Starter, Price: "price_starter", Expires: after(2 * time.Hour), At: noon}, terms}
	seen := func(status CheckoutStatus) SeeCheckout { return SeeCheckout{session(status), terms} }
	foreign := CheckoutSeen{Key: "k", Session: "cs_2", Status: CheckoutComplete, Customer: "cus_2", At: noon}
	lose := LoseCheckout{CheckoutLost{Key: "k", Reason: "refused", At: noon}}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "request", When: request, Then: []Event{requested(Pro), none}},
		{Name: "an unknown plan", When: RequestCheckout{CheckoutRequested{Key: "k", Plan: "gold", At: noon}, terms}, Err: ErrUnknownPlan},
		{Name: "while another may be paid", Given: []Event{requested(Pro), none}, When: other, Err: ErrPending},
		{Name: "while another is open", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: other, Err: ErrPending},
		{Name: "after another expired", Given: []Event{requested(Pro), none, session(CheckoutOpen), session(CheckoutExpired)}, When: other, Then: []Event{other.CheckoutRequested}},
		{Name: "after another was lost", Given: []Event{requested(Pro), none, lose.CheckoutLost}, When: other, Then: []Event{other.CheckoutRequested}},
		{Name: "with a subscription", Given: bought(Pro), When: other, Err: ErrSubscribed},
		{Name: "with an unpaid subscription", Given: bought(Pro, shown("sub_1", Pro, Unpaid, noon), nothing(Pro, PaymentFailed, noon, after(time.Hour))), When: other, Err: ErrSubscribed},
		{Name: "with an incomplete subscription", Given: bought(Pro, shown("sub_1", Pro, Incomplete, noon), nothing(Pro, SetAside, noon, after(time.Hour))), When: other, Err: ErrSubscribed},
		{
			Name: "after the subscription ended", Given: bought(Pro, shown("sub_1", Pro, Canceled, noon), nothing(Pro, PlanEnded, noon, after(time.Hour))),
			When: other, Then: []Event{other.CheckoutRequested},
		},
		{
			Name: "beside a granted plan", Given: []Event{PlanGranted{Plan: Starter, At: noon}, allows(Starter, noon, after(7*day))},
			When: request, Then: []Event{requested(Pro)},
		},

		{Name: "open", Given: []Event{requested(Pro), none}, When: seen(CheckoutOpen), Then: []Event{session(CheckoutOpen)}},
		{Name: "open again", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: seen(CheckoutOpen)},
		{Name: "paid", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: seen(CheckoutComplete), Then: []Event{session(CheckoutComplete)}},
		{Name: "paid again", Given: bought(Pro), When: seen(CheckoutComplete)},
		{Name: "expired", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: seen(CheckoutExpired), Then: []Event{session(CheckoutExpired)}},
		{Name: "a status of the future", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: seen("thawing")},
		{Name: "another session", Given: []Event{requested(Pro), none, session(CheckoutOpen)}, When: SeeCheckout{foreign, terms}},
		{Name: "another key", Given: []Event{requested(Pro), none}, When: SeeCheckout{CheckoutSeen{Key: "k2", Session: "cs_1", Status: CheckoutComplete, At: noon}, terms}},
		{Name: "none", When: SeeCheckout{session(CheckoutComplete), terms}, Then: []Event{none}},
		{Name: "lose", Given: []Event{requested(Pro), none}, When: lose, Then: []Event{lose.CheckoutLost}},
		{Name: "lose again", Given: []Event{requested(Pro), none, lose.CheckoutLost}, When: lose},
		{Name: "lose another", Given: []Event{requested(Pro), none}, When: LoseCheckout{CheckoutLost{Key: "k2", At: noon}}},
	})
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	later := after(30 * day)
	ended := nothing(Pro, PlanEnded, noon, after(time.Hour))
	decider.Run(t, []domaintest.Case[Event, Command]{
		{
			Name: "the first", Given: []Event{requested(Pro), none, session(CheckoutOpen), session(CheckoutComplete)},
			When: see("sub_1", Pro, Active, noon), Then: []Event{shown("sub_1", Pro, Active, noon), allows(Pro, noon, after(7*day))},
		},
		{Name: "again", Given: bought(Pro), When: see("sub_1", Pro, Active, later)},
		{Name: "without a customer", Given: []Event{requested(Pro), none}, When: see("sub_1", Pro, Active, noon)},
		{
			Name: "another customer's", Given: bought(Starter),
			When: SeeSubscription{Subscription{ID: "sub_9", Customer: "cus_9", Status: Active, Plan: Enterprise}, noon, terms},
		},
		{
			Name: "of a price that is not a plan's", Given: []Event{requested(Pro), none, session(CheckoutOpen), session(CheckoutComplete)},
			When: see("sub_1", "", Active, noon), Then: []Event{shown("sub_1", "", Active, noon)},
		},
		{
			Name: "a payment fails", Given: bought(Pro), When: see("sub_1", Pro, PastDue, later),
			Then: []Event{shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{}.Add(0))},
		},
		{
			Name: "it is paid", Given: bought(Pro, shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{})),
			When: see("sub_1", Pro, Active, later.Add(day)), Then: []Event{shown("sub_1", Pro, Active, later.Add(day)), allows(Pro, later.Add(day), time.Time{})},
		},
		{
			Name: "it is not paid", Given: bought(Pro, shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{})),
			When: Assess{later.Add(7 * day), terms}, Then: []Event{nothing(Pro, PaymentFailed, later.Add(7*day), later.Add(7*day))},
		},
		{
			Name: "it is not paid yet", Given: bought(Pro, shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{})),
			When: Assess{later.Add(7*day - 1), terms},
		},
		{
			Name: "unpaid before the grace is over", Given: bought(Pro, shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{})),
			When: see("sub_1", Pro, Unpaid, later.Add(day)),
			Then: []Event{shown("sub_1", Pro, Unpaid, later.Add(day)), nothing(Pro, PaymentFailed, later.Add(day), later.Add(day+time.Hour))},
		},
		{
			Name: "unpaid at the end of the grace", Given: bought(Pro, shown("sub_1", Pro, PastDue, later), owes(Pro, later, later.Add(7*day), time.Time{})),
			When: see("sub_1", Pro, Unpaid, later.Add(7*day-time.Minute)),
			Then: []Event{shown("sub_1", Pro, Unpaid, later.Add(7*day-time.Minute)), nothing(Pro, PaymentFailed, later.Add(7*day-time.Minute), later.Add(7*day))},
		},
		{Name: "ended", Given: bought(Pro), When: see("sub_1", Pro, Canceled, noon), Then: []Event{shown("sub_1", Pro, Canceled, noon), ended}},
		{
			Name: "paused", Given: bought(Pro), When: see("sub_1", Pro, Paused, noon),
			Then: []Event{shown("sub_1", Pro, Paused, noon), nothing(Pro, SetAside, noon, after(time.Hour))},
		},
		{
			Name: "subscribed again", Given: bought(Pro, shown("sub_1", Pro, Canceled, noon), ended),
			When: see("sub_2", Starter, Active, later), Then: []Event{shown("sub_2", Starter, Active, later), allows(Starter, later, time.Time{})},
		},
		{
			Name:  "ended again: the time of the first end does not count",
			Given: bought(Pro, shown("sub_1", Pro, Canceled, noon), ended, shown("sub_2", Starter, Active, later), allows(Starter, later, time.Time{})),
			When:  see("sub_2", Starter, Canceled, later.Add(day)),
			Then:  []Event{shown("sub_2", Starter, Canceled, later.Add(day)), nothing(Starter, PlanEnded, later.Add(day), later.Add(day+time.Hour))},
		},
		{
			Name: "the payment of the second one fails: its grace is its own", // the first one ended without being paid
			Given: bought(Pro, shown("sub_1", Pro, PastDue, noon), owes(Pro, noon, after(7*day), after(7*day)), shown("sub_1", Pro, Canceled, after(7*day)),
				nothing(Pro, PlanEnded, after(7*day), after(7*day)), shown("sub_2", Pro, Active, later), allows(Pro, later, time.Time{})),
			When: see("sub_2", Pro, PastDue, later.Add(day)),
			Then: []Event{shown("sub_2", Pro, PastDue, later.Add(day)), owes(Pro, later.Add(day), later.Add(8*day), time.Time{})},
		},
	})
}

func TestTwoSubscriptions(t *testing.T) {
	t.Parallel()
	both := func(a, b SubscriptionSeen) State { return decider.Fold(bought(Pro, a, b)...) }
	for name, c := range map[string]struct {
		a, b SubscriptionSeen
		want string
	}{
		"the larger plan":                 {shown("sub_1", Starter, Active, noon), shown("sub_2", Pro, Active, noon), "sub_2"},
		"the larger plan on trial":        {shown("sub_1", Starter, Active, noon), shown("sub_2", Pro, Trialing, noon), "sub_2"},
		"the one that is paid":            {shown("sub_1", Enterprise, PastDue, noon), shown("sub_2", Starter, Active, noon), "sub_2"},
		"the one with a plan":             {shown("sub_1", Pro, PastDue, noon), shown("sub_2", "", Active, noon), "sub_1"},
		"the one that has not ended":      {shown("sub_1", Enterprise, Canceled, noon), shown("sub_2", Starter, Incomplete, noon), "sub_2"},
		"a status of the future, no end":  {shown("sub_1", Pro, Canceled, noon), shown("sub_2", Pro, "thawing", noon), "sub_2"},
		"unpaid before a status unknown":  {shown("sub_1", Pro, Unpaid, noon), shown("sub_2", Pro, "thawing", noon), "sub_1"},
		"equal ones: the first of the id": {shown("sub_1", Pro, Active, noon), shown("sub_2", Pro, Active, noon), "sub_1"},
	} {
		if got, ok := both(c.a, c.b).Current(); !ok || got.ID != c.want {
			t.Errorf("%s: got %s, %v, want %s", name, got.ID, ok, c.want)
		}
		if got, ok := both(c.b, c.a).Current(); !ok || got.ID != c.want {
			t.Errorf("%s, the other way round: got %s, %v, want %s", name, got.ID, ok, c.want)
		}
	}
	if n := both(shown("sub_1", Pro, PastDue, noon), shown("sub_2", Pro, Active, noon)).Several(); n != 2 {
		t.Errorf("got %d subscriptions that have not ended, want 2", n)
	}
}

func TestInvoices(t *testing.T) {
	t.Parallel()
	bill := Invoice{ID: "in_1", Customer: "cus_1", Status: "open", Currency: "usd", Due: 100, PeriodStart: noon, PeriodEnd: noon, Created: noon}
	inOtherZone := bill
	inOtherZone.Created = noon.In(time.FixedZone("x", 3600)).Add(time.Nanosecond)
	paid := bill
	paid.Status, paid.Paid = "paid", 100
	foreign := bill
	foreign.Customer = "cus_9"
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "the first", Given: bought(Pro), When: SeeInvoice{bill, noon}, Then: []Event{InvoiceSeen{bill, noon}}},
		{Name: "again", Given: bought(Pro, InvoiceSeen{bill, noon}), When: SeeInvoice{inOtherZone, after(day)}},
		{Name: "paid", Given: bought(Pro, InvoiceSeen{bill, noon}), When: SeeInvoice{paid, after(day)}, Then: []Event{InvoiceSeen{paid, after(day)}}},
		{Name: "another customer's", Given: bought(Pro), When: SeeInvoice{foreign, noon}},
		{Name: "without a customer", When: SeeInvoice{Invoice{ID: "in_1"}, noon}},
	})
	s := decider.Fold(bought(Pro)...)
	for n := range keptInvoices + 10 {
		i := paid
		i.ID, i.Created = "in_"+time.Duration(n).String(), noon.Add(time.Duration(n)*day)
		if n == 0 {
			i.Status = "open"
		}
		s = Evolve(s, InvoiceSeen{i, noon})
	}
	_, oldest := s.Invoices["in_0s"]
	_, next := s.Invoices["in_1ns"]
	if len(s.Invoices) != keptInvoices || !oldest || next {
		t.Errorf("got %d invoices, the oldest: %v, the next: %v; want %d, with the oldest, which is open, and without the next", len(s.Invoices), oldest, next, keptInvoices)
	}
}

// Which invoices are kept follows from the events alone, also of invoices that were made at the same time. One that is not kept is
// not recorded.
func TestKeptInvoices(t *testing.T) {
	t.Parallel()
	var events []Event
	for n := range keptInvoices + 10 {
		events = append(events, InvoiceSeen{Invoice{ID: fmt.Sprintf("in_%03d", n), Customer: "cus_1", Status: "paid", Created: noon}, noon})
	}
	s := decider.Fold(bought(Pro, events...)...)
	for range 9 {
		if again := decider.Fold(bought(Pro, events...)...); !maps.Equal(again.Invoices, s.Invoices) {
			t.Fatal("the same events were folded to other invoices")
		}
	}
	old := Invoice{ID: "in_old", Customer: "cus_1", Status: "paid", Created: noon.Add(-day)}
	if got, err := Decide(s, SeeInvoice{old, noon}); len(got) > 0 || err != nil {
		t.Errorf("got %v, %v for an invoice older than those that are kept, want nothing", got, err)
	}
}
