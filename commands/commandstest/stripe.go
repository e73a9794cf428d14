package commandstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// ErrNoAnswer is what a call to Stripe returns if its answer is lost.
var ErrNoAnswer = errors.New("connection reset")

// PriceIDs are the prices of Stripe's plans.
var PriceIDs = map[string]billing.Plan{"price_starter": billing.Starter, "price_pro": billing.Pro, "price_enterprise": billing.Enterprise}

// Stripe is a small Stripe in memory. It does what a test tells it: nothing renews or ends by itself, but for Checkouts.
type Stripe struct {
	Now func() time.Time
	// Before and After are asked at each call, by its name: "OpenCheckout". Before prevents its effect, After loses its answer.
	// Nil: each call works.
	Before, After func(call string) error
	// Seen is called with the name of each call that reads, after its answer was made. Nil: not called.
	Seen func(call string)

	mu            sync.Mutex
	checkouts     map[string]*commands.Checkout
	asked         map[string]commands.NewCheckout // by session
	keys          map[string]string               // the session of a key
	subscriptions map[string]*commands.StripeSubscription
	invoices      []commands.StripeInvoice
	customers     map[string]bool // false: deleted
	made          int
}

var _ commands.Stripe = (*Stripe)(nil)

// NewStripe returns one without any customers.
func NewStripe(now func() time.Time) *Stripe {
	return &Stripe{
		Now: now, checkouts: map[string]*commands.Checkout{}, asked: map[string]commands.NewCheckout{}, keys: map[string]string{},
		subscriptions: map[string]*commands.StripeSubscription{}, customers: map[string]bool{},
	}
}

// call makes a call's effect and its answer unless Before or After say otherwise.
func call[A any](s *Stripe, name string, do func() (A, error)) (answer A, err error) {
	if s.Before != nil {
		if err := s.Before(name); err != nil {
			return answer, err
		}
	}
	s.mu.Lock()
	s.expire()
	answer, err = do()
	s.mu.Unlock()
	if err == nil && s.After != nil {
		err = s.After(name)
	}
	if s.Seen != nil {
		s.Seen(name)
	}
	if err != nil {
		var none A
		return none, err
	}
	return answer, nil
}

// id returns a new id that sorts after earlier ones.
func (s *Stripe) id(kind string) string {
	s.made++
	return fmt.Sprintf("%s_%06d", kind, s.made)
}

func (s *Stripe) expire() {
	for id, c := range s.checkouts {
		if c.Status == billing.CheckoutOpen && !s.Now().Before(s.asked[id].Expires) {
			c.Status, c.URL = billing.CheckoutExpired, ""
		}
	}
}

// OpenCheckout implements commands.Stripe.
func (s *Stripe) OpenCheckout(_ context.Context, n commands.NewCheckout) (commands.Checkout, error) {
	return call(s, "OpenCheckout", func() (commands.Checkout, error) {
		if session := s.keys[n.Key]; session != "" {
			if s.asked[session] != n {
				return commands.Checkout{}, errors.New("the key was used with other fields")
			}
			return commands.Checkout{Session: session, Account: n.Account, Status: billing.CheckoutOpen, URL: "https://stripe.test/" + session}, nil // as it was then
		}
		switch there, known := s.customers[n.Customer]; {
		case PriceIDs[n.Price] == "":
			return commands.Checkout{}, &commands.RefusedError{Code: "resource_missing", Reason: "No such price"}
		case n.Customer != "" && (!known || !there):
			return commands.Checkout{}, &commands.RefusedError{Code: "resource_missing", Reason: "No such customer"}
		case n.Expires.Before(s.Now().Add(30 * time.Minute)):
			return commands.Checkout{}, &commands.RefusedError{Code: "parameter_invalid", Reason: "expires_at must be at least 30 minutes from creation"}
		}
		id := s.id("cs")
		c := commands.Checkout{Session: id, Account: n.Account, Status: billing.CheckoutOpen, URL: "https://stripe.test/" + id, Customer: n.Customer}
		s.checkouts[id], s.asked[id], s.keys[n.Key] = &c, n, id
		return c, nil
	})
}

// Checkout implements commands.Stripe.
func (s *Stripe) Checkout(_ context.Context, session string) (commands.Checkout, error) {
	return call(s, "Checkout", func() (commands.Checkout, error) {
		if c := s.checkouts[session]; c != nil {
			return *c, nil
		}
		return commands.Checkout{}, commands.ErrNotAtStripe
	})
}

// ExpireCheckout implements commands.Stripe.
func (s *Stripe) ExpireCheckout(_ context.Context, session string) (commands.Checkout, error) {
	return call(s, "ExpireCheckout", func() (commands.Checkout, error) {
		c := s.checkouts[session]
		switch {
		case c == nil:
			return commands.Checkout{}, commands.ErrNotAtStripe
		case c.Status != billing.CheckoutOpen:
			return commands.Checkout{}, &commands.RefusedError{Code: "checkout_not_open", Reason: "Only Checkout Sessions with a status in [\"open\"] can be expired."}
		}
		c.Status, c.URL = billing.CheckoutExpired, ""
		return *c, nil
	})
}

// Subscription implements commands.Stripe.
func (s *Stripe) Subscription(_ context.Context, id string) (commands.StripeSubscription, error) {
	return call(s, "Subscription", func() (commands.StripeSubscription, error) {
		if sub := s.subscriptions[id]; sub != nil {
			return *sub, nil
		}
		return commands.StripeSubscription{}, commands.ErrNotAtStripe
	})
}

// SubscriptionsOf implements commands.Stripe.
func (s *Stripe) SubscriptionsOf(_ context.Context, customer string) ([]commands.StripeSubscription, error) {
	return call(s, "SubscriptionsOf", func() ([]commands.StripeSubscription, error) { return s.list(customer), nil })
}

func (s *Stripe) list(customer string) (list []commands.StripeSubscription) {
	for _, sub := range s.subscriptions {
		if customer == "" || sub.Customer == customer {
			list = append(list, *sub)
		}
	}
	slices.SortFunc(list, func(a, b commands.StripeSubscription) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// EachSubscription implements commands.Stripe.
func (s *Stripe) EachSubscription(_ context.Context, do func([]commands.StripeSubscription) error) error {
	list, err := call(s, "EachSubscription", func() ([]commands.StripeSubscription, error) { return s.list(""), nil })
	if err != nil {
		return err
	}
	return do(list)
}

// CancelAtPeriodEnd implements commands.Stripe.
func (s *Stripe) CancelAtPeriodEnd(_ context.Context, id string, cancel bool) (commands.StripeSubscription, error) {
	return call(s, "CancelAtPeriodEnd", func() (commands.StripeSubscription, error) {
		sub := s.subscriptions[id]
		switch {
		case sub == nil:
			return commands.StripeSubscription{}, commands.ErrNotAtStripe
		case sub.Status.Over():
			return commands.StripeSubscription{}, &commands.RefusedError{Code: "resource_missing", Reason: "A canceled subscription can only update its cancellation_details and metadata."}
		}
		sub.CancelAt = time.Time{}
		if cancel {
			sub.CancelAt = sub.PeriodEnd
		}
		return *sub, nil
	})
}

// Invoice implements commands.Stripe.
func (s *Stripe) Invoice(_ context.Context, id string) (commands.StripeInvoice, error) {
	return call(s, "Invoice", func() (commands.StripeInvoice, error) {
		for _, i := range s.invoices {
			if i.ID == id {
				return i, nil
			}
		}
		return commands.StripeInvoice{}, commands.ErrNotAtStripe
	})
}

// InvoicesOf implements commands.Stripe.
func (s *Stripe) InvoicesOf(_ context.Context, customer string, limit int) ([]commands.StripeInvoice, error) {
	return call(s, "InvoicesOf", func() (list []commands.StripeInvoice, err error) {
		for _, i := range slices.Backward(s.invoices) {
			if i.Customer == customer && len(list) < limit {
				list = append(list, i)
			}
		}
		return list, nil
	})
}

// EachInvoice implements commands.Stripe.
func (s *Stripe) EachInvoice(_ context.Context, since time.Time, do func([]commands.StripeInvoice) error) error {
	list, err := call(s, "EachInvoice", func() ([]commands.StripeInvoice, error) {
		return slices.DeleteFunc(slices.Clone(s.invoices), func(i commands.StripeInvoice) bool { return i.Created.Before(since) }), nil
	})
	if err != nil {
		return err
	}
	return do(list)
}

// OpenPortal implements commands.Stripe.
func (s *Stripe) OpenPortal(_ context.Context, customer, returnURL string) (string, error) {
	return call(s, "OpenPortal", func() (string, error) {
		if !s.customers[customer] {
			return "", &commands.RefusedError{Code: "resource_missing", Reason: "No such customer"}
		}
		return "https://stripe.test/portal/" + customer + "?back=" + returnURL, nil
	})
}

// Price implements commands.Stripe.
func (s *Stripe) Price(_ context.Context, id string) (commands.Price, error) {
	return call(s, "Price", func() (commands.Price, error) {
		if PriceIDs[id] == "" {
			return commands.Price{}, commands.ErrNotAtStripe
		}
		return commands.Price{Amount: 4900, Currency: "usd", Interval: "month"}, nil
	})
}

// ReportUsage implements commands.Stripe. It has no meter.
func (*Stripe) ReportUsage(context.Context, billing.Report) error {
	return &commands.RefusedError{Code: "no_meter", Reason: "There is no meter."}
}

// UsageShown implements commands.Stripe.
func (*Stripe) UsageShown(context.Context, string, string) (int64, error) { return 0, nil }

// Open returns the Checkouts that can be paid.
func (s *Stripe) Open() (sessions []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	for id, c := range s.checkouts {
		if c.Status == billing.CheckoutOpen {
			sessions = append(sessions, id)
		}
	}
	slices.Sort(sessions)
	return sessions
}

// Subscriptions returns all subscriptions, by their ids.
func (s *Stripe) Subscriptions() []commands.StripeSubscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list("")
}

// Pay pays a Checkout, as its user does on Stripe's page, and returns the subscription. "": it cannot be paid any more.
func (s *Stripe) Pay(session string) (subscription string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	c := s.checkouts[session]
	if c == nil || c.Status != billing.CheckoutOpen {
		return ""
	}
	asked, now := s.asked[session], s.Now()
	c.Customer = cmp.Or(c.Customer, s.id("cus"))
	s.customers[c.Customer] = true
	sub := commands.StripeSubscription{Account: asked.Account, Subscription: billing.Subscription{
		ID: s.id("sub"), Customer: c.Customer, Status: billing.Active, Plan: asked.Plan, Price: asked.Price,
		Created: now, PeriodStart: now, PeriodEnd: now.AddDate(0, 1, 0),
	}}
	c.Status, c.URL, c.Subscription = billing.CheckoutComplete, "", sub.ID
	s.subscriptions[sub.ID] = &sub
	s.bill(sub.ID, "paid")
	return sub.ID
}

// Change changes a subscription.
func (s *Stripe) Change(id string, change func(*billing.Subscription)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.subscriptions[id].Subscription)
}

// Bill adds an invoice of 49 dollars for a subscription's period, and returns its id.
func (s *Stripe) Bill(subscription, status string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bill(subscription, status)
}

func (s *Stripe) bill(subscription, status string) string {
	sub, now := s.subscriptions[subscription], s.Now()
	i := commands.StripeInvoice{Account: sub.Account, Number: "N-1", URL: "https://stripe.test/i", PDF: "https://stripe.test/i.pdf", Invoice: billing.Invoice{
		ID: s.id("in"), Customer: sub.Customer, Subscription: sub.ID, Status: status, Currency: "usd", Due: 4900,
		PeriodStart: sub.PeriodStart, PeriodEnd: sub.PeriodEnd, Created: now,
	}}
	if status == "paid" {
		i.Paid = i.Due
	} else {
		i.Attempts, i.NextAttempt = 1, now.AddDate(0, 0, 3)
	}
	s.invoices = append(s.invoices, i)
	return i.ID
}

// DeleteCustomer deletes a customer, as an operator can on Stripe's pages. Its subscriptions end.
func (s *Stripe) DeleteCustomer(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customers[id] = false
	for _, sub := range s.subscriptions {
		if sub.Customer == id {
			sub.Status, sub.Ended = billing.Canceled, s.Now()
		}
	}
}
