package commands

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// invoicesSince is how far back a comparison lists invoices. Older ones that are not settled are looked at one by one.
const invoicesSince = 90 * 24 * time.Hour

// billedPage is how many accounts are read at a time.
const billedPage = 200

// Comparison is what a comparison of the log with Stripe found.
type Comparison struct {
	Began         time.Time `json:"began"`
	Accounts      int       `json:"accounts"`      // that have a customer at Stripe
	Subscriptions int       `json:"subscriptions"` // that Stripe listed
	Invoices      int       `json:"invoices"`
	Different     int       `json:"different"` // accounts that Stripe shows otherwise than the log
	Changed       int       `json:"changed"`   // of those, accounts of which something was recorded
	Missing       int       `json:"missing"`   // of those, accounts of which nothing was: Stripe does not have what the log has
	Foreign       int       `json:"foreign"`   // listed objects of customers that are no account's
	Unlinked      []string  `json:"unlinked"`  // foreign subscriptions that name one of our accounts: a person may pay for nothing
	Several       []string  `json:"several"`   // accounts with more than one subscription that has not ended
	Failed        int       `json:"failed"`    // accounts that could not be compared
}

// Comparisons remembers comparisons.
type Comparisons interface {
	// LastComparison returns when the latest comparison began that compared everything; zero: none has.
	LastComparison(ctx context.Context) (time.Time, error)
	// RememberComparison records one.
	RememberComparison(ctx context.Context, c Comparison) error
}

// listed is what Stripe lists, by customer.
type listed struct {
	subscriptions map[string][]StripeSubscription
	invoices      map[string][]billing.Invoice
}

// Compare compares everything that Stripe has with the log, and looks at each account that differs. It finds what no delivery
// told, if it had changed before the comparison began. An account that cannot be compared does not keep the others from it;
// the error then says so.
//
// Stripe lists first and the log is read second: what the log has is never older than what it is compared with, except for
// changes that are newer than the list.
func (c *Payments) Compare(ctx context.Context) (Comparison, error) {
	sum := Comparison{Began: c.Now()}
	shown, err := c.list(ctx, &sum)
	if err != nil {
		return sum, err
	}
	if err := c.followed(ctx, c.Books.Position, customersPatience); err != nil {
		return sum, err
	}
	var failed error
	ours := map[string]bool{}
	for after := ""; ; {
		page, err := c.Books.Billed(ctx, after, billedPage)
		if err != nil {
			return sum, joined(failed, fmt.Errorf("list accounts: %w", err))
		}
		for _, of := range page {
			customer, err := c.compareAccount(ctx, of.Account, shown, &sum)
			ours[customer] = customer != ""
			if ctx.Err() != nil {
				return sum, ctx.Err()
			}
			if err != nil {
				sum.Failed++
				failed = joined(failed, fmt.Errorf("compare account %s: %w", of.Account, err))
			}
		}
		if len(page) < billedPage {
			break
		}
		after = page[len(page)-1].Account
	}
	return sum, joined(failed, c.strangers(ctx, shown, ours, &sum))
}

func (c *Payments) list(ctx context.Context, sum *Comparison) (listed, error) {
	shown := listed{map[string][]StripeSubscription{}, map[string][]billing.Invoice{}}
	err := c.Stripe.EachSubscription(ctx, func(page []StripeSubscription) error {
		for _, sub := range page {
			shown.subscriptions[sub.Customer] = append(shown.subscriptions[sub.Customer], sub)
		}
		sum.Subscriptions += len(page)
		return nil
	})
	if err != nil {
		return shown, fmt.Errorf("list subscriptions: %w", err)
	}
	err = c.Stripe.EachInvoice(ctx, sum.Began.Add(-invoicesSince), func(page []StripeInvoice) error {
		for _, inv := range page {
			shown.invoices[inv.Customer] = append(shown.invoices[inv.Customer], inv.Invoice)
		}
		sum.Invoices += len(page)
		return nil
	})
	if err != nil {
		return shown, fmt.Errorf("list invoices: %w", err)
	}
	return shown, nil
}

// compareAccount compares one account with what Stripe listed, and returns its customer.
func (c *Payments) compareAccount(ctx context.Context, account string, shown listed, sum *Comparison) (string, error) {
	s, err := billings.Fold(ctx, c.Store, account)
	if err != nil || s.Customer == "" {
		return s.Customer, err
	}
	sum.Accounts++
	if c.same(s, shown) {
		if s.Several() > 1 {
			sum.Several = append(sum.Several, account)
		}
		return s.Customer, nil
	}
	sum.Different++
	before := s
	s, err = c.look(ctx, Origin{}, account, func(s billing.State) ([]billing.Command, error) { return c.seeCustomer(ctx, s) })
	if err != nil {
		return s.Customer, err
	}
	if !reflect.DeepEqual(s, before) {
		sum.Changed++
		c.Logger.WarnContext(ctx, "comparison with Stripe found what no delivery told", "account", account)
	} else {
		sum.Missing++ // the log has an object that Stripe does not list, and it stays so
	}
	if s.Several() > 1 {
		sum.Several = append(sum.Several, account)
	}
	return s.Customer, nil
}

// same reports whether the log has what Stripe lists for the account's customer, and nothing that may change beside it.
func (c *Payments) same(s billing.State, shown listed) bool {
	seen := map[string]bool{}
	for _, sub := range shown.subscriptions[s.Customer] {
		seen[sub.ID] = true
		if !s.HasSubscription(c.planned(s, sub)) {
			return false
		}
	}
	for _, inv := range shown.invoices[s.Customer] {
		seen[inv.ID] = true
		if !s.HasInvoice(inv) {
			return false
		}
	}
	for id, sub := range s.Subscriptions {
		if !seen[id] && !sub.Status.Over() {
			return false
		}
	}
	for id, inv := range s.Invoices {
		if !seen[id] && !inv.Settled() {
			return false
		}
	}
	return true
}

// strangers counts what Stripe lists of other customers. The same account of Stripe may serve other programs, so they are
// no fault; a subscription that names an account of ours is.
func (c *Payments) strangers(ctx context.Context, shown listed, ours map[string]bool, sum *Comparison) error {
	for _, customer := range slices.Sorted(maps.Keys(shown.invoices)) {
		if !ours[customer] {
			sum.Foreign += len(shown.invoices[customer])
		}
	}
	for _, customer := range slices.Sorted(maps.Keys(shown.subscriptions)) {
		if ours[customer] {
			continue
		}
		sum.Foreign += len(shown.subscriptions[customer])
		for _, sub := range shown.subscriptions[customer] {
			if sub.Account == "" || sub.Status.Over() {
				continue
			}
			linked, err := c.linked(ctx, sub.Account, customer)
			if err != nil {
				return fmt.Errorf("look for the Checkout of subscription %s: %w", sub.ID, err)
			}
			s, err := accounts.Fold(ctx, c.Store, sub.Account)
			if err != nil {
				return err
			}
			if !linked && s.Exists() {
				sum.Unlinked = append(sum.Unlinked, sub.ID)
				c.Logger.ErrorContext(ctx, "subscription names an account that did not order it", "subscription", sub.ID, "account", sub.Account)
			}
		}
	}
	return nil
}

// CompareCheckouts looks at all Checkouts that may still be paid, and ends those whose answer never arrived.
func (c *Payments) CompareCheckouts(ctx context.Context) error {
	var failed error
	for after := ""; ; {
		page, err := c.Books.CheckingOut(ctx, after, billedPage)
		if err != nil {
			return joined(failed, fmt.Errorf("list open Checkouts: %w", err))
		}
		for _, account := range page {
			_, err := c.look(ctx, Origin{}, account, func(s billing.State) ([]billing.Command, error) { return c.seeCheckout(ctx, s) })
			if err != nil {
				failed = joined(failed, fmt.Errorf("look at the Checkout of account %s: %w", account, err))
			}
			if ctx.Err() != nil {
				return failed
			}
		}
		if len(page) < billedPage {
			return failed
		}
		after = page[len(page)-1]
	}
}
