package main

import (
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// What looks like a key of Stripe's. It is of no account.
const (
	exampleSecret      = "sk_test_51AbCdEfGhIjKlMnOpQrStUv"
	examplePublishable = "pk_test_51AbCdEfGhIjKlMnOpQrStUv"
	exampleWebhook     = "whsec_AbCdEfGhIjKlMnOpQrStUvWx"
)

func withPlans(change ...string) map[string]string {
	set := complete()
	maps.Copy(set, map[string]string{
		"STRIPE_SECRET_KEY": exampleSecret, "STRIPE_PUBLISHABLE_KEY": examplePublishable, "STRIPE_WEBHOOK_SECRET": exampleWebhook,
		"STRIPE_PRICE_ID_PRO": "price_1Pro",
	})
	for i := 0; i < len(change); i += 2 {
		set[change[i]] = change[i+1]
	}
	return set
}

// Half of the settings for payments would let everyone use the server without paying, so the server does not start.
func TestPaymentsSettings(t *testing.T) {
	live := strings.NewReplacer("_test_", "_live_")
	for name, c := range map[string]struct {
		change []string
		want   string // "": accepted
		on     bool
	}{
		"complete":                 {nil, "", true},
		"live":                     {[]string{"STRIPE_SECRET_KEY", live.Replace(exampleSecret), "STRIPE_PUBLISHABLE_KEY", live.Replace(examplePublishable)}, "", true},
		"a restricted key":         {[]string{"STRIPE_SECRET_KEY", "rk" + exampleSecret[2:]}, "", true},
		"no keys":                  {[]string{"STRIPE_SECRET_KEY", "", "STRIPE_PUBLISHABLE_KEY", "", "STRIPE_WEBHOOK_SECRET", "", "STRIPE_PRICE_ID_PRO", ""}, "", false},
		"short examples":           {[]string{"STRIPE_SECRET_KEY", "sk_live_xxx", "STRIPE_PUBLISHABLE_KEY", "pk_live_xxx"}, "", false},
		"long examples":            {[]string{"STRIPE_SECRET_KEY", "sk_test_xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "STRIPE_PUBLISHABLE_KEY", "pk_test_xxxxxxxxxxxxxxxxxxxxxxxxxxxx"}, "", false},
		"examples with dots":       {[]string{"STRIPE_SECRET_KEY", "sk_test_...", "STRIPE_PUBLISHABLE_KEY", "pk_test_..."}, "", false},
		"only the secret key":      {[]string{"STRIPE_PUBLISHABLE_KEY", ""}, "STRIPE_SECRET_KEY is set and STRIPE_PUBLISHABLE_KEY is not a key", false},
		"only the publishable":     {[]string{"STRIPE_SECRET_KEY", "sk_test_xxx"}, "STRIPE_PUBLISHABLE_KEY is set and STRIPE_SECRET_KEY is not a key", false},
		"the keys exchanged":       {[]string{"STRIPE_SECRET_KEY", examplePublishable, "STRIPE_PUBLISHABLE_KEY", exampleSecret}, "are exchanged", false},
		"a secret twice":           {[]string{"STRIPE_PUBLISHABLE_KEY", exampleSecret}, "are exchanged", false},
		"two modes":                {[]string{"STRIPE_PUBLISHABLE_KEY", live.Replace(examplePublishable)}, "use keys of the same mode", true},
		"no webhook secret":        {[]string{"STRIPE_WEBHOOK_SECRET", ""}, "STRIPE_WEBHOOK_SECRET is missing or not of the form whsec_…", true},
		"a wrong webhook secret":   {[]string{"STRIPE_WEBHOOK_SECRET", exampleSecret}, "STRIPE_WEBHOOK_SECRET is missing or not of the form whsec_…", true},
		"no price":                 {[]string{"STRIPE_PRICE_ID_PRO", ""}, "set the ID of at least one price", true},
		"a price of two plans":     {[]string{"STRIPE_PRICE_ID_STARTER", "price_1Pro"}, "each plan needs a price of its own", true},
		"a product":                {[]string{"STRIPE_PRICE_ID_PRO", "prod_1"}, "the ID of a product", true},
		"a meter":                  {[]string{"STRIPE_METER_EVENT", "desktop_seconds"}, "", true},
		"usage without a meter":    {[]string{"STRIPE_PRICE_ID_USAGE", "price_usage"}, "STRIPE_PRICE_ID_USAGE is set and STRIPE_METER_EVENT is empty", true},
		"a meter that is none":     {[]string{"STRIPE_METER_EVENT", "desktop seconds"}, "STRIPE_METER_EVENT is not the event name", true},
		"plain http":               {[]string{"STRIPE_API_URL", "http://stripe.example"}, "STRIPE_API_URL must be", true},
		"another server":           {[]string{"STRIPE_API_URL", "https://stripe.example"}, "", true},
		"no grace":                 {[]string{"BILLING_GRACE", "0s"}, "", true},
		"a grace that is none":     {[]string{"BILLING_GRACE", "a week"}, `BILLING_GRACE is "a week"; use a duration from 0 to 2160h`, true},
		"a grace that is too long": {[]string{"BILLING_GRACE", "2161h"}, "use a duration from 0 to 2160h", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := load(t, withPlans(c.change...))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "51AbCd") {
				t.Errorf("got %v, want no part of a key", err)
			}
			if cfg, err := loadConfig(); err == nil && cfg.Payments.on() != c.on {
				t.Errorf("got on %v, want %v", cfg.Payments.on(), c.on)
			}
		})
	}
}

// Examples of keys are remarked, not refused: the server then requires no plan.
func TestPaymentsRemarks(t *testing.T) {
	for name, c := range map[string]struct {
		change []string
		want   string
	}{
		"complete": {nil, "STRIPE_SECRET_KEY is for Stripe's test data"},
		"examples": {[]string{"STRIPE_SECRET_KEY", "sk_live_xxx", "STRIPE_PUBLISHABLE_KEY", "pk_live_xxx"}, "are examples and not keys, so no plan is required"},
		"another":  {[]string{"STRIPE_API_URL", "https://stripe.example"}, "payments go to another server than Stripe"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := load(t, withPlans(c.change...)); err != nil {
				t.Fatal(err)
			}
			cfg, err := loadConfig()
			if said := strings.Join(cfg.remarks(nil), ";"); err != nil || !strings.Contains(said, c.want) {
				t.Errorf("got %q, %v, want %q", said, err, c.want)
			}
		})
	}
}

// Stripe's secrets may be files, and are then in no environment under their file's name.
func TestStripeSecretsFromFiles(t *testing.T) {
	set := withPlans("STRIPE_SECRET_KEY", "", "STRIPE_WEBHOOK_SECRET", "")
	for name, text := range map[string]string{"STRIPE_SECRET_KEY": exampleSecret, "STRIPE_WEBHOOK_SECRET": exampleWebhook} {
		path := t.TempDir() + "/secret"
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv(name+"_FILE", path)
	}
	if err := load(t, set); err != nil {
		t.Fatal(err)
	}
	cfg, err := loadConfig()
	if err != nil || cfg.Payments.SecretKey != exampleSecret || cfg.Payments.WebhookSecret != exampleWebhook {
		t.Errorf("got %v, want both secrets from their files", err)
	}
	if got := cfg.Payments.terms(); got.Grace != 168*time.Hour || got.Notice != time.Hour {
		t.Errorf("terms: got %+v, want 168h and 1h", got)
	}
}
