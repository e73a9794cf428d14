package stripetest

import (
	"maps"
	"time"
)

// Ledger is everything that this Stripe knows, for a comparison.
type Ledger struct {
	Now           time.Time         `json:"now"`
	Checkouts     []Checkout        `json:"checkouts"`
	Subscriptions []Subscription    `json:"subscriptions"`
	Invoices      []Invoice         `json:"invoices"`
	Usage         []Usage           `json:"usage"`
	Waiting       int               `json:"waiting"` // deliveries that were not taken yet
	Calls         map[string]int    `json:"calls"`   // by method and path
	Faults        map[string]int    `json:"faults"`  // that happened
	Portals       map[string]string `json:"portals"` // URLs of the portal's sessions, by customer
}

// Checkout is a Checkout of the ledger. Account is its client_reference_id.
type Checkout struct {
	ID           string    `json:"id"`
	Account      string    `json:"account"`
	Status       string    `json:"status"`
	URL          string    `json:"url,omitempty"` // while it is open
	Customer     string    `json:"customer,omitempty"`
	Subscription string    `json:"subscription,omitempty"`
	Price        string    `json:"price"`
	Declined     int       `json:"declined"` // payments
	Created      time.Time `json:"created"`
	Expires      time.Time `json:"expires"`
}

// Subscription is a subscription of the ledger. Account is the user_id of its metadata.
type Subscription struct {
	ID       string    `json:"id"`
	Account  string    `json:"account"`
	Customer string    `json:"customer"`
	Status   string    `json:"status"`
	Price    string    `json:"price"`
	Start    time.Time `json:"period_start"`
	End      time.Time `json:"period_end"`
	CancelAt time.Time `json:"cancel_at,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Created  time.Time `json:"created"`
}

// Invoice is an invoice of the ledger, with the period of the plan that it is for. Amounts are in cents.
type Invoice struct {
	ID           string    `json:"id"`
	Account      string    `json:"account"`
	Customer     string    `json:"customer"`
	Subscription string    `json:"subscription"`
	Status       string    `json:"status"`
	Reason       string    `json:"billing_reason"`
	Due          int64     `json:"amount_due"`
	Paid         int64     `json:"amount_paid"`
	Attempts     int       `json:"attempts"`
	NextAttempt  time.Time `json:"next_attempt,omitzero"`
	Start        time.Time `json:"period_start"`
	End          time.Time `json:"period_end"`
	Created      time.Time `json:"created"`
	URL          string    `json:"url,omitempty"`
}

// Usage is a meter event that counts.
type Usage struct {
	Identifier string    `json:"identifier"`
	Customer   string    `json:"customer"`
	Value      int64     `json:"value"`
	At         time.Time `json:"at"`
	Created    time.Time `json:"created"`
}

// Ledger returns what the server knows.
func (s *Server) Ledger() Ledger {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	l := Ledger{Now: s.now(), Waiting: len(s.queue), Calls: maps.Clone(s.calls), Faults: maps.Clone(s.met), Portals: map[string]string{}}
	for _, c := range s.checkouts {
		shown := Checkout{ID: c.id, Account: c.reference, Status: c.status, Price: c.price.ID, Declined: c.declined, Created: c.created, Expires: c.expires}
		shown.URL, _ = c.url().(string)
		if c.customer != nil {
			shown.Customer = c.customer.id
		}
		if c.sub != nil {
			shown.Subscription = c.sub.id
		}
		l.Checkouts = append(l.Checkouts, shown)
	}
	for _, sub := range s.subs {
		l.Subscriptions = append(l.Subscriptions, Subscription{
			sub.id, sub.metadata["user_id"], sub.customer.id, sub.status, sub.price.ID, sub.start, sub.end, sub.cancelAt, sub.ended, sub.created,
		})
	}
	for _, i := range s.invoices {
		shown := Invoice{
			ID: i.id, Account: i.sub.metadata["user_id"], Customer: i.customer.id, Subscription: i.sub.id, Status: i.status, Reason: i.reason, Due: i.due, Paid: i.paid,
			Attempts: i.attempts, NextAttempt: i.nextAttempt, Start: i.lines[len(i.lines)-1].start, End: i.lines[len(i.lines)-1].end, Created: i.created,
		}
		if i.status == statusDraft {
			shown.Due = max(i.total(), 0)
		}
		if i.number != "" {
			shown.URL = i.base + "/i/" + i.id
		}
		l.Invoices = append(l.Invoices, shown)
	}
	for _, u := range s.usage {
		l.Usage = append(l.Usage, Usage{u.identifier, u.customer, u.value, u.at, u.created})
	}
	for secret, p := range s.portals {
		l.Portals[p.customer.id] = s.base() + "/p/session/" + secret
	}
	return l
}

// Metered returns the seconds that count, by customer and UTC day.
func (l Ledger) Metered() map[string]map[string]int64 {
	sums := map[string]map[string]int64{}
	for _, u := range l.Usage {
		if sums[u.Customer] == nil {
			sums[u.Customer] = map[string]int64{}
		}
		sums[u.Customer][u.At.UTC().Format(time.DateOnly)] += u.Value
	}
	return sums
}
