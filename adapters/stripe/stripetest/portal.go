package stripetest

import (
	"net/http"
	"time"
)

// portal is a session of the customer portal.
type portal struct {
	id, secret, back string
	customer         *customer
	created          time.Time
}

func (s *Server) createPortal(r *request) (any, error) {
	f := r.form
	p := &portal{back: f.take("return_url"), created: r.at}
	id := f.need("customer")
	if err := f.done(); err != nil {
		return nil, err
	}
	if p.customer = s.customer(id); p.customer == nil {
		return nil, invalid("resource_missing", "customer", "No such customer: '"+id+"'")
	}
	p.id, p.secret = s.id("bps"), s.id("test")
	s.portals[p.secret] = p
	return object{
		"id": p.id, "object": "billing_portal.session", "configuration": "bpc_test", "created": p.created.Unix(), "customer": id, "flow": nil, "livemode": false,
		"locale": nil, "on_behalf_of": nil, "return_url": text(p.back), "url": r.base + "/p/session/" + p.secret,
	}, nil
}

type (
	shownSub struct {
		ID, Name, Status, Price, CancelAt, End string
		Over                                   bool
	}
	shownInvoice struct {
		URL, Number, Status, Currency string
		Due                           int64
	}
)

func (s *Server) portalPage(w http.ResponseWriter, r *http.Request, secret, action string) {
	p := s.portals[secret]
	if p == nil || s.now().Sub(p.created) > time.Hour {
		message(w, http.StatusNotFound, "Session expired", "Your session has expired. Open the portal again.")
		return
	}
	path, failed := "/p/session/"+secret, ""
	if r.Method == http.MethodPost {
		err := s.portalAction(p.customer, action, r)
		if err == nil {
			http.Redirect(w, r, path, http.StatusSeeOther)
			return
		}
		failed = err.Error()
	}
	var subs []shownSub
	for _, sub := range newest(s.subs, func(sub *subscription) bool { return sub.customer == p.customer }) {
		shown := shownSub{ID: sub.id, Name: sub.price.Name, Status: sub.status, Price: sub.price.ID, End: sub.end.Format("2 January 2006"), Over: sub.over()}
		if !sub.cancelAt.IsZero() {
			shown.CancelAt = sub.cancelAt.Format("2 January 2006")
		}
		subs = append(subs, shown)
	}
	var invoices []shownInvoice
	for _, i := range newest(s.invoices, func(i *invoice) bool { return i.customer == p.customer && i.number != "" }) {
		invoices = append(invoices, shownInvoice{i.base + "/i/" + i.id, i.number, i.status, i.sub.price.Currency, i.due})
	}
	card := "No card."
	if c := p.customer.card; c != nil {
		card = "Visa that ends in " + c.last4()
	}
	show(w, http.StatusOK, "portal", map[string]any{
		"Path": path, "Error": failed, "Subs": subs, "Invoices": invoices, "Card": card, "Return": p.back, "Prices": s.plans(),
	})
}

// portalAction does what a form of the portal asks for. A subscription of another customer is none.
func (s *Server) portalAction(c *customer, action string, r *http.Request) error {
	if action == "card" {
		return s.setCard(c, r.PostFormValue("card"))
	}
	sub := s.sub(r.PostFormValue("sub"))
	if sub == nil || sub.customer != c || sub.over() {
		return missing("subscription", r.PostFormValue("sub"))
	}
	switch action {
	case "cancel", "renew":
		s.portalCancel(sub, action == "cancel")
		return nil
	case "plan":
		if p := s.price(r.PostFormValue("price")); p != nil && sub.usage == nil { // Stripe's portal only cancels one with several items
			return s.change(sub, p)
		}
	}
	return missing("action", action)
}
