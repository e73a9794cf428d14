package billing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Terms are the operator's choices.
type Terms struct {
	Grace  time.Duration // how long desktops go on while a payment is due, or after a change to a smaller plan
	Notice time.Duration // how long running desktops go on after a plan has ended
}

// access returns what the account may do at a time. It differs from what is recorded if something has changed.
func access(s State, at time.Time, terms Terms) Access {
	before := s.Access
	grant, _ := s.Granted(at)
	granted, bought := grant.Plan.rank(), -1
	sub, subscribed := s.Current()
	if subscribed && sub.gives() {
		bought = sub.Plan.rank()
	}
	overdue := s.DueSince.Add(terms.Grace)
	switch {
	case granted >= 0 && granted >= bought:
		return full(before, grant.Plan, at, terms)
	case bought >= 0 && sub.Status != PastDue:
		return full(before, sub.Plan, at, terms)
	case bought >= 0 && at.Before(overdue):
		a := Access{Level: Due, Plan: sub.Plan, Desktops: sub.Plan.Offer().Desktops, Types: sub.Plan.Types(), Reason: PaymentFailed, StopAt: overdue, At: at}
		a.BeyondAt = before.spares(a, at, terms)
		return a
	case granted >= 0:
		return full(before, grant.Plan, at, terms)
	}
	a := Access{Level: None, Plan: before.Plan, Reason: lacking(s, sub, subscribed), At: at}
	if bought >= 0 {
		a.Plan = sub.Plan
	}
	switch before.Level {
	case "": // perhaps plans are required only since today
		a.StopAt = at.Add(terms.Grace)
	case None:
		a.StopAt = before.StopAt
	case Due:
		a.StopAt = domain.Later(at, domain.Earlier(before.StopAt, at.Add(terms.Notice)))
	default:
		a.StopAt = at.Add(terms.Notice)
	}
	return a
}

// full returns the access of a plan.
func full(before Access, p Plan, at time.Time, terms Terms) Access {
	o := p.Offer()
	a := Access{Level: Full, Plan: p, Desktops: o.Desktops, Types: p.Types(), At: at}
	a.StopAt = before.spares(a, at, terms)
	return a
}

// spares returns until when desktops may go on that run under one access and that the next one does not allow. Zero: they
// stop immediately, if there are any. A time that was announced stays, so that a change back and forth does not put it off.
func (a Access) spares(next Access, at time.Time, terms Terms) time.Time {
	announced := a.StopAt
	if a.Level == Due {
		announced = a.BeyondAt
	}
	if a.Level == next.Level && a.Plan == next.Plan && a.Desktops == next.Desktops && slices.Equal(a.Types, next.Types) {
		return announced // nothing has changed
	}
	if !announced.After(at) {
		announced = time.Time{}
	}
	narrower := a.Level != None && (a.Desktops > next.Desktops || slices.ContainsFunc(a.Types, func(t string) bool { return !next.Allows(t) }))
	switch {
	case a.Level == "": // perhaps plans are required only since today
		return at.Add(terms.Grace)
	case !narrower:
		return announced
	case a.Level == Due && !at.Before(a.StopAt): // the time that it had has passed
		return time.Time{}
	case !announced.IsZero():
		return domain.Later(announced, at.Add(terms.Notice))
	}
	return at.Add(terms.Grace)
}

// lacking returns why an account has no plan.
func lacking(s State, sub Subscription, subscribed bool) Reason {
	switch {
	case subscribed && (sub.Status == PastDue || sub.Status == Unpaid):
		return PaymentFailed
	case subscribed && (sub.Status == Paused || sub.Status == Incomplete):
		return SetAside
	case s.Access.Plan != "":
		return PlanEnded
	}
	return NoPlan
}

// Why returns why the account may not do everything, as a sentence for its user; "": it may.
func (a Access) Why() string {
	const nothing = " Nothing was deleted."
	switch {
	case a.Level == Full:
		return ""
	case a.Level == Due:
		return fmt.Sprintf("A payment for your plan failed. Pay the open invoice by %s, or your desktops stop. Until then you cannot create desktops.", a.StopAt.UTC().Format("2 January 2006 15:04 (UTC)"))
	case a.Reason == PaymentFailed:
		return "Your plan was not paid in time. Pay the open invoice to create and start desktops again." + nothing
	case a.Reason == SetAside:
		return "Your plan is not active: its payment is not complete, or it was paused. Look at it in the payment portal." + nothing
	case a.Reason == PlanEnded:
		return "Your plan has ended. Choose a plan to create and start desktops." + nothing
	}
	return "You need a plan to create and start desktops. Choose one on the page Plan."
}

// codes are the refusals' codes by reason.
var codes = map[Reason]string{NoPlan: "plan_needed", PlanEnded: "plan_ended", PaymentFailed: "payment_failed", SetAside: "plan_paused"}

func (a Access) refuse() *domain.Error {
	return &domain.Error{Kind: domain.PaymentRequired, Code: cmp.Or(codes[a.Reason], "plan_needed"), Msg: a.Why()}
}

// MayCreate returns why the account may not create a desktop of a type, whatever number it has.
func (a Access) MayCreate(machineType string) error {
	switch a.Level {
	case Full:
		return a.mayUse(machineType)
	case Due:
		return &domain.Error{Kind: domain.PaymentRequired, Code: "payment_due", Msg: a.Why()}
	}
	return a.refuse()
}

// MayLaunch returns why the account may not launch a desktop that it created while it had a plan.
func (a Access) MayLaunch() error {
	if a.Level == Full || a.Level == Due {
		return nil
	}
	return a.refuse()
}

// MayStart returns why the account may not start a desktop of a type while it has a number of desktops.
func (a Access) MayStart(machineType string, held int) error {
	if a.Level != Full && a.Level != Due {
		return a.refuse()
	}
	if held > a.Desktops {
		return &domain.Error{Kind: domain.PaymentRequired, Code: "plan_too_small", Msg: fmt.Sprintf(
			"The plan %s is for %d desktops, and you have %d. Choose a larger plan, or terminate %d.", a.Plan.Offer().Name, a.Desktops, held, held-a.Desktops)}
	}
	return a.mayUse(machineType)
}

func (a Access) mayUse(machineType string) error {
	if a.Allows(machineType) {
		return nil
	}
	return &domain.Error{Kind: domain.PaymentRequired, Code: "plan_too_small", Field: "instance_type", Msg: fmt.Sprintf(
		"The plan %s has no desktops of type %s; it has %s. Choose a larger plan for them.", a.Plan.Offer().Name, machineType, strings.Join(a.Types, ", "))}
}

// MustStop returns why a running desktop has to stop at a time, as a sentence for its user; "": it may go on. beyond says
// that the account has as many desktops as its plan allows without it.
func (a Access) MustStop(machineType string, beyond bool, at time.Time) string {
	until := a.StopAt
	if a.Level == Due {
		until = a.BeyondAt
	}
	switch {
	case a.Level == "" || at.Before(until):
		return ""
	case a.Level == None:
		return a.Why()
	case beyond:
		return fmt.Sprintf("The plan %s is for %d desktops.", a.Plan.Offer().Name, a.Desktops)
	case !a.Allows(machineType):
		return fmt.Sprintf("The plan %s has no desktops of type %s.", a.Plan.Offer().Name, machineType)
	}
	return ""
}
