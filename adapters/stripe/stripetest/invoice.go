package stripetest

import (
	"fmt"
	"strconv"
	"time"
)

type line struct {
	text       string
	amount     int64
	start, end time.Time
	price      *price
	proration  bool
}

type invoice struct {
	id, number, status, reason string
	customer                   *customer
	sub                        *subscription
	lines                      []line
	start, until               time.Time // from when to when usage would be added to it
	created, finalizes         time.Time
	finalized, paidAt          time.Time
	advance                    bool
	due, paid, credited        int64
	attempts                   int
	nextAttempt                time.Time
	base                       string
}

func (s *Server) invoice(id string) *invoice {
	for _, i := range s.invoices {
		if i.id == id {
			return i
		}
	}
	return nil
}

func (s *Server) newInvoice(sub *subscription, reason string, at time.Time) *invoice {
	i := &invoice{
		id: s.id("in"), status: statusDraft, reason: reason, customer: sub.customer, sub: sub, start: at, until: at, created: at, base: s.base(),
	}
	s.invoices = append(s.invoices, i)
	return i
}

func (i *invoice) total() (sum int64) {
	for _, l := range i.lines {
		sum += l.amount
	}
	return sum
}

func (i *invoice) object() object {
	total := i.total()
	due := i.due
	if i.status == statusDraft {
		due = max(total, 0)
	}
	o := object{
		"id": i.id, "object": "invoice", "account_country": "US", "account_name": "Test", "account_tax_ids": nil, "amount_due": due, "amount_overpaid": 0,
		"amount_paid": i.paid, "amount_paid_off_stripe": 0, "amount_remaining": due - i.paid, "amount_shipping": 0, "application": nil, "attempt_count": i.attempts, "attempted": i.attempts > 0,
		"auto_advance": i.advance, "automatic_tax": object{"disabled_reason": nil, "enabled": false, "liability": nil, "provider": nil, "status": nil},
		"automatically_finalizes_at": nil, "billing_reason": i.reason, "collection_method": "charge_automatically", "created": i.created.Unix(),
		"currency": i.sub.price.Currency, "custom_fields": nil, "customer": i.customer.id, "customer_address": nil, "customer_email": text(i.customer.email),
		"customer_name": nil, "customer_phone": nil, "customer_shipping": nil, "customer_tax_exempt": "none", "customer_tax_ids": []any{},
		"default_payment_method": nil, "default_source": nil, "default_tax_rates": []any{}, "description": nil, "discounts": []any{}, "due_date": nil,
		"effective_at": unix(i.finalized), "ending_balance": nil, "footer": nil, "from_invoice": nil, "hosted_invoice_url": nil, "invoice_pdf": nil,
		"issuer": object{"type": "self"}, "last_finalization_error": nil, "latest_revision": nil, "livemode": false, "metadata": object{},
		"next_payment_attempt": unix(i.nextAttempt), "number": text(i.number), "on_behalf_of": nil,
		"parent":           object{"quote_details": nil, "subscription_details": object{"metadata": i.sub.metadata, "subscription": i.sub.id}, "type": "subscription_details"},
		"payment_settings": object{"default_mandate": nil, "payment_method_options": nil, "payment_method_types": nil}, "period_end": i.until.Unix(),
		"period_start": i.start.Unix(), "post_payment_credit_notes_amount": 0, "pre_payment_credit_notes_amount": 0, "receipt_number": nil,
		"rendering": nil, "shipping_cost": nil, "shipping_details": nil, "starting_balance": -i.credited, "statement_descriptor": nil, "status": i.status,
		"status_transitions": object{"finalized_at": unix(i.finalized), "marked_uncollectible_at": nil, "paid_at": unix(i.paidAt), "voided_at": nil},
		"subtotal":           total, "subtotal_excluding_tax": total, "test_clock": nil, "total": total, "total_discount_amounts": []any{}, "total_excluding_tax": total,
		"total_pretax_credit_amounts": []any{}, "total_taxes": []any{}, "webhooks_delivered_at": nil,
	}
	if i.status == statusDraft && i.advance {
		o["automatically_finalizes_at"] = unix(i.finalizes)
	}
	if i.number != "" {
		o["hosted_invoice_url"], o["invoice_pdf"] = i.base+"/i/"+i.id, i.base+"/i/"+i.id+"/pdf"
	}
	shown := []object{}
	for n, l := range i.lines {
		shown = append(shown, object{
			"id": "il_" + i.id[3:] + strconv.Itoa(n), "object": "line_item", "amount": l.amount, "currency": l.price.Currency, "description": l.text,
			"discount_amounts": []any{}, "discountable": !l.proration, "discounts": []any{}, "invoice": i.id, "livemode": false, "metadata": i.sub.metadata,
			"parent": object{"invoice_item_details": nil, "subscription_item_details": object{"invoice_item": nil, "proration": l.proration,
				"proration_details": object{"credited_items": nil}, "subscription": i.sub.id, "subscription_item": i.sub.item}, "type": "subscription_item_details"},
			"period": object{"start": l.start.Unix(), "end": l.end.Unix()}, "pretax_credit_amounts": []any{},
			"pricing":  object{"price_details": object{"price": l.price.ID, "product": l.price.product}, "type": "price_details", "unit_amount_decimal": money(l.price.Amount)},
			"quantity": 1, "subscription": i.sub.id, "subtotal": l.amount, "taxes": []any{},
		})
	}
	o["lines"] = listOf("/v1/invoices/"+i.id+"/lines", shown, false)
	return o
}

// money returns cents as Stripe's decimal text of cents.
func money(cents int64) string { return strconv.FormatInt(cents, 10) }

// finalize gives a draft its number and tries the first payment. Credit of the customer pays first.
func (s *Server) finalize(i *invoice, at time.Time) {
	c := i.customer
	c.numbered++
	i.number = fmt.Sprintf("%s-%04d", c.prefix, c.numbered)
	i.status, i.finalized, i.advance = statusOpen, at, true
	total := max(i.total(), 0)
	i.credited = min(c.credit, total)
	c.credit -= i.credited
	i.due = total - i.credited
	s.emit("invoice.finalized", i.object(), at)
	if i.due == 0 {
		s.settlePaid(i, at)
		return
	}
	s.attempt(i, c.card, at)
}

// attempt tries to take the money from a card.
func (s *Server) attempt(i *invoice, with *card, at time.Time) {
	i.attempts++
	if !with.declines() {
		s.settlePaid(i, at)
		return
	}
	i.nextAttempt = time.Time{}
	status := statusPastDue
	if retry := i.attempts - 1; retry < len(s.cfg.Retries) && !i.sub.over() {
		i.nextAttempt = at.Add(s.cfg.Retries[retry])
	} else {
		status, i.advance = s.cfg.AfterRetries, false
	}
	s.emit("invoice.payment_failed", i.object(), at)
	switch {
	case i.sub.over():
	case status == statusCanceled:
		s.end(i.sub, at)
	default:
		s.setStatus(i.sub, status, at)
	}
}

func (s *Server) settlePaid(i *invoice, at time.Time) {
	i.status, i.paid, i.paidAt, i.nextAttempt, i.advance = statusPaid, i.due, at, time.Time{}, false
	s.emit("invoice.paid", i.object(), at)
	s.emit("invoice.payment_succeeded", i.object(), at)
	if i.sub.latest == i {
		s.setStatus(i.sub, statusActive, at)
	}
}

// PayInvoice pays an open invoice with a card, as its page does.
func (s *Server) PayInvoice(id, number string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	i := s.invoice(id)
	if i == nil {
		return missing("invoice", id)
	}
	return s.payInvoice(i, number)
}

func (s *Server) payInvoice(i *invoice, number string) error {
	switch card, err := newCard(number); {
	case i.status != statusOpen:
		return errPaidThere
	case err != nil:
		return err
	case card.declines():
		return errDeclined
	}
	i.attempts++
	s.settlePaid(i, s.of(i.customer))
	return nil
}

// EndInvoice voids an open invoice or marks it as uncollectible, as an operator does in Stripe's dashboard.
func (s *Server) EndInvoice(id, status string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	i := s.invoice(id)
	if i == nil || i.status != statusOpen || status != "void" && status != "uncollectible" {
		return errPaidThere
	}
	i.status, i.nextAttempt, i.advance = status, time.Time{}, false
	name := map[string]string{"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}[status]
	s.emit(name, i.object(), s.of(i.customer))
	return nil
}

func (s *Server) getInvoice(r *request) (any, error) {
	i := s.invoice(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	if i == nil {
		return nil, missing("invoice", r.id)
	}
	return i.object(), nil
}

func (s *Server) listInvoices(r *request) (any, error) {
	of, sub, status, since := r.form.take("customer"), r.form.take("subscription"), r.form.take("status"), r.form.time("created[gte]")
	return page(r.form, "/v1/invoices", newest(s.invoices, func(i *invoice) bool {
		return (of == "" || i.customer.id == of) && (sub == "" || i.sub.id == sub) && (status == "" || i.status == status) && !i.created.Before(since)
	}), func(i *invoice) string { return i.id }, (*invoice).object)
}
