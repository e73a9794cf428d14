package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// paymentsConfig is the settings about plans, which are paid at Stripe.
type paymentsConfig struct {
	SecretKey       string `env:"STRIPE_SECRET_KEY"`
	PublishableKey  string `env:"STRIPE_PUBLISHABLE_KEY"`
	WebhookSecret   string `env:"STRIPE_WEBHOOK_SECRET"`
	PriceStarter    string `env:"STRIPE_PRICE_ID_STARTER"`
	PricePro        string `env:"STRIPE_PRICE_ID_PRO"`
	PriceEnterprise string `env:"STRIPE_PRICE_ID_ENTERPRISE"`
	PriceUsage      string `env:"STRIPE_PRICE_ID_USAGE"`
	MeterEvent      string `env:"STRIPE_METER_EVENT"`
	APIURL          string `env:"STRIPE_API_URL"`
	Grace           string `env:"BILLING_GRACE"`
}

var (
	secretKeys      = regexp.MustCompile(`^(sk|rk)_(test|live)_[A-Za-z0-9_]{20,}$`)
	publishableKeys = regexp.MustCompile(`^pk_(test|live)_[A-Za-z0-9_]{20,}$`)
	webhookSecrets  = regexp.MustCompile(`^whsec_[A-Za-z0-9+/=_-]{16,}$`)
	meterEvents     = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,100}$`)
)

// likely reports whether a key looks like one that Stripe made, and not like an example such as sk_live_xxxxxxxx.
func likely(key string, form *regexp.Regexp) bool {
	different := map[rune]bool{}
	for _, letter := range key[strings.LastIndex(key, "_")+1:] {
		different[letter] = true
	}
	return form.MatchString(key) && len(different) > 4
}

// on reports whether plans are required, and paid at Stripe.
func (p paymentsConfig) on() bool {
	return likely(p.SecretKey, secretKeys) && likely(p.PublishableKey, publishableKeys)
}

// prices are the ids of the plans' prices. A plan without one is not sold.
func (p paymentsConfig) prices() map[billing.Plan]string {
	prices := map[billing.Plan]string{}
	for plan, id := range map[billing.Plan]string{billing.Starter: p.PriceStarter, billing.Pro: p.PricePro, billing.Enterprise: p.PriceEnterprise} {
		if id != "" {
			prices[plan] = id
		}
	}
	return prices
}

// plans are the plans by the ids of their prices.
func (p paymentsConfig) plans() map[string]billing.Plan {
	plans := map[string]billing.Plan{}
	for plan, id := range p.prices() {
		plans[id] = plan
	}
	return plans
}

// terms are how long desktops go on without a payment.
func (p paymentsConfig) terms() billing.Terms {
	t := billing.Terms{Grace: 7 * 24 * time.Hour, Notice: time.Hour}
	if d, err := time.ParseDuration(p.Grace); err == nil {
		t.Grace = d
	}
	return t
}

// check returns why the settings cannot work. No value is repeated, because keys get into the wrong settings.
func (p paymentsConfig) check(production bool) error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if d, err := time.ParseDuration(p.Grace); p.Grace != "" && (err != nil || d < 0 || d > 90*24*time.Hour) {
		refuse("BILLING_GRACE is %q; use a duration from 0 to 2160h, such as 168h", p.Grace)
	}
	secret, publishable := likely(p.SecretKey, secretKeys), likely(p.PublishableKey, publishableKeys)
	switch {
	case secretKeys.MatchString(p.PublishableKey), publishableKeys.MatchString(p.SecretKey):
		refuse("STRIPE_PUBLISHABLE_KEY and STRIPE_SECRET_KEY are exchanged: the one for browsers begins with pk_")
	case secret && !publishable:
		refuse("STRIPE_SECRET_KEY is set and STRIPE_PUBLISHABLE_KEY is not a key of the form pk_live_… or pk_test_…; set both or neither")
	case publishable && !secret:
		refuse("STRIPE_PUBLISHABLE_KEY is set and STRIPE_SECRET_KEY is not a key of the form sk_live_…, rk_live_…, sk_test_… or rk_test_…; set both or neither")
	case secret && publishable && p.live() != strings.Contains(p.PublishableKey, "_live_"):
		refuse("one of STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY is for test data and the other is not; use keys of the same mode")
	}
	if !p.on() {
		return errors.Join(errs...)
	}
	if !webhookSecrets.MatchString(p.WebhookSecret) {
		refuse("STRIPE_WEBHOOK_SECRET is missing or not of the form whsec_…; Stripe shows it for the endpoint CONTROL_PLANE_URL/api/payments/webhook (docs/billing.md)")
	}
	if len(p.prices()) == 0 {
		refuse("STRIPE_PRICE_ID_STARTER, STRIPE_PRICE_ID_PRO and STRIPE_PRICE_ID_ENTERPRISE are all empty; set the ID of at least one price")
	}
	if len(p.plans()) != len(p.prices()) {
		refuse("two of STRIPE_PRICE_ID_STARTER, STRIPE_PRICE_ID_PRO and STRIPE_PRICE_ID_ENTERPRISE are the same; each plan needs a price of its own")
	}
	for _, id := range p.prices() {
		if strings.HasPrefix(id, "prod_") {
			refuse("one of the STRIPE_PRICE_ID_ settings is the ID of a product; use the ID of its price (price_…)")
		}
	}
	if p.MeterEvent != "" && !meterEvents.MatchString(p.MeterEvent) {
		refuse("STRIPE_METER_EVENT is not the event name of a meter, which has letters, digits and _ . : -")
	}
	switch _, plan := p.plans()[p.PriceUsage]; {
	case p.PriceUsage == "":
	case p.MeterEvent == "":
		refuse("STRIPE_PRICE_ID_USAGE is set and STRIPE_METER_EVENT is empty; usage that is not reported cannot be sold")
	case plan:
		refuse("STRIPE_PRICE_ID_USAGE is the price of a plan; usage needs a metered price of its own")
	}
	if p.APIURL != "" {
		if u, err := url.Parse(p.APIURL); err != nil || badBaseURL(strings.TrimSuffix(p.APIURL, "/")) != "" || production && u.Scheme != "https" {
			refuse("STRIPE_API_URL must be a URL without a path, in production with https; leave it empty for Stripe itself")
		}
	}
	return errors.Join(errs...)
}

// live reports whether the secret key is for real payments.
func (p paymentsConfig) live() bool { return strings.Contains(p.SecretKey, "_live_") }

// remarks returns warnings about settings with which the server starts nevertheless.
func (p paymentsConfig) remarks(production bool) (said []string) {
	switch {
	case !p.on() && (p.SecretKey != "" || p.PublishableKey != ""):
		said = append(said, "STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY are examples and not keys, so no plan is required and no one pays")
	case p.on() && production && !p.live():
		said = append(said, "STRIPE_SECRET_KEY is for Stripe's test data, so plans are paid with test cards")
	}
	if p.on() && p.APIURL != "" {
		said = append(said, "STRIPE_API_URL is set, so payments go to another server than Stripe")
	}
	return said
}
