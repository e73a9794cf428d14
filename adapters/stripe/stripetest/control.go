package stripetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// order is what a test asks of the server over HTTP. Each call uses some of the fields. A customer can be named by its id or
// by the account (the user_id of its subscriptions' metadata).
type order struct {
	Customer     string   `json:"customer"`
	Account      string   `json:"account"`
	By           string   `json:"by"` // a duration: "744h"
	URL          string   `json:"url"`
	Secret       string   `json:"secret"`
	Card         string   `json:"card"` // a number, or "good", "declined" or "fails"
	Session      string   `json:"session"`
	Email        string   `json:"email"`
	Subscription string   `json:"subscription"`
	Price        string   `json:"price"`
	Invoice      string   `json:"invoice"`
	Status       string   `json:"status"`
	Count        int      `json:"count"`
	On           bool     `json:"on"`
	Faults       *Faults  `json:"faults"`
	Next         *Next    `json:"next"`
	Events       []string `json:"events"`
}

// cards are the numbers by the words of the control interface.
var cards = map[string]string{"good": CardGood, "declined": CardDeclined, "fails": CardFailsLater}

// controls are the calls of the control interface: POST /control/NAME with an order as JSON.
var controls = map[string]func(*Server, context.Context, order) error{
	"webhook":     func(s *Server, _ context.Context, o order) error { s.SetWebhook(o.URL, o.Secret); return nil },
	"advance":     (*Server).controlAdvance,
	"card":        func(s *Server, _ context.Context, o order) error { return s.SetCard(s.named(o), number(o.Card)) },
	"pay":         func(s *Server, _ context.Context, o order) error { return s.Pay(o.Session, number(o.Card), o.Email) },
	"pay-invoice": func(s *Server, _ context.Context, o order) error { return s.PayInvoice(o.Invoice, number(o.Card)) },
	"end-invoice": func(s *Server, _ context.Context, o order) error { return s.EndInvoice(o.Invoice, o.Status) },
	"cancel": func(s *Server, _ context.Context, o order) error {
		if o.Status == "now" {
			return s.CancelNow(s.subNamed(o))
		}
		return s.SetCancel(s.subNamed(o), o.On)
	},
	"delete-customer": func(s *Server, _ context.Context, o order) error { return s.DeleteCustomer(s.named(o)) },
	"plan":            func(s *Server, _ context.Context, o order) error { return s.ChangePlan(s.subNamed(o), o.Price) },
	"hold":            func(s *Server, _ context.Context, o order) error { s.Hold(o.On); return nil },
	"lose":            func(s *Server, _ context.Context, o order) error { s.LoseNext(o.Count); return nil },
	"repeat":          func(s *Server, _ context.Context, o order) error { s.RepeatNext(o.Count); return nil },
	"deliver":         func(s *Server, ctx context.Context, _ order) error { s.Deliver(ctx); return nil },
	"resend":          func(s *Server, _ context.Context, o order) error { return s.Resend(o.Events...) },
	"down": func(s *Server, _ context.Context, o order) error {
		by, err := time.ParseDuration(o.By)
		s.Down(by)
		return err
	},
	"faults": func(s *Server, _ context.Context, o order) error {
		if o.Faults != nil {
			s.SetFaults(*o.Faults)
		}
		if o.Next != nil {
			s.FailNext(*o.Next)
		}
		return nil
	},
}

// control answers the test: GET /control/ledger and /control/events, and the controls, which answer with the ledger.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/control/")
	var reply any
	switch do := controls[name]; {
	case r.Method == http.MethodGet && name == "events":
		reply = s.Events()
	case r.Method == http.MethodGet && name == "ledger":
		reply = s.Ledger()
	case r.Method == http.MethodPost && do != nil:
		var o order
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := do(s, r.Context(), o); err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		reply = s.Ledger()
	default:
		http.Error(w, "there is no such control", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply)
}

func (s *Server) controlAdvance(_ context.Context, o order) error {
	by, err := time.ParseDuration(o.By)
	switch {
	case err != nil:
		return err
	case by < 0:
		return fmt.Errorf("the clock only goes forward")
	case o.Customer == "" && o.Account == "":
		s.Advance(by)
		return nil
	}
	return s.AdvanceCustomer(s.named(o), by)
}

func number(card string) string {
	if n, ok := cards[card]; ok {
		return n
	}
	return card
}

// named returns the id of the customer that an order is about.
func (s *Server) named(o order) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subs {
		if o.Customer == "" && o.Account != "" && sub.metadata["user_id"] == o.Account {
			return sub.customer.id
		}
	}
	return o.Customer
}

// subNamed returns the id of the subscription that an order is about: the latest one of its customer if it names none.
func (s *Server) subNamed(o order) string {
	of := s.named(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range newest(s.subs, func(sub *subscription) bool { return sub.customer.id == of }) {
		if o.Subscription == "" {
			return sub.id
		}
	}
	return o.Subscription
}
