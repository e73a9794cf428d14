package stripetest_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// TestSchedules does random things for half a year. Each period of a subscription has one invoice, periods follow each other,
// nothing is invoiced after the end, and the latest delivery about an object shows it as it is.
func TestSchedules(t *testing.T) {
	t.Parallel()
	seeds := uint64(12)
	if os.Getenv("LONG") != "" {
		seeds = 1000
	}
	invoices, events := 0, 0
	for seed := range seeds {
		s := newServer(stripetest.Config{Seed: seed, AfterRetries: []string{"canceled", "unpaid", "past_due"}[seed%3]})
		random := rand.New(rand.NewPCG(seed, 7))
		for range 60 {
			act(t, s, random)
			s.Advance(time.Duration(random.IntN(6*24)) * time.Hour)
		}
		l := s.Ledger()
		checkPeriods(t, seed, l)
		checkEvents(t, seed, s)
		invoices, events = invoices+len(l.Invoices), events+len(s.Events())
	}
	t.Logf("%d schedules, %d invoices, %d events", seeds, invoices, events)
	if invoices < int(seeds)*10 {
		t.Errorf("there were only %d invoices", invoices)
	}
}

// act does one thing that a user or an operator can do. Some of them are refused, which is right.
func act(t *testing.T, s *stripetest.Server, random *rand.Rand) {
	t.Helper()
	l := s.Ledger()
	if len(l.Subscriptions) == 0 || random.IntN(8) == 0 {
		subscribe(t, s, fmt.Sprintf("acc%d", len(l.Subscriptions)), random.IntN(3))
		return
	}
	sub := l.Subscriptions[random.IntN(len(l.Subscriptions))]
	i := l.Invoices[random.IntN(len(l.Invoices))]
	switch random.IntN(10) {
	case 0, 9:
		_ = s.SetCard(sub.Customer, stripetest.CardFailsLater)
	case 1, 2:
		_ = s.SetCard(sub.Customer, stripetest.CardGood)
	case 3:
		_ = s.ChangePlan(sub.ID, stripetest.DefaultPrices[random.IntN(3)].ID)
	case 4:
		_ = s.SetCancel(sub.ID, true)
	case 5:
		_ = s.SetCancel(sub.ID, false)
	case 6, 7:
		_ = s.PayInvoice(i.ID, stripetest.CardGood)
	case 8:
		if random.IntN(2) == 0 {
			_ = s.CancelNow(sub.ID)
		} else {
			_ = s.EndInvoice(i.ID, []string{"void", "uncollectible"}[random.IntN(2)])
		}
	}
}

func checkPeriods(t *testing.T, seed uint64, l stripetest.Ledger) {
	t.Helper()
	for _, sub := range l.Subscriptions {
		next := sub.Created
		for _, i := range l.Invoices {
			if i.Subscription != sub.ID || i.Reason == "subscription_update" {
				continue
			}
			if !i.Start.Equal(next) || !sub.Ended.IsZero() && i.Created.After(sub.Ended) {
				t.Errorf("seed %d: %s has an invoice for %v to %v of %v, after the one until %v; it ended at %v", seed, sub.ID, i.Start, i.End, i.Created, next, sub.Ended)
			}
			if i.Status == "paid" != (i.Paid == i.Due && i.Status != "open" && i.Status != "draft" && i.Status != "void" && i.Status != "uncollectible") {
				t.Errorf("seed %d: an invoice is %+v", seed, i)
			}
			next = i.End
		}
		if !sub.End.Equal(next) || sub.Ended.IsZero() && !sub.End.After(l.Now) {
			t.Errorf("seed %d: the period of %s ends at %v, its last invoice at %v", seed, sub.ID, sub.End, next)
		}
	}
}

// checkEvents compares the latest delivery about each object with what a call answers.
func checkEvents(t *testing.T, seed uint64, s *stripetest.Server) {
	t.Helper()
	last, names := map[string]any{}, map[string]string{}
	for _, e := range s.Events() {
		var body struct {
			Data struct{ Object map[string]any }
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		id := body.Data.Object["id"].(string)
		last[id], names[id] = body.Data.Object, e.Type
	}
	paths := map[string]string{"subscription": "/v1/subscriptions/", "invoice": "/v1/invoices/", "checkout.session": "/v1/checkout/sessions/"}
	for id, o := range last {
		path, ok := paths[o.(map[string]any)["object"].(string)]
		if !ok {
			continue
		}
		if _, now := call(t, s, "GET", path+id, "", nil); !reflect.DeepEqual(o, any(now)) {
			t.Errorf("seed %d: after %s, %s has changed without an event", seed, names[id], id)
		}
	}
}
