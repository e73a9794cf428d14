package commands_test

import (
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	if v := s.overview(t, ada); !v.Billing || v.Access.Level != billing.None || v.Access.Reason != billing.NoPlan || !v.StopAt.IsZero() || v.Customer {
		t.Errorf("got %+v, want no plan and nothing that stops", v)
	}
	s.checkout(t, ada, billing.Pro)
	if v := s.overview(t, ada); v.Checkout == nil || v.Checkout.Plan != billing.Pro {
		t.Errorf("got %+v, want the Checkout", v)
	}
	s.Clock.Advance(time.Hour)
	if v := s.overview(t, ada); v.Checkout != nil {
		t.Errorf("got %+v, want no Checkout: it has expired", v.Checkout)
	}
	_, session := s.checkout(t, ada, billing.Pro)
	id := s.stripe.Pay(session)
	s.sync(t, ada)
	if v := s.overview(t, ada); v.Subscription == nil || v.Subscription.ID != id || v.Access.Level != billing.Full || !v.StopAt.IsZero() || !v.Customer || v.Due != nil || v.Granted != nil {
		t.Errorf("got %+v, want the subscription", v)
	}
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.PastDue })
	next := s.Clock.Now().AddDate(0, 0, 3)
	s.stripe.Bill(id, "open")
	s.stripe.Bill(id, "open")
	s.stripe.Bill(id, "uncollectible")
	s.sync(t, ada)
	if v := s.overview(t, ada); v.Due == nil || *v.Due != (commands.PaymentDue{Amount: 9800, Currency: "usd", Attempts: 1, NextAttempt: next}) {
		t.Errorf("got %+v, want two invoices of $49 due", v.Due)
	}
	s.grant(t, ada, billing.Enterprise, s.Clock.Now().Add(time.Hour))
	if v := s.overview(t, ada); v.Granted == nil || v.Access.Plan != billing.Enterprise {
		t.Errorf("got %+v, want the granted plan", v)
	}
	s.Clock.Advance(time.Hour)
	head := s.Last(t)
	if v := s.overview(t, ada); v.Granted != nil || v.Access.Level != billing.Due || s.Last(t) != head {
		t.Errorf("got %+v and %d events, want the payment due, and nothing written", v, s.Last(t)-head)
	}
	s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.Canceled })
	s.sync(t, ada)
	if v := s.overview(t, ada); v.Subscription != nil || v.Access.Reason != billing.PlanEnded {
		t.Errorf("got %+v, want no subscription", v)
	}
}

// A desktop whose events cannot be read does not hide its account's plan, and how to pay for it.
func TestOverviewBesideADamagedDesktop(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.grant(t, ada, billing.Starter, s.Clock.Now().Add(time.Hour))
	damaged, runs := s.run(t, ada, "t3.medium"), s.run(t, ada, "t3.medium")
	s.damage(t, damaged)
	s.Clock.Advance(time.Hour)
	if v, err := s.Log.Overview(t.Context(), ada.Account); err != nil || v.Held != 2 || !slices.Equal(v.Stopping, []string{runs}) {
		t.Errorf("got %+v, %v, want two desktops, of which the other one stops", v, err)
	}
}
