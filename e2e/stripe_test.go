package e2e

import (
	"net/http/httptest"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
)

// startStripe runs a small Stripe that delivers to a server, and returns it with the server's settings.
func startStripe(t *testing.T, s *server) (*stripetest.Server, []string) {
	t.Helper()
	stripe := stripetest.New(stripetest.Config{Seed: 1})
	front := httptest.NewServer(stripe)
	t.Cleanup(front.Close)
	stripe.SetWebhook(s.URL+"/api/payments/webhook", "")
	go stripe.Run(t.Context())
	return stripe, []string{
		"STRIPE_API_URL=" + front.URL, "STRIPE_SECRET_KEY=" + stripetest.DefaultKey, "STRIPE_PUBLISHABLE_KEY=" + stripetest.DefaultPublishable,
		"STRIPE_WEBHOOK_SECRET=" + stripetest.DefaultSecret, "STRIPE_METER_EVENT=" + stripetest.DefaultMeter,
		"STRIPE_PRICE_ID_STARTER=" + stripetest.DefaultPrices[0].ID, "STRIPE_PRICE_ID_PRO=" + stripetest.DefaultPrices[1].ID,
	}
}
