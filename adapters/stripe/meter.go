package stripe

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// The fields of a meter event, as a meter has them unless it says otherwise.
const (
	customerKey = "stripe_customer_id"
	valueKey    = "value"
)

// ReportUsage implements commands.Stripe.
func (c *Client) ReportUsage(ctx context.Context, r billing.Report) error {
	if c.meter == "" {
		return &commands.RefusedError{Code: "no_meter", Reason: "No meter is set."}
	}
	params := &stripe.BillingMeterEventCreateParams{
		EventName: stripe.String(c.meter), Identifier: stripe.String(r.Identifier), Timestamp: stripe.Int64(r.Timestamp().Unix()),
		Payload: map[string]string{customerKey: r.Customer, valueKey: strconv.FormatInt(r.Seconds, 10)},
	}
	params.SetIdempotencyKey(r.Identifier)
	_, err := call(ctx, c, func(ctx context.Context) (*stripe.BillingMeterEvent, error) {
		return c.api.V1BillingMeterEvents.Create(ctx, params)
	})
	var no *commands.RefusedError
	if errors.As(err, &no) && (no.Code == "duplicate_meter_event" || strings.Contains(no.Reason, "event already exists with identifier")) {
		return nil // an earlier call had its effect. Stripe has no code for it, only this sentence
	}
	return err
}

// UsageShown implements commands.Stripe. Stripe counts events a while after it has accepted them.
func (c *Client) UsageShown(ctx context.Context, customer, day string) (int64, error) {
	start, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return 0, err
	}
	id, err := c.meterOf(ctx)
	if err != nil {
		return 0, err
	}
	params := &stripe.BillingMeterEventSummaryListParams{
		ID: stripe.String(id), Customer: stripe.String(customer),
		StartTime: stripe.Int64(start.Unix()), EndTime: stripe.Int64(start.AddDate(0, 0, 1).Unix()),
	}
	sum := 0.0
	err = pages(ctx, c, &params.ListParams,
		func(ctx context.Context) *stripe.V1List[*stripe.BillingMeterEventSummary] {
			return c.api.V1BillingMeterEventSummaries.List(ctx, params)
		},
		func(s *stripe.BillingMeterEventSummary) string { return s.ID },
		func(s *stripe.BillingMeterEventSummary) (float64, error) { return s.AggregatedValue, nil },
		func(values []float64) error {
			for _, v := range values {
				sum += v
			}
			return nil
		})
	switch {
	case err != nil:
		return 0, err
	case sum != math.Trunc(sum) || math.Abs(sum) > 1<<53:
		return 0, fmt.Errorf("%w: the meter shows %g, which is no number of seconds", errAnswer, sum)
	}
	return int64(sum), nil
}

// Meter finds the meter's id, which also shows whether it can count what is reported.
func (c *Client) Meter(ctx context.Context) (id string, err error) {
	if c.meter == "" {
		return "", &commands.RefusedError{Code: "no_meter", Reason: "No meter is set."}
	}
	params := &stripe.BillingMeterListParams{Status: stripe.String(stripe.BillingMeterStatusActive)}
	var found *stripe.BillingMeter
	err = pages(ctx, c, &params.ListParams,
		func(ctx context.Context) *stripe.V1List[*stripe.BillingMeter] {
			return c.api.V1BillingMeters.List(ctx, params)
		},
		func(m *stripe.BillingMeter) string { return m.ID },
		func(m *stripe.BillingMeter) (*stripe.BillingMeter, error) { return m, nil },
		func(meters []*stripe.BillingMeter) error {
			for _, m := range meters {
				if m.EventName == c.meter {
					found = m
				}
			}
			return nil
		})
	switch {
	case err != nil:
		return "", err
	case found == nil || found.ID == "":
		return "", commands.ErrNotAtStripe
	case found.DefaultAggregation == nil || found.DefaultAggregation.Formula != stripe.BillingMeterDefaultAggregationFormulaSum,
		found.ValueSettings != nil && found.ValueSettings.EventPayloadKey != valueKey,
		found.CustomerMapping != nil && found.CustomerMapping.EventPayloadKey != customerKey,
		found.EventTimeWindow != "": // such a meter keeps only the last event of an hour or a day
		return "", &commands.RefusedError{Code: "meter_unfit", Reason: "The meter has to add up the values of all its events, with the keys value and stripe_customer_id."}
	}
	return found.ID, nil
}

// meterOf returns the meter's id, which does not change.
func (c *Client) meterOf(ctx context.Context) (string, error) {
	c.mu.Lock()
	id := c.meterID
	c.mu.Unlock()
	if id != "" {
		return id, nil
	}
	id, err := c.Meter(ctx)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	c.meterID = id
	c.mu.Unlock()
	return id, nil
}
