package httpapi

import (
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

type subscriptionView struct {
	ID          string     `json:"id"`
	Plan        *string    `json:"plan_type"` // null: its price is of no plan
	Status      string     `json:"status"`
	Type        *string    `json:"instance_type"`
	MaxWorkers  int        `json:"max_workers"`
	PeriodEnd   *time.Time `json:"current_period_end"`
	CancelAtEnd bool       `json:"cancel_at_period_end"`
	CancelAt    *time.Time `json:"cancel_at"`
	Granted     bool       `json:"granted"`
}

// viewSubscription returns the plan in the original's shape; nil: there is none.
func viewSubscription(now commands.Overview) *subscriptionView {
	switch {
	case !now.Billing: // as the original does without Stripe
		return &subscriptionView{ID: "dev", Plan: orNull("dev"), Status: "active", Type: orNull("t3.large"), MaxWorkers: 5}
	case now.Subscription != nil:
		sub := *now.Subscription
		o := sub.Plan.Offer()
		return &subscriptionView{ID: sub.ID, Plan: orNull(string(sub.Plan)), Status: string(sub.Status), Type: orNull(o.Type), MaxWorkers: o.Desktops,
			PeriodEnd: timeOrNull(sub.PeriodEnd), CancelAtEnd: !sub.CancelAt.IsZero(), CancelAt: timeOrNull(sub.CancelAt)}
	case now.Granted != nil:
		o := now.Granted.Plan.Offer()
		return &subscriptionView{ID: "granted", Plan: orNull(string(o.Plan)), Status: string(billing.Active), Type: orNull(o.Type), MaxWorkers: o.Desktops,
			PeriodEnd: timeOrNull(now.Granted.Until), Granted: true}
	}
	return nil
}

type accessView struct {
	Level    billing.Level `json:"level"`
	Plan     *string       `json:"plan_type"`
	Desktops int           `json:"desktops"`
	Types    []string      `json:"instance_types"`
	Reason   *string       `json:"reason"`
	Why      *string       `json:"why"`
	StopAt   *time.Time    `json:"stop_at"`
}

type checkoutView struct {
	Plan      billing.Plan `json:"plan_type"`
	ExpiresAt time.Time    `json:"expires_at"`
}

type dueView struct {
	Amount      int64      `json:"amount"`
	Currency    string     `json:"currency"`
	Attempts    int64      `json:"attempts"`
	NextAttempt *time.Time `json:"next_attempt_at"`
}

type statusView struct {
	Billing      bool              `json:"billing"`
	Access       accessView        `json:"access"`
	Subscription *subscriptionView `json:"subscription"`
	Checkout     *checkoutView     `json:"checkout"`
	Due          *dueView          `json:"due"`
	Portal       bool              `json:"portal"`
	Several      bool              `json:"several"`
	Used         int               `json:"used_desktops"`
}

func (s *Server) viewStatus(now commands.Overview) statusView {
	v := statusView{Billing: now.Billing, Subscription: viewSubscription(now), Used: now.Held, Access: accessView{Level: billing.Full, Desktops: s.cfg.Instances.Limit, Types: []string{}}}
	for _, t := range s.cfg.Instances.Cloud.Types() {
		if !now.Billing || inPlan(now.Access, t.ID) {
			v.Access.Types = append(v.Access.Types, t.ID)
		}
	}
	if !now.Billing {
		return v
	}
	a := now.Access
	v.Access.Level, v.Access.Plan, v.Access.Desktops = a.Level, orNull(string(a.Plan)), a.Desktops
	v.Access.Reason, v.Access.Why, v.Access.StopAt = orNull(string(a.Reason)), orNull(a.Why()), timeOrNull(now.StopAt)
	v.Portal, v.Several = now.Customer, now.Several
	if open := now.Checkout; open != nil {
		v.Checkout = &checkoutView{open.Plan, open.Expires.UTC()}
	}
	if d := now.Due; d != nil {
		v.Due = &dueView{d.Amount, d.Currency, d.Attempts, timeOrNull(d.NextAttempt)}
	}
	return v
}

// inPlan reports whether an account's plan has a type. Without a plan, none is.
func inPlan(a billing.Access, machineType string) bool {
	return (a.Level == billing.Full || a.Level == billing.Due) && a.Allows(machineType)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
