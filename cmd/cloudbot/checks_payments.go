package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// checkStripe tries the key on what the settings name: the plans' prices and the meter. It changes nothing at Stripe.
func checkStripe(ctx context.Context, cfg config) (string, error) {
	p := cfg.Payments
	if !p.on() {
		return "not set up: everyone who has an account may create desktops without a plan", nil
	}
	client, err := openStripe(cfg)
	if err != nil {
		return "", err
	}
	var errs []error
	var sold []string
	prices := p.prices()
	for _, offer := range billing.Offers {
		id, ok := prices[offer.Plan]
		if !ok {
			continue
		}
		price, err := client.Price(ctx, id)
		if err != nil {
			errs = append(errs, stripeFault("STRIPE_PRICE_ID_"+strings.ToUpper(string(offer.Plan)), err))
			continue
		}
		sold = append(sold, fmt.Sprintf("%s for %d %s (in its smallest unit) per %s", offer.Name, price.Amount, strings.ToUpper(price.Currency), price.Interval))
	}
	if p.MeterEvent != "" {
		if _, err := client.Meter(ctx); err != nil {
			errs = append(errs, stripeFault("STRIPE_METER_EVENT", err))
		} else if p.PriceUsage != "" {
			if err := client.CheckUsagePrice(ctx, p.PriceUsage); err != nil {
				errs = append(errs, stripeFault("STRIPE_PRICE_ID_USAGE", err))
			}
		}
	}
	if err := worst(errs); err != nil {
		return "", err
	}
	mode := "test data"
	if client.Live() {
		mode = "real payments"
	}
	said := fmt.Sprintf("the key works (%s); %s", mode, strings.Join(sold, ", "))
	if p.MeterEvent != "" {
		said += "; the meter exists"
	}
	return said, nil
}

// stripeFault says what to change about a setting.
func stripeFault(setting string, err error) error {
	var refused *commands.RefusedError
	switch {
	case errors.Is(err, commands.ErrNotAtStripe):
		return fmt.Errorf("%s names what Stripe does not have; look at the mode (live or test) and the account of the key", setting)
	case errors.As(err, &refused) && unauthorised(refused):
		return fmt.Errorf("STRIPE_SECRET_KEY is not accepted by Stripe to look up %s: %s", setting, refused.Reason)
	case errors.As(err, &refused):
		return fmt.Errorf("%s cannot be used: %s", setting, refused.Reason)
	}
	return degraded{fmt.Errorf("%s could not be looked up: %w", setting, err)}
}

// unauthorised reports whether Stripe refused a key. It has no code for a wrong one.
func unauthorised(r *commands.RefusedError) bool {
	return slices.Contains([]string{"invalid_request_error", "authentication_error", "api_key_expired", "more_permissions_required"}, r.Code)
}

// worst joins errors. The server works although Stripe does not answer, so that counts only if there is no other error.
func worst(errs []error) error {
	wrong := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return errors.As(err, new(degraded)) })
	if len(wrong) > 0 {
		errs = wrong
	}
	return errors.Join(errs...)
}
