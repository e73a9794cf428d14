package stripetest

import (
	"net/url"
	"strings"
	"time"
)

// Statuses of Checkouts, invoices and subscriptions.
const (
	statusOpen     = "open"
	statusComplete = "complete"
	statusExpired  = "expired"
	statusDraft    = "draft"
	statusPaid     = "paid"
	statusActive   = "active"
	statusPastDue  = "past_due"
	statusUnpaid   = "unpaid"
	statusCanceled = "canceled"
)

// checkout is a Checkout Session of a subscription.
type checkout struct {
	id, status, reference, email string
	success, cancel, base        string
	price                        *price
	usage                        *price // nil: none
	customer                     *customer
	sub                          *subscription
	invoice                      *invoice
	metadata, subMetadata        map[string]string
	created, expires             time.Time
	declined                     int
}

func (s *Server) checkoutOf(id string) *checkout {
	for _, c := range s.checkouts {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (c *checkout) url() any {
	if c.status != statusOpen {
		return nil
	}
	return c.base + "/c/pay/" + c.id
}

func (c *checkout) object() object {
	o := object{
		"id": c.id, "object": "checkout.session", "adaptive_pricing": nil, "after_expiration": nil, "allow_promotion_codes": nil,
		"amount_subtotal": c.price.Amount, "amount_total": c.price.Amount,
		"automatic_tax": object{"enabled": false, "liability": nil, "provider": nil, "status": nil}, "billing_address_collection": nil,
		"cancel_url": text(c.cancel), "client_reference_id": text(c.reference), "client_secret": nil, "consent": nil,
		"created": c.created.Unix(), "currency": c.price.Currency, "custom_fields": []any{},
		"custom_text": object{"after_submit": nil, "shipping_address": nil, "submit": nil, "terms_of_service_acceptance": nil},
		"customer":    nil, "customer_creation": "always", "customer_details": nil, "customer_email": text(c.email), "expires_at": c.expires.Unix(),
		"invoice": nil, "livemode": false, "locale": nil, "metadata": c.metadata, "mode": "subscription", "payment_intent": nil,
		"payment_method_collection": "always", "payment_method_options": object{}, "payment_method_types": []string{"card"}, "payment_status": "unpaid",
		"setup_intent": nil, "shipping_options": []any{}, "status": c.status, "subscription": nil, "success_url": text(c.success), "url": c.url(),
	}
	if c.customer != nil {
		o["customer"] = c.customer.id
		if c.status == statusComplete {
			o["customer_details"] = object{"address": nil, "email": text(c.customer.email), "name": nil, "phone": nil, "tax_exempt": "none", "tax_ids": []any{},
				"business_name": nil, "individual_name": nil}
		}
	}
	if c.sub != nil {
		o["subscription"], o["invoice"], o["payment_status"] = c.sub.id, c.invoice.id, "paid"
	}
	return o
}

func (s *Server) createCheckout(r *request) (any, error) {
	f := r.form
	if mode := f.need("mode"); mode != "subscription" && mode != "" {
		f.fail(invalid("", "mode", "This Stripe of a test has only Checkouts of subscriptions."))
	}
	c := &checkout{
		status: statusOpen, success: f.need("success_url"), cancel: f.take("cancel_url"), reference: f.take("client_reference_id"),
		email: f.take("customer_email"), metadata: f.all("metadata"), subMetadata: f.all("subscription_data[metadata]"),
		created: r.at, expires: f.time("expires_at"), base: r.base,
	}
	priceID, quantity, customerID := f.need("line_items[0][price]"), f.number("line_items[0][quantity]"), f.take("customer")
	usageID := f.take("line_items[1][price]")
	if err := f.done(); err != nil {
		return nil, err
	}
	if c.expires.IsZero() {
		c.expires = r.at.Add(day)
	}
	c.price, c.usage = s.price(priceID), s.price(usageID)
	switch ahead := c.expires.Sub(r.at); {
	case c.price == nil:
		return nil, invalid("resource_missing", "line_items[0][price]", "No such price: '"+priceID+"'")
	case c.price.Archived:
		return nil, invalid("", "line_items[0][price]", "The price specified is inactive. This field only accepts active prices.")
	case c.price.Metered:
		return nil, invalid("", "line_items[0][quantity]", "Quantity should not be specified where usage_type is `metered`.")
	case usageID != "" && c.usage == nil:
		return nil, invalid("resource_missing", "line_items[1][price]", "No such price: '"+usageID+"'")
	case usageID != "" && !c.usage.Metered:
		return nil, invalid("", "line_items[1][quantity]", "Quantity is required. Add `quantity` to `line_items[1]`")
	case quantity != 1:
		return nil, invalid("", "line_items[0][quantity]", "Quantity should be 1 in this Stripe of a test.")
	case customerID != "" && c.email != "":
		return nil, invalid("", "", "You may only specify one of these parameters: customer, customer_email.")
	case c.email != "" && !strings.Contains(c.email, "@"):
		return nil, invalid("email_invalid", "customer_email", "Invalid email address: "+c.email)
	case ahead < 30*time.Minute || ahead > day:
		return nil, invalid("", "expires_at", "The `expires_at` timestamp must be between 30 minutes and 24 hours from Checkout Session creation.")
	}
	for param, link := range map[string]string{"success_url": c.success, "cancel_url": c.cancel} {
		if u, err := url.Parse(link); link != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return nil, invalid("url_invalid", param, "Not a valid URL")
		}
	}
	if customerID != "" {
		if c.customer = s.customer(customerID); c.customer == nil {
			return nil, invalid("resource_missing", "customer", "No such customer: '"+customerID+"'")
		}
	}
	c.id = s.id("cs_test")
	s.checkouts = append(s.checkouts, c)
	return c.object(), nil
}

func (s *Server) getCheckout(r *request) (any, error) {
	c := s.checkoutOf(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, missing("checkout.session", r.id)
	}
	return c.object(), nil
}

func (s *Server) expireCheckout(r *request) (any, error) {
	c := s.checkoutOf(r.id)
	if err := r.form.done(); err != nil {
		return nil, err
	}
	switch {
	case c == nil:
		return nil, missing("checkout.session", r.id)
	case c.status != statusOpen:
		return nil, invalid("", "", "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a status of "+c.status+".")
	}
	s.expire(c, r.at)
	return c.object(), nil
}

func (s *Server) expire(c *checkout, at time.Time) {
	c.status = statusExpired
	s.emit("checkout.session.expired", c.object(), at)
}

// sentence is an error that a page shows.
type sentence string

func (s sentence) Error() string { return string(s) }

// What the pages say when a payment is not possible.
const (
	errDeclined  sentence = "Your card was declined."
	errNumber    sentence = "Your card number is incorrect."
	errEmail     sentence = "Your email is missing."
	errNotOpen   sentence = "You're all done here. This page has been paid, or its time is over."
	errPaidThere sentence = "This invoice has been paid, or cannot be paid."
)

// Pay pays an open Checkout with a card, as its page does. email is used if the Checkout has none.
func (s *Server) Pay(session, card, email string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	c := s.checkoutOf(session)
	if c == nil {
		return errNotOpen
	}
	return s.complete(c, card, email)
}

func (s *Server) complete(c *checkout, number, email string) error {
	switch card, err := newCard(number); {
	case c.status != statusOpen:
		return errNotOpen
	case err != nil:
		return err
	case card.declines():
		c.declined++
		return errDeclined
	case c.customer == nil && c.email == "" && !strings.Contains(email, "@"):
		return errEmail
	default:
		if c.email != "" {
			email = c.email
		}
		if c.customer == nil {
			c.customer = s.newCustomer(email)
		}
		at := s.of(c.customer)
		c.customer.card = card
		c.status = statusComplete
		c.sub, c.invoice = s.subscribe(c.customer, c.price, c.usage, c.subMetadata, at)
		s.emit("checkout.session.completed", c.object(), at)
		return nil
	}
}
