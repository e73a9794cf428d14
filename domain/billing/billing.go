// Package billing decides what an account may use where plans are required, and what of its usage is reported to Stripe. Each
// account has one stream: what was seen at Stripe, what an operator granted, and what follows from both.
//
// The one thing to know: what an account may do is recorded (AccessSet). A command that changes it writes it in the same
// append to the account's quota, which decides about each create and start. So the order of the log says which came first.
package billing

import (
	"slices"
	"time"
)

// Plan is the name of a plan: "starter", "pro", "enterprise", or "" for none.
type Plan string

// The plans, from the smallest to the largest.
const (
	Starter    Plan = "starter"
	Pro        Plan = "pro"
	Enterprise Plan = "enterprise"
)

// Offer is what a plan allows.
type Offer struct {
	Plan     Plan
	Name     string // "Pro"
	Type     string // the instance type of a new desktop that asks for none
	Desktops int    // that an account may have at a time
}

// Offers are all plans, from the smallest to the largest.
var Offers = []Offer{
	{Starter, "Starter", "t3.medium", 2},
	{Pro, "Pro", "t3.large", 5},
	{Enterprise, "Enterprise", "t3.xlarge", 10},
}

// Offer returns what the plan allows. The zero Offer: there is no such plan.
func (p Plan) Offer() Offer {
	i := p.rank()
	if i < 0 {
		return Offer{}
	}
	return Offers[i]
}

// rank orders plans; -1: there is no such plan.
func (p Plan) rank() int { return slices.IndexFunc(Offers, func(o Offer) bool { return o.Plan == p }) }

// Types returns the instance types that the plan allows: its own and those of smaller plans.
func (p Plan) Types() []string {
	var types []string
	for _, o := range Offers[:p.rank()+1] {
		types = append(types, o.Type)
	}
	return types
}

// Event is a fact about an account's plan and its payments.
type Event interface{ event() }

type (
	// PlanGranted records that an operator gave the account a plan. It counts beside a subscription; the larger plan applies.
	PlanGranted struct {
		Plan   Plan      `json:"plan"`
		Until  time.Time `json:"until,omitzero"` // zero: until it is withdrawn
		Reason string    `json:"reason,omitempty"`
		At     time.Time `json:"at"`
	}
	// PlanWithdrawn ends a granted plan.
	PlanWithdrawn struct {
		At time.Time `json:"at"`
	}
	// CheckoutRequested records a Checkout before Stripe is asked for it. Repeating the call with the same key returns the
	// same Checkout.
	CheckoutRequested struct {
		Key     string    `json:"key"` // the idempotency key
		Plan    Plan      `json:"plan"`
		Price   string    `json:"price"`
		Usage   string    `json:"usage_price,omitempty"` // of the metered usage; "": it is not sold
		Success string    `json:"success_url"`
		Cancel  string    `json:"cancel_url"`
		Expires time.Time `json:"expires"` // Stripe ends it then
		At      time.Time `json:"at"`
	}
	// CheckoutSeen records how Stripe showed the account's latest Checkout.
	CheckoutSeen struct {
		Key          string         `json:"key"`
		Session      string         `json:"session"`
		Status       CheckoutStatus `json:"status"`
		Customer     string         `json:"customer,omitempty"`
		Subscription string         `json:"subscription,omitempty"`
		At           time.Time      `json:"at"`
	}
	// CheckoutLost ends a Checkout that Stripe refused, or that expired before an answer arrived.
	CheckoutLost struct {
		Key    string    `json:"key"`
		Reason string    `json:"reason,omitempty"`
		At     time.Time `json:"at"`
	}
	// SubscriptionSeen records how Stripe showed a subscription of the account's customer, if that differs from before.
	SubscriptionSeen struct {
		Subscription
		At time.Time `json:"at"`
	}
	// InvoiceSeen records how Stripe showed an invoice of the account's customer, if that differs from before.
	InvoiceSeen struct {
		Invoice
		At time.Time `json:"at"`
	}
	// AccessSet records what the account may do from now on.
	AccessSet struct{ Access }
	// UsageReported records a report of metered usage before it is sent to Stripe, with the identifier by which Stripe counts
	// it once.
	UsageReported struct{ Report }
	// UsageSettled records what became of a report.
	UsageSettled struct {
		Identifier string    `json:"identifier"`
		Day        string    `json:"day"`
		Outcome    Outcome   `json:"outcome"`
		Reason     string    `json:"reason,omitempty"` // for people
		At         time.Time `json:"at"`
	}
)

func (PlanGranted) event()       {}
func (PlanWithdrawn) event()     {}
func (CheckoutRequested) event() {}
func (CheckoutSeen) event()      {}
func (CheckoutLost) event()      {}
func (SubscriptionSeen) event()  {}
func (InvoiceSeen) event()       {}
func (AccessSet) event()         {}
func (UsageReported) event()     {}
func (UsageSettled) event()      {}

// CheckoutStatus is Stripe's status of a Checkout.
type CheckoutStatus string

const (
	CheckoutOpen     CheckoutStatus = "open"
	CheckoutComplete CheckoutStatus = "complete"
	CheckoutExpired  CheckoutStatus = "expired"
)

// known reports whether it is one of the statuses above.
func (s CheckoutStatus) known() bool {
	return s == CheckoutOpen || s == CheckoutComplete || s == CheckoutExpired
}

// Subscription is a subscription as Stripe shows it, as far as it matters here.
type Subscription struct {
	ID          string    `json:"id"`
	Customer    string    `json:"customer"`
	Status      Status    `json:"status"`
	Plan        Plan      `json:"plan"` // "": its price is none of a plan
	Price       string    `json:"price"`
	Created     time.Time `json:"created"`
	PeriodStart time.Time `json:"period_start"`
	PeriodEnd   time.Time `json:"period_end"`
	CancelAt    time.Time `json:"cancel_at,omitzero"` // it ends then; zero: it renews
	Ended       time.Time `json:"ended,omitzero"`
}

// utc returns the subscription with times that can be compared with ==.
func (s Subscription) utc() Subscription {
	s.Created, s.PeriodStart, s.PeriodEnd, s.CancelAt, s.Ended = utc(s.Created), utc(s.PeriodStart), utc(s.PeriodEnd), utc(s.CancelAt), utc(s.Ended)
	return s
}

// utc returns a time of Stripe's, which has whole seconds.
func utc(t time.Time) time.Time { return t.Truncate(time.Second).UTC() }

// Status is Stripe's status of a subscription.
type Status string

const (
	Active            Status = "active"
	Trialing          Status = "trialing"
	PastDue           Status = "past_due"
	Unpaid            Status = "unpaid"
	Paused            Status = "paused"
	Incomplete        Status = "incomplete"
	IncompleteExpired Status = "incomplete_expired"
	Canceled          Status = "canceled"
)

// Over reports whether the subscription has ended and cannot come back.
func (s Status) Over() bool { return s == Canceled || s == IncompleteExpired }

// Paying reports whether the status gives the account its plan, perhaps with a payment that is due.
func (s Status) Paying() bool { return s == Active || s == Trialing || s == PastDue }

// Invoice is an invoice as Stripe shows it. Amounts are in the smallest unit of the currency, such as cents.
type Invoice struct {
	ID           string    `json:"id"`
	Customer     string    `json:"customer"`
	Subscription string    `json:"subscription,omitempty"`
	Status       string    `json:"status"` // draft, open, paid, uncollectible, void or InvoiceDeleted
	Currency     string    `json:"currency"`
	Due          int64     `json:"amount_due"`
	Paid         int64     `json:"amount_paid"`
	PeriodStart  time.Time `json:"period_start"` // of the plan, which is paid in advance
	PeriodEnd    time.Time `json:"period_end"`
	Attempts     int64     `json:"attempts,omitempty"`
	NextAttempt  time.Time `json:"next_attempt,omitzero"` // zero: Stripe does not try again
	Created      time.Time `json:"created"`
}

// utc returns the invoice with times that can be compared with ==.
func (i Invoice) utc() Invoice {
	i.PeriodStart, i.PeriodEnd, i.NextAttempt, i.Created = utc(i.PeriodStart), utc(i.PeriodEnd), utc(i.NextAttempt), utc(i.Created)
	return i
}

// Settled reports whether the invoice will not change any more, but for a refund.
func (i Invoice) Settled() bool {
	return i.Status == "paid" || i.Status == "void" || i.Status == "uncollectible" || i.Status == InvoiceDeleted
}

// InvoiceDeleted is the status of a draft that Stripe no longer has.
const InvoiceDeleted = "deleted"

// Level is how much of its plan an account may use.
type Level string

const (
	None Level = "none" // no plan: creates and starts are refused, and running desktops stop at StopAt
	Due  Level = "due"  // a payment is due: creates are refused
	Full Level = "full"
)

// Access is what an account may do. Reason is why it is not more, for programs; the user interface has sentences.
type Access struct {
	Level    Level     `json:"level"`
	Plan     Plan      `json:"plan,omitempty"` // with None: the latest one that it had
	Desktops int       `json:"desktops"`
	Types    []string  `json:"types,omitempty"`
	Reason   Reason    `json:"reason,omitempty"`
	StopAt   time.Time `json:"stop_at,omitzero"`   // None: when running desktops stop. Due: when the level becomes None. Full: when what the plan does not allow stops; zero: immediately
	BeyondAt time.Time `json:"beyond_at,omitzero"` // Due: when what the plan does not allow stops; zero: immediately
	At       time.Time `json:"at"`
}

// Reason is why an account has less than a plan.
type Reason string

const (
	NoPlan        Reason = "no_plan"        // it never had one
	PlanEnded     Reason = "plan_ended"     // its subscription or granted plan has ended
	PaymentFailed Reason = "payment_failed" // a payment is due, or was not made in time
	SetAside      Reason = "paused"         // the subscription is paused at Stripe, or its first payment is incomplete
)

// Same reports whether two accesses allow the same until the same times. When they were recorded does not matter.
func (a Access) Same(b Access) bool {
	return a.Level == b.Level && a.Plan == b.Plan && a.Desktops == b.Desktops && slices.Equal(a.Types, b.Types) && a.Reason == b.Reason &&
		a.StopAt.Equal(b.StopAt) && a.BeyondAt.Equal(b.BeyondAt)
}

// Allows reports whether an instance type is in the plan. All plans have desktops on the server's own computer ("local"), and
// those that were taken over from the original control plane ("original"), whose size is not known.
func (a Access) Allows(machineType string) bool {
	return machineType == "local" || machineType == "original" || slices.Contains(a.Types, machineType)
}
