package billing

import (
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Refusals.
var (
	ErrSubscribed     = &domain.Error{Kind: domain.Conflict, Code: "already_subscribed", Msg: "You have a plan already. Change or cancel it in the payment portal."}
	ErrNoSubscription = &domain.Error{Kind: domain.NotFound, Code: "subscription_not_found", Msg: "You have no subscription."}
	ErrNoCustomer     = &domain.Error{Kind: domain.NotFound, Code: "customer_not_found", Msg: "You have not paid for a plan yet, so there is no payment portal for you."}
	ErrUnknownPlan    = &domain.Error{Kind: domain.Malformed, Code: "unknown_plan", Field: "plan_type", Msg: "There is no such plan; choose starter, pro or enterprise."}
	ErrPending        = &domain.Error{Kind: domain.Conflict, Code: "checkout_pending", Msg: "Another payment of this account is still open. Finish it, or try again."}
	ErrUntil          = &domain.Error{Kind: domain.Invalid, Code: "invalid_until", Field: "until", Msg: "The plan would have ended already; give a later time."}
	ErrNoGrant        = &domain.Error{Kind: domain.NotFound, Code: "no_granted_plan", Msg: "The account has no granted plan."}
)

// Command is one of the structs below. At is the time of the decision.
type Command interface{ command() }

type (
	// GrantPlan gives the account a plan, and WithdrawPlan ends that. They are the operator's commands.
	GrantPlan struct {
		Plan   Plan
		Until  time.Time
		Reason string
		At     time.Time
		Terms  Terms
	}
	WithdrawPlan struct {
		At    time.Time
		Terms Terms
	}
	// RequestCheckout records a Checkout that Stripe is to be asked for. It is refused while a subscription has not ended or
	// another Checkout may still be paid.
	RequestCheckout struct {
		CheckoutRequested
		Terms Terms
	}
	// SeeCheckout records what Stripe shows of the Checkout that may still be paid.
	SeeCheckout struct {
		CheckoutSeen
		Terms Terms
	}
	// LoseCheckout ends a Checkout that Stripe refused, or that expired before an answer arrived.
	LoseCheckout struct{ CheckoutLost }
	// SeeSubscription records what Stripe shows of a subscription. Another customer's changes nothing.
	SeeSubscription struct {
		Subscription
		At    time.Time
		Terms Terms
	}
	// SeeInvoice records what Stripe shows of an invoice. Another customer's changes nothing.
	SeeInvoice struct {
		Invoice
		At time.Time
	}
	// Assess records what follows from the time: a granted plan or a grace period has ended.
	Assess struct {
		At    time.Time
		Terms Terms
	}
	// ReportUsage reports the seconds that the account's desktops ran on a UTC day that is over.
	ReportUsage struct {
		Account string
		Day     string
		Seconds int64
		At      time.Time
	}
	// SettleUsage records what became of a report.
	SettleUsage UsageSettled
)

func (GrantPlan) command()       {}
func (WithdrawPlan) command()    {}
func (RequestCheckout) command() {}
func (SeeCheckout) command()     {}
func (LoseCheckout) command()    {}
func (SeeSubscription) command() {}
func (SeeInvoice) command()      {}
func (Assess) command()          {}
func (ReportUsage) command()     {}
func (SettleUsage) command()     {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case GrantPlan:
		return decideGrant(s, c)
	case WithdrawPlan:
		if s.Grant == nil {
			return nil, ErrNoGrant
		}
		return reassess(s, PlanWithdrawn{c.At}, c.At, c.Terms), nil
	case RequestCheckout:
		return decideCheckout(s, c)
	case SeeCheckout:
		if s.Checkout == nil || s.Checkout.Key != c.Key || s.Checkout.Session != "" && s.Checkout.Session != c.Session || !c.Status.known() ||
			c.Status == CheckoutOpen && s.Checkout.Session == c.Session {
			return reassess(s, nil, c.At, c.Terms), nil
		}
		return reassess(s, c.CheckoutSeen, c.At, c.Terms), nil
	case LoseCheckout:
		if s.Checkout == nil || s.Checkout.Key != c.Key {
			return nil, nil
		}
		return []Event{c.CheckoutLost}, nil
	case SeeSubscription:
		c.Subscription = c.utc()
		if c.Customer != s.Customer || s.Customer == "" || s.Subscriptions[c.ID] == c.Subscription {
			return reassess(s, nil, c.At, c.Terms), nil
		}
		return reassess(s, SubscriptionSeen{c.Subscription, c.At}, c.At, c.Terms), nil
	case SeeInvoice:
		c.Invoice = c.utc()
		if c.Customer != s.Customer || s.Customer == "" || s.Invoices[c.ID] == c.Invoice {
			return nil, nil
		}
		if !Evolve(s, InvoiceSeen(c)).HasInvoice(c.Invoice) {
			return nil, nil // older than all that are kept: it would be recorded again each time that it is seen
		}
		return []Event{InvoiceSeen(c)}, nil
	case Assess:
		return reassess(s, nil, c.At, c.Terms), nil
	case ReportUsage:
		return decideReport(s, c.Account, c), nil
	case SettleUsage:
		return settle(s, c), nil
	}
	return nil, fmt.Errorf("billing: unknown command %T", c)
}

// reassess returns an event, or none for nil, and the access that follows from it if that differs from what is recorded.
func reassess(s State, e Event, at time.Time, terms Terms) (events []Event) {
	if e != nil {
		events = append(events, e)
		s = Evolve(s, e)
	}
	if a := access(s, at, terms); !a.Same(s.Access) {
		events = append(events, AccessSet{a})
	}
	return events
}

func decideGrant(s State, c GrantPlan) ([]Event, error) {
	c.Until = utc(c.Until)
	switch {
	case c.Plan.rank() < 0:
		return nil, ErrUnknownPlan
	case !c.Until.IsZero() && !c.Until.After(c.At):
		return nil, ErrUntil
	case s.Grant != nil && *s.Grant == (Grant{c.Plan, c.Until}):
		return reassess(s, nil, c.At, c.Terms), nil
	}
	return reassess(s, PlanGranted{c.Plan, c.Until, c.Reason, c.At}, c.At, c.Terms), nil
}

func decideCheckout(s State, c RequestCheckout) ([]Event, error) {
	if c.Plan.rank() < 0 {
		return nil, ErrUnknownPlan
	}
	if s.Several() > 0 {
		return nil, ErrSubscribed
	}
	if s.Checkout != nil {
		return nil, ErrPending
	}
	return reassess(s, c.CheckoutRequested, c.At, c.Terms), nil
}
