package stripe_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v85/webhook"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
)

const delivered = `{"id": "evt_1", "object": "event", "type": "invoice.paid", "livemode": true, "data": {"object": {"id": "in_1", "object": "invoice"}}}`

// signature is the header that Stripe's own library makes.
func signature(body, secret string, at time.Time) string {
	return webhook.GenerateTestSignedPayload(&webhook.UnsignedPayload{Payload: []byte(body), Secret: secret, Timestamp: at}).Header
}

// TestVerify takes deliveries that Stripe signed, and no others.
func TestVerify(t *testing.T) {
	t.Parallel()
	const secret, other = "whsec_theSecretOfThisWebhook", "whsec_theSecretOfAnotherOne"
	c, err := stripe.New(stripe.Config{Key: "rk_live_key", WebhookSecret: secret})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	right := signature(delivered, secret, now)
	stamp, v1, _ := strings.Cut(right, ",")
	_, foreign, _ := strings.Cut(signature(delivered, other, now), ",")
	for name, d := range map[string]struct {
		body, header string
		at           time.Time
		taken        bool
	}{
		"signed":                        {delivered, right, now, true},
		"by our small Stripe":           {delivered, stripetest.Sign([]byte(delivered), secret, now), now, true},
		"two secrets, the first":        {delivered, stamp + "," + v1 + "," + foreign, now, true},
		"two secrets, the second":       {delivered, stamp + "," + foreign + "," + v1, now, true},
		"with another scheme":           {delivered, stamp + ",v0=00," + v1, now, true},
		"with spaces":                   {delivered, stamp + ", " + v1, now, true},
		"five minutes old":              {delivered, right, now.Add(5 * time.Minute), true},
		"five minutes early":            {delivered, right, now.Add(-5 * time.Minute), true},
		"older":                         {delivered, right, now.Add(5*time.Minute + time.Second), false},
		"from the future":               {delivered, right, now.Add(-5*time.Minute - time.Second), false},
		"another secret":                {delivered, signature(delivered, other, now), now, false},
		"another body":                  {strings.Replace(delivered, "in_1", "in_2", 1), right, now, false},
		"a space more":                  {delivered + " ", right, now, false},
		"another time":                  {delivered, fmt.Sprintf("t=%d,%s", now.Unix()+1, v1), now, false},
		"no header":                     {delivered, "", now, false},
		"no time":                       {delivered, v1, now, false},
		"no signature":                  {delivered, stamp, now, false},
		"an empty signature":            {delivered, stamp + ",v1=", now, false},
		"only the old scheme":           {delivered, stamp + "," + strings.Replace(v1, "v1=", "v0=", 1), now, false},
		"a part of the signature":       {delivered, stamp + "," + v1[:20], now, false},
		"a time that is none":           {delivered, "t=x," + v1, now, false},
		"signed with an empty secret":   {delivered, signature(delivered, "", now), now, false},
		"signed, but no JSON":           {"hello", signature("hello", secret, now), now, false},
		"signed, but no event":          {`{"object": "v2.core.event", "id": "evt_1"}`, signature(`{"object": "v2.core.event", "id": "evt_1"}`, secret, now), now, false},
		"signed, but an event of no id": {`{"object": "event"}`, signature(`{"object": "event"}`, secret, now), now, false},
	} {
		got, err := c.Verify([]byte(d.body), d.header, d.at)
		want := commands.Delivery{ID: "evt_1", Type: "invoice.paid", Object: "invoice", ObjectID: "in_1", Livemode: true}
		if d.taken && (err != nil || got != want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if !d.taken && (!errors.Is(err, commands.ErrSignature) || got != (commands.Delivery{})) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	none, err := stripe.New(stripe.Config{Key: "sk_test_key"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Verify([]byte(delivered), signature(delivered, "", now), now); !errors.Is(err, commands.ErrSignature) {
		t.Errorf("without a secret: %v", err)
	}
	if !c.Live() || none.Live() {
		t.Errorf("a live key is %v, one for tests %v", c.Live(), none.Live())
	}
}

// FuzzVerify takes nothing that was not signed, and does not break.
func FuzzVerify(f *testing.F) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	f.Add([]byte(delivered), "t=1,v1=00")
	f.Add([]byte("{"), signature(delivered, "whsec_y", now))
	c, err := stripe.New(stripe.Config{Key: "sk_test_key", WebhookSecret: "whsec_theSecretOfThisWebhook"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, header string) {
		if d, err := c.Verify(body, header, now); err == nil {
			t.Errorf("%q is taken with %q: %+v", body, header, d)
		}
	})
}

// TestDeliveries has the small Stripe deliver a plan's life, and reads each delivery with Stripe's own library too.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	s := newSmall(t, stripetest.Config{})
	s.subscribe(t, "acc1", "pro")
	for _, e := range s.Events() {
		header := stripetest.Sign(e.Body, stripetest.DefaultSecret, time.Now()) // the library has no other clock
		if _, err := webhook.ConstructEvent(e.Body, header, stripetest.DefaultSecret); err != nil {
			t.Errorf("%s: %v", e.Type, err)
		}
		d, err := s.Verify(e.Body, header, time.Now())
		if err != nil || d.ID != e.ID || d.Type != e.Type || d.ObjectID == "" || d.Object == "" {
			t.Errorf("%s: %+v, %v", e.Type, d, err)
		}
		if !json.Valid(e.Body) {
			t.Errorf("%s is no JSON", e.Type)
		}
	}
}
