package projections

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// phraseBilling is phrase for plans and payments. Nothing of it has a URL or a Checkout's key, and Stripe's reasons, which are
// for developers, are left out too.
func phraseBilling(ev billing.Event) (string, facts) {
	switch ev := ev.(type) {
	case billing.PlanGranted:
		return grantSentence(ev), facts{"plan_type": ev.Plan, "until": orNull(ev.Until), "reason": ev.Reason}
	case billing.PlanWithdrawn:
		return "The operator withdrew the plan that the account was given.", facts{}
	case billing.CheckoutRequested:
		return fmt.Sprintf("A payment page for the plan %s was requested.", planName(ev.Plan)), facts{"plan_type": ev.Plan, "expires_at": ev.Expires}
	case billing.CheckoutSeen:
		return checkoutSentences[ev.Status], facts{"status": ev.Status}
	case billing.CheckoutLost:
		return "The payment page could not be opened. Nothing was paid.", facts{}
	case billing.SubscriptionSeen:
		return subscriptionSentence(ev.Subscription), facts{"id": ev.ID, "plan_type": ev.Plan, "status": ev.Status, "current_period_end": ev.PeriodEnd, "cancel_at": orNull(ev.CancelAt)}
	case billing.InvoiceSeen:
		return invoiceSentence(ev.Invoice), facts{"id": ev.ID, "status": ev.Status, "amount_due": ev.Due, "amount_paid": ev.Paid, "currency": ev.Currency,
			"period_start": ev.PeriodStart, "period_end": ev.PeriodEnd, "next_attempt_at": orNull(ev.NextAttempt)}
	case billing.AccessSet:
		return accessSentence(ev.Access), facts{"level": ev.Level, "plan_type": ev.Plan, "desktops": ev.Desktops, "reason": ev.Reason, "stop_at": orNull(ev.StopAt)}
	case billing.UsageReported:
		return fmt.Sprintf("The time that desktops ran on %s is reported to Stripe: %s.", ev.Day, idle.Duration(time.Duration(ev.Seconds)*time.Second)),
			facts{"day": ev.Day, "seconds": ev.Seconds}
	}
	return "", nil // what became of a report is the operator's concern
}

// checkoutSentences has none for a page that is open: it was requested.
var checkoutSentences = map[billing.CheckoutStatus]string{
	billing.CheckoutComplete: "The payment page was completed.",
	billing.CheckoutExpired:  "The payment page expired. Nothing was paid.",
}

func grantSentence(g billing.PlanGranted) string {
	sentence := fmt.Sprintf("The operator gave the account the plan %s", planName(g.Plan))
	if !g.Until.IsZero() {
		sentence += " until " + moment(g.Until)
	}
	if g.Reason != "" {
		return sentence + ": " + g.Reason
	}
	return sentence + "."
}

func subscriptionSentence(s billing.Subscription) string {
	plan := planName(s.Plan)
	switch s.Status {
	case billing.Active, billing.Trialing:
		if !s.CancelAt.IsZero() {
			return fmt.Sprintf("The subscription of the plan %s ends on %s.", plan, moment(s.CancelAt))
		}
		return fmt.Sprintf("The subscription of the plan %s is active until %s, and then renews.", plan, moment(s.PeriodEnd))
	case billing.PastDue, billing.Unpaid:
		return fmt.Sprintf("A payment for the plan %s is due.", plan)
	case billing.Paused:
		return fmt.Sprintf("The subscription of the plan %s is paused.", plan)
	case billing.Incomplete:
		return fmt.Sprintf("The first payment for the plan %s is not complete.", plan)
	case billing.Canceled, billing.IncompleteExpired:
		return fmt.Sprintf("The subscription of the plan %s has ended.", plan)
	}
	return fmt.Sprintf("The subscription of the plan %s changed.", plan)
}

func invoiceSentence(i billing.Invoice) string {
	switch {
	case i.Status == "paid" && i.Paid == 0:
		return "" // a trial's, for example
	case i.Status == "paid":
		return fmt.Sprintf("%s was paid for the time from %s to %s.", money(i.Paid, i.Currency), moment(i.PeriodStart), moment(i.PeriodEnd))
	case i.Status == "open" && i.Attempts > 0 && !i.NextAttempt.IsZero():
		return fmt.Sprintf("A payment of %s failed. Stripe tries again on %s.", money(i.Due, i.Currency), moment(i.NextAttempt))
	case i.Status == "open" && i.Attempts > 0:
		return fmt.Sprintf("A payment of %s failed. Stripe does not try again.", money(i.Due, i.Currency))
	case i.Status == "void", i.Status == "uncollectible":
		return fmt.Sprintf("An invoice of %s was closed without a payment.", money(i.Due, i.Currency))
	}
	return ""
}

func accessSentence(a billing.Access) string {
	if a.Level != billing.Full {
		return a.Why()
	}
	return fmt.Sprintf("The account has the plan %s: up to %s of %s.", planName(a.Plan), desktops(a.Desktops), strings.Join(a.Types, ", "))
}

func desktops(n int) string {
	if n == 1 {
		return "1 desktop"
	}
	return fmt.Sprintf("%d desktops", n)
}

// planName returns a plan's name. A price at Stripe may be of none.
func planName(p billing.Plan) string { return cmp.Or(p.Offer().Name, "(unknown)") }

func moment(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 (UTC)") }

// Currencies whose smallest unit is not a hundredth, by what Stripe documents.
var (
	wholeCurrencies     = " BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF "
	thousandsCurrencies = " BHD JOD KWD OMR TND "
)

// money returns an amount in the smallest unit of a currency as people write it: "19.00 USD".
func money(amount int64, currency string) string {
	currency = strings.ToUpper(currency)
	sign := ""
	if amount < 0 {
		sign, amount = "-", -amount
	}
	switch code := " " + currency + " "; {
	case strings.Contains(wholeCurrencies, code):
		return fmt.Sprintf("%s%d %s", sign, amount, currency)
	case strings.Contains(thousandsCurrencies, code):
		return fmt.Sprintf("%s%d.%03d %s", sign, amount/1000, amount%1000, currency)
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, amount/100, amount%100, currency)
}
