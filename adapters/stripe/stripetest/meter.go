package stripetest

import (
	"fmt"
	"strconv"
	"time"
)

type meter struct {
	id, event string
	created   time.Time
}

type meterEvent struct {
	identifier, customer string
	value                int64
	at                   time.Time // of the usage
	created              time.Time
	meter                *meter
}

func (m *meter) object() object {
	return object{
		"id": m.id, "object": "billing.meter", "created": m.created.Unix(), "customer_mapping": object{"event_payload_key": "stripe_customer_id", "type": "by_id"},
		"default_aggregation": object{"formula": "sum"}, "display_name": "Seconds of desktops", "event_name": m.event, "event_time_window": nil, "livemode": false,
		"status": "active", "status_transitions": object{"deactivated_at": nil}, "updated": m.created.Unix(), "value_settings": object{"event_payload_key": "value"},
	}
}

func (s *Server) listMeters(r *request) (any, error) {
	status := r.form.take("status")
	return page(r.form, "/v1/billing/meters", newest(s.meters, func(*meter) bool { return status == "" || status == "active" }), func(m *meter) string { return m.id }, (*meter).object)
}

func (s *Server) getMeter(r *request) (any, error) {
	if err := r.form.done(); err != nil {
		return nil, err
	}
	for _, m := range s.meters {
		if m.id == r.id {
			return m.object(), nil
		}
	}
	return nil, missing("billing.meter", r.id)
}

func (s *Server) createMeterEvent(r *request) (any, error) {
	f := r.form
	e := &meterEvent{identifier: f.take("identifier"), at: f.time("timestamp"), created: r.at}
	name, payload := f.need("event_name"), f.all("payload")
	if err := f.done(); err != nil {
		return nil, err
	}
	for _, m := range s.meters {
		if m.event == name {
			e.meter = m
		}
	}
	value, err := strconv.ParseInt(payload["value"], 10, 64)
	e.value, e.customer = value, payload["stripe_customer_id"]
	if e.identifier == "" {
		e.identifier = s.id("idmp")
	}
	if e.at.IsZero() {
		e.at = r.at
	}
	switch {
	case e.meter == nil:
		return nil, invalid("resource_missing", "event_name", "No active meter found for event name: "+name)
	case err != nil:
		return nil, invalid("", "payload[value]", "The value in the payload is not a number.")
	case s.customer(e.customer) == nil:
		return nil, invalid("resource_missing", "payload[stripe_customer_id]", "No such customer: '"+e.customer+"'")
	case len(e.identifier) > 100:
		return nil, invalid("", "identifier", "Invalid string: it must be at most 100 characters")
	case e.at.Before(r.at.Add(-35 * day)):
		return nil, invalid("timestamp_too_far_in_past", "timestamp", "The timestamp is too far in the past: it must be within the past 35 calendar days.")
	case e.at.After(r.at.Add(5 * time.Minute)):
		return nil, invalid("timestamp_in_future", "timestamp", "The timestamp is too far in the future: it must be at most 5 minutes ahead.")
	}
	for _, other := range s.usage { // as the identifier is forgotten after a day, a later one counts again
		if other.identifier == e.identifier && r.at.Sub(other.created) < idempotent {
			return nil, invalid("", "identifier", "An event already exists with identifier "+e.identifier+".")
		}
	}
	s.usage = append(s.usage, e)
	return object{
		"object": "billing.meter_event", "created": e.created.Unix(), "event_name": name, "identifier": e.identifier, "livemode": false,
		"payload": payload, "timestamp": e.at.Unix(),
	}, nil
}

// hours are the whole hours that a customer used in a period.
func (s *Server) hours(c *customer, from, to time.Time) int64 {
	var seconds int64
	for _, e := range s.usage {
		if e.customer == c.id && !e.at.Before(from) && e.at.Before(to) {
			seconds += e.value
		}
	}
	return seconds / 3600
}

func (s *Server) listSummaries(r *request) (any, error) {
	f := r.form
	customer, window := f.need("customer"), f.take("value_grouping_window")
	f.need("start_time")
	f.need("end_time")
	from, to := f.time("start_time"), f.time("end_time")
	limit := f.take("limit")
	if err := f.done(); err != nil {
		return nil, err
	}
	var found *meter
	for _, m := range s.meters {
		if m.id == r.id {
			found = m
		}
	}
	switch {
	case found == nil:
		return nil, missing("billing.meter", r.id)
	case s.customer(customer) == nil:
		return nil, invalid("resource_missing", "customer", "No such customer: '"+customer+"'")
	case window != "" || limit == "0":
		return nil, invalid("", "value_grouping_window", "This Stripe of a test shows only one summary.")
	case from.Unix()%60 != 0 || to.Unix()%60 != 0 || !from.Before(to):
		return nil, invalid("", "start_time", "The times have to be aligned with minutes.")
	}
	var sum int64
	count := 0
	for _, e := range s.usage {
		if e.meter == found && e.customer == customer && !e.at.Before(from) && e.at.Before(to) && !e.created.Add(s.cfg.MeterLag).After(r.at) {
			sum += e.value
			count++
		}
	}
	path := fmt.Sprintf("/v1/billing/meters/%s/event_summaries", found.id)
	if count == 0 {
		return listOf(path, []object{}, false), nil
	}
	return listOf(path, []object{{
		"id": "mtrusg_test_" + strconv.FormatInt(from.Unix(), 10), "object": "billing.meter_event_summary", "aggregated_value": sum, "end_time": to.Unix(),
		"livemode": false, "meter": found.id, "start_time": from.Unix(),
	}}, false), nil
}
