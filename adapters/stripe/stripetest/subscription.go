package stripetest

import (
	"maps"
	"time"
)

type subscription struct {
	id, item, status string
	customer         *customer
	price            *price
	usage            *price // nil: none
	metadata         map[string]string
	created          time.Time
	anchor           time.Time
	n                int // of the current period
	start, end       time.Time
	cancelAt         time.Time
	atPeriodEnd      bool
	canceled, ended  time.Time
	latest           *invoice
}

func (s *Server) sub(id string) *subscription {
	for _, sub := range s.subs {
		if sub.id == id {
			return sub
		}
	}
	return nil
}

func (sub *subscription) over() bool { return sub.status == statusCanceled }

func (sub *subscription) object() object {
	item := object{
		"id": sub.item, "object": "subscription_item", "billing_thresholds": nil, "created": sub.created.Unix(), "current_period_end": sub.end.Unix(),
		"current_period_start": sub.start.Unix(), "discounts": []any{}, "metadata": object{}, "price": sub.price.object(), "quantity": 1,
		"subscription": sub.id, "tax_rates": []any{},
	}
	items := []object{item}
	if sub.usage != nil {
		metered := maps.Clone(item)
		delete(metered, "quantity")
		metered["id"], metered["price"] = sub.item+"u", sub.usage.object()
		items = append([]object{metered}, items...)
	}
	o := object{
		"id": sub.id, "object": "subscription", "application": nil, "application_fee_percent": nil,
		"automatic_tax":        object{"disabled_reason": nil, "enabled": false, "liability": nil},
		"billing_cycle_anchor": sub.anchor.Unix(), "billing_cycle_anchor_config": nil, "billing_mode": object{"type": "flexible", "flexible": object{"proration_discounts": "included"}, "updated_at": sub.created.Unix()}, "billing_schedules": []any{},
		"billing_thresholds": nil, "cancel_at": unix(sub.cancelAt), "cancel_at_period_end": sub.atPeriodEnd, "canceled_at": unix(sub.canceled),
		"cancellation_details": object{"comment": nil, "feedback": nil, "reason": nil}, "collection_method": "charge_automatically",
		"created": sub.created.Unix(), "currency": sub.price.Currency, "customer": sub.customer.id, "days_until_due": nil, "default_payment_method": nil,
		"default_source": nil, "default_tax_rates": []any{}, "description": nil, "discounts": []any{}, "ended_at": unix(sub.ended),
		"invoice_settings": object{"account_tax_ids": nil, "issuer": object{"type": "self"}, "custom_fields": nil, "description": nil, "footer": nil},
		"items":            listOf("/v1/subscription_items?subscription="+sub.id, items, false), "latest_invoice": nil, "livemode": false, "metadata": sub.metadata,
		"next_pending_invoice_item_invoice": nil, "on_behalf_of": nil, "pause_collection": nil, "pending_invoice_item_interval": nil, "pending_setup_intent": nil,
		"pending_update": nil, "schedule": nil, "start_date": sub.created.Unix(), "status": sub.status, "test_clock": nil, "transfer_data": nil, "trial_end": nil,
		"trial_settings": object{"end_behavior": object{"missing_payment_method": "create_invoice"}}, "trial_start": nil,
	}
	if sub.latest != nil {
		o["latest_invoice"] = sub.latest.id
	}
	return o
}

// subscribe makes a subscription whose first invoice the customer's card pays.
func (s *Server) subscribe(c *customer, p, usage *price, metadata map[string]string, at time.Time) (*subscription, *invoice) {
	sub := &subscription{
		id: s.id("sub"), item: s.id("si"), status: statusActive, customer: c, price: p, usage: usage, metadata: metadata,
		created: at, anchor: at, start: at, end: p.add(at, 1),
	}
	s.subs = append(s.subs, sub)
	i := s.newInvoice(sub, "subscription_create", at)
	i.lines = []line{{text: p.Name, amount: p.Amount, start: sub.start, end: sub.end, price: p}}
	sub.latest = i
	s.emit("customer.subscription.created", sub.object(), at)
	s.emit("invoice.created", i.object(), at)
	s.finalize(i, at)
	return sub, i
}

// renew begins the subscription's next period.
func (s *Server) renew(sub *subscription, at time.Time) {
	before := [2]time.Time{sub.start, sub.end}
	sub.n++
	sub.start, sub.end = sub.end, sub.price.add(sub.anchor, sub.n+1)
	i := s.newInvoice(sub, "subscription_cycle", at)
	i.start, i.until = before[0], before[1]
	i.lines = []line{{text: sub.price.Name, amount: sub.price.Amount, start: sub.start, end: sub.end, price: sub.price}}
	if sub.usage != nil {
		i.lines = append(i.lines, line{text: sub.usage.Name, amount: s.hours(sub.customer, before[0], before[1]) * sub.usage.Amount, start: before[0], end: before[1], price: sub.usage})
	}
	i.finalizes, i.advance = at.Add(time.Hour), sub.status != statusUnpaid
	sub.latest = i
	s.emit("customer.subscription.updated", sub.object(), at)
	s.emit("invoice.created", i.object(), at)
}

// end cancels the subscription. Its invoices stay as they are, and are not tried again.
func (s *Server) end(sub *subscription, at time.Time) {
	sub.status, sub.ended = statusCanceled, at
	if sub.canceled.IsZero() {
		sub.canceled = at
	}
	for _, i := range s.invoices {
		if i.sub == sub && (i.status == statusDraft || i.status == statusOpen) {
			i.advance, i.nextAttempt = false, time.Time{}
			s.emit("invoice.updated", i.object(), at)
		}
	}
	s.emit("customer.subscription.deleted", sub.object(), at)
}

func (s *Server) setStatus(sub *subscription, status string, at time.Time) {
	if sub.over() || sub.status == status {
		return
	}
	sub.status = status
	s.emit("customer.subscription.updated", sub.object(), at)
}

// CancelNow ends a subscription at once, as an operator does in Stripe's dashboard.
func (s *Server) CancelNow(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	sub := s.sub(id)
	if sub == nil || sub.over() {
		return missing("subscription", id)
	}
	s.end(sub, s.of(sub.customer))
	return nil
}

// SetCancel cancels a subscription at the end of its period, or no longer, as the portal does.
func (s *Server) SetCancel(id string, cancel bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	sub := s.sub(id)
	if sub == nil || sub.over() {
		return missing("subscription", id)
	}
	s.portalCancel(sub, cancel)
	return nil
}

// portalCancel sets a date and not cancel_at_period_end: so it is in the billing mode "flexible", which new subscriptions have.
func (s *Server) portalCancel(sub *subscription, cancel bool) {
	if cancel {
		s.setCancel(sub, false, sub.end)
		return
	}
	s.setCancel(sub, false, time.Time{})
}

// CancelAt cancels a subscription at a time of an operator's choice.
func (s *Server) CancelAt(id string, when time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	sub := s.sub(id)
	if sub == nil || sub.over() {
		return missing("subscription", id)
	}
	s.setCancel(sub, false, when.Truncate(time.Second).UTC())
	return nil
}

func (s *Server) setCancel(sub *subscription, atPeriodEnd bool, when time.Time) {
	at := s.of(sub.customer)
	sub.atPeriodEnd, sub.cancelAt, sub.canceled = atPeriodEnd, when, time.Time{}
	if !when.IsZero() {
		sub.canceled = at
	}
	s.emit("customer.subscription.updated", sub.object(), at)
}

// ChangePlan moves a subscription to another price, as the portal does: the rest of the period is settled at once.
func (s *Server) ChangePlan(id, priceID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	sub, p := s.sub(id), s.price(priceID)
	if sub == nil || p == nil || sub.over() {
		return missing("subscription", id)
	}
	return s.change(sub, p)
}

func (s *Server) change(sub *subscription, p *price) error {
	if p == sub.price {
		return nil
	}
	at := s.of(sub.customer)
	whole := int64(sub.end.Sub(sub.start) / time.Second)
	rest := int64(sub.end.Sub(at) / time.Second)
	unused, remaining := sub.price.Amount*rest/whole, p.Amount*rest/whole
	if remaining > unused && sub.customer.card.declines() {
		return errDeclined
	}
	old := sub.price
	sub.price = p
	if remaining <= unused {
		sub.customer.credit += unused - remaining
		s.emit("customer.subscription.updated", sub.object(), at)
		return nil
	}
	i := s.newInvoice(sub, "subscription_update", at)
	i.lines = []line{
		{text: "Unused time on " + old.Name, amount: -unused, start: at, end: sub.end, price: old, proration: true},
		{text: "Remaining time on " + p.Name, amount: remaining, start: at, end: sub.end, price: p, proration: true},
	}
	sub.latest = i
	s.emit("customer.subscription.updated", sub.object(), at)
	s.emit("invoice.created", i.object(), at)
	s.finalize(i, at)
	return nil
}

func (s *Server) getSubscription(r *request) (any, error) {
	sub := s.sub(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	if sub == nil {
		return nil, missing("subscription", r.id)
	}
	return sub.object(), nil
}

func (s *Server) listSubscriptions(r *request) (any, error) {
	status, of := r.form.take("status"), r.form.take("customer")
	return page(r.form, "/v1/subscriptions", newest(s.subs, func(sub *subscription) bool {
		return (of == "" || sub.customer.id == of) && (status == "all" || status == "" && !sub.over() || sub.status == status)
	}), func(sub *subscription) string { return sub.id }, (*subscription).object)
}

func (s *Server) updateSubscription(r *request) (any, error) {
	f, sub := r.form, s.sub(r.id)
	change, cancel := f.has("cancel_at_period_end"), f.boolean("cancel_at_period_end")
	dated, date := f.has("cancel_at"), f.take("cancel_at")
	if err := f.done(); err != nil {
		return nil, err
	}
	switch {
	case sub == nil:
		return nil, missing("subscription", r.id)
	case sub.over():
		return nil, invalid("", "", "A canceled subscription can only update its cancellation_details and metadata.")
	case change && dated:
		return nil, invalid("", "", "You may only specify one of these parameters: cancel_at, cancel_at_period_end.")
	case dated && date != "":
		return nil, invalid("", "cancel_at", "This Stripe of a test takes no date here.")
	case change && cancel:
		s.setCancel(sub, true, sub.end)
	case change && sub.atPeriodEnd, dated: // with the first one, a date that the portal has set would stay
		s.setCancel(sub, false, time.Time{})
	}
	return sub.object(), nil
}
