package stripetest

import (
	"strings"
	"time"
)

// Cards with which a test pays. Every other number is refused as incorrect.
const (
	CardGood        = "4242424242424242"
	CardDeclined    = "4000000000000002" // declined at once
	CardFailsLater  = "4000000000000341" // can be saved in the portal, but every payment with it is declined
	cardDisplayName = "visa"
)

type card struct{ number string }

func newCard(number string) (*card, error) {
	number = strings.NewReplacer(" ", "", "-", "").Replace(number)
	switch number {
	case CardGood, CardDeclined, CardFailsLater:
		return &card{number}, nil
	}
	return nil, errNumber
}

func (c *card) declines() bool { return c == nil || c.number != CardGood }

func (c *card) last4() string { return c.number[len(c.number)-4:] }

// customer is a customer with the card that pays its subscriptions.
type customer struct {
	id, email, prefix string
	card              *card
	created           time.Time
	numbered          int           // invoices
	credit            int64         // from a change to a smaller plan, for the next invoices
	ahead             time.Duration // of its own clock before the server's
	deleted           bool
}

func (s *Server) customer(id string) *customer {
	for _, c := range s.customers {
		if c.id == id && !c.deleted {
			return c
		}
	}
	return nil
}

// DeleteCustomer deletes a customer, as an operator does in Stripe's dashboard. Its subscriptions end at once.
func (s *Server) DeleteCustomer(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	c := s.customer(id)
	if c == nil {
		return missing("customer", id)
	}
	for _, sub := range s.subs {
		if sub.customer == c && !sub.over() {
			s.end(sub, s.of(c))
		}
	}
	c.deleted = true
	s.emit("customer.deleted", c.object(), s.of(c))
	return nil
}

func (s *Server) newCustomer(email string) *customer {
	c := &customer{id: s.id("cus"), email: email, created: s.now()}
	c.prefix = strings.ToUpper(c.id[len(c.id)-8:])
	s.customers = append(s.customers, c)
	s.emit("customer.created", c.object(), c.created)
	return c
}

// SetCard makes a card the one that pays a customer's subscriptions, as the portal does.
func (s *Server) SetCard(customer, number string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	c := s.customer(customer)
	if c == nil {
		return missing("customer", customer)
	}
	return s.setCard(c, number)
}

func (s *Server) setCard(c *customer, number string) error {
	card, err := newCard(number)
	switch {
	case err != nil:
		return err
	case card.number == CardDeclined:
		return errDeclined
	}
	c.card = card
	s.emit("customer.updated", c.object(), s.of(c))
	return nil
}

func (c *customer) object() object {
	return object{
		"id": c.id, "object": "customer", "address": nil, "balance": -c.credit, "created": c.created.Unix(), "currency": nil, "default_source": nil,
		"delinquent": false, "description": nil, "email": text(c.email), "invoice_prefix": c.prefix,
		"invoice_settings": object{"custom_fields": nil, "default_payment_method": nil, "footer": nil, "rendering_options": nil},
		"livemode":         false, "metadata": object{}, "name": nil, "phone": nil, "preferred_locales": []any{}, "shipping": nil, "tax_exempt": "none", "test_clock": nil,
	}
}

func (s *Server) getCustomer(r *request) (any, error) {
	c := s.customer(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, missing("customer", r.id)
	}
	return c.object(), nil
}

// price is a price with what its object needs.
type price struct {
	Price
	product string
	created time.Time
	meter   *meter
}

func (s *Server) price(id string) *price {
	for _, p := range s.prices {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// plans are the prices that are not of a meter.
func (s *Server) plans() (list []*price) {
	for _, p := range s.prices {
		if !p.Metered {
			list = append(list, p)
		}
	}
	return list
}

func (p *price) object() object {
	recurring, transform := object{"interval": p.Interval, "interval_count": 1, "meter": nil, "usage_type": "licensed"}, any(nil)
	if p.Metered {
		recurring["meter"], recurring["usage_type"], transform = p.meter.id, "metered", object{"divide_by": 3600, "round": "down"}
	}
	return object{
		"id": p.ID, "object": "price", "active": !p.Archived, "billing_scheme": "per_unit", "created": p.created.Unix(), "currency": p.Currency,
		"custom_unit_amount": nil, "livemode": false, "lookup_key": nil, "metadata": object{}, "nickname": p.Name, "product": p.product,
		"recurring":    recurring,
		"tax_behavior": "unspecified", "tiers_mode": nil, "transform_quantity": transform, "type": "recurring", "unit_amount": p.Amount,
		"unit_amount_decimal": money(p.Amount),
	}
}

func (s *Server) getPrice(r *request) (any, error) {
	p := s.price(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	if p == nil {
		return nil, missing("price", r.id)
	}
	return p.object(), nil
}

func (s *Server) listPrices(r *request) (any, error) {
	return page(r.form, "/v1/prices", newest(s.prices, func(*price) bool { return true }), func(p *price) string { return p.ID }, (*price).object)
}

// add returns the start of a period that is n intervals after the first one. A month that has no such day uses its last one.
func (p *price) add(anchor time.Time, n int) time.Time {
	switch p.Interval {
	case "day":
		return anchor.AddDate(0, 0, n)
	case "week":
		return anchor.AddDate(0, 0, 7*n)
	case "year":
		n *= 12
	}
	first := time.Date(anchor.Year(), anchor.Month()+time.Month(n), 1, anchor.Hour(), anchor.Minute(), anchor.Second(), 0, time.UTC)
	return first.AddDate(0, 0, min(anchor.Day(), first.AddDate(0, 1, -1).Day())-1)
}
