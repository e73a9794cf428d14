package billing

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec, samples()...)
}

// samples has one event of each type.
func samples() []Event {
	sub := Subscription{
		ID: "sub_1", Customer: "cus_1", Status: PastDue, Plan: Pro, Price: "price_pro", Created: noon, PeriodStart: noon,
		PeriodEnd: noon.AddDate(0, 1, 0), CancelAt: noon.AddDate(0, 1, 0), Ended: noon.AddDate(0, 1, 0),
	}
	bill := Invoice{
		ID: "in_1", Customer: "cus_1", Subscription: "sub_1", Status: "open", Currency: "usd", Due: 4900, Paid: 100,
		PeriodStart: noon, PeriodEnd: noon.AddDate(0, 1, 0), Attempts: 2, NextAttempt: noon.AddDate(0, 0, 3), Created: noon,
	}
	return []Event{
		PlanGranted{Pro, noon.AddDate(0, 1, 0), "A friend of the house", noon},
		PlanWithdrawn{noon},
		CheckoutRequested{
			Key: "checkout-01J", Plan: Pro, Price: "price_pro", Usage: "price_usage", Success: "https://cloudbot.example/plan", Cancel: "https://cloudbot.example/",
			Expires: noon.Add(time.Hour), At: noon,
		},
		CheckoutSeen{Key: "checkout-01J", Session: "cs_1", Status: CheckoutComplete, Customer: "cus_1", Subscription: "sub_1", At: noon},
		CheckoutLost{Key: "checkout-01J", Reason: "Stripe refused it (price_inactive).", At: noon},
		SubscriptionSeen{sub, noon},
		InvoiceSeen{bill, noon},
		AccessSet{Access{
			Level: Due, Plan: Pro, Desktops: 5, Types: []string{"t3.medium", "t3.large"}, Reason: PaymentFailed,
			StopAt: noon.AddDate(0, 0, 7), BeyondAt: noon.Add(time.Hour), At: noon,
		}},
		UsageReported{Report{Identifier: "01JACCOUNT-2026-11-27-1", Day: "2026-11-27", Seconds: 3600, Customer: "cus_1", At: noon}},
		UsageSettled{Identifier: "01JACCOUNT-2026-11-27-1", Day: "2026-11-27", Outcome: Unclear, Reason: "The meter shows 7200 seconds.", At: noon},
	}
}

// A read model keeps the state as JSON, and decides by what it reads.
func TestStateAsJSON(t *testing.T) {
	t.Parallel()
	var s State
	for _, e := range samples() {
		s = Evolve(s, e)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("got %+v, %v from %s, want %+v", back, err, text, s)
		}
	}
}
