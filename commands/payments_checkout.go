package commands

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	// checkoutFor is how long a Checkout can be paid. Stripe allows 30 minutes to 24 hours.
	checkoutFor = time.Hour
	// maxReturnURL bounds the URLs to which Stripe sends users, in bytes.
	maxReturnURL = 2048
	// maxCheckoutSteps bounds the steps of one Checkout, each of which is one call or one append.
	maxCheckoutSteps = 12
)

// Checkout returns the URL of Stripe's page on which the user pays for a plan, and the id of the Checkout. An account has at
// most one that can be paid. Asked again for the same, it returns the same one; asked for something else, it ends the earlier
// one at Stripe first. It is refused with billing.ErrSubscribed while a subscription has not ended.
func (c *Payments) Checkout(ctx context.Context, o Origin, plan billing.Plan, success, cancel string) (to, session string, err error) {
	price := c.priceOf(plan)
	switch {
	case plan.Offer().Plan == "":
		return "", "", billing.ErrUnknownPlan
	case price == "":
		return "", "", ErrNotOffered
	}
	if err := cmp.Or(c.mayReturn("success_url", success), c.mayReturn("cancel_url", cancel)); err != nil {
		return "", "", err
	}
	want := billing.CheckoutRequested{Plan: plan, Price: price, Usage: c.UsagePrice, Success: success, Cancel: cancel}
	email := ""
	if c.Email != nil {
		if email, err = c.Email(ctx, o.Account); err != nil {
			return "", "", err
		}
	}
	run := &checkoutRun{Payments: c, o: o, want: want, email: email}
	to, session, err = run.do(ctx)
	return to, session, c.forUser(ctx, o.Account, err)
}

// checkoutRun is one call of Payments.Checkout.
type checkoutRun struct {
	*Payments
	o        Origin
	want     billing.CheckoutRequested
	email    string
	compared bool   // with the customer's subscriptions at Stripe
	fresh    bool   // the customer was deleted at Stripe: the Checkout makes another
	key      string // of the Checkout that this call recorded
	unsure   int
}

// do takes the next step until there is a URL or a refusal.
func (r *checkoutRun) do(ctx context.Context) (to, session string, err error) {
	for range maxCheckoutSteps {
		s, err := billings.Fold(ctx, r.Store, r.o.Account)
		if err != nil {
			return "", "", err
		}
		switch open := s.Checkout; {
		case (open == nil || s.Several() > 0) && s.Customer != "" && !r.compared: // no delivery may have told
			_, err = r.look(ctx, r.o, r.o.Account, func(s billing.State) ([]billing.Command, error) { return r.seeSubscriptions(ctx, s) })
			r.compared = true
		case s.Several() > 0 && (open == nil || open.Session == ""):
			return "", "", billing.ErrSubscribed
		case open == nil:
			err = r.request(ctx)
		case open.Session == "":
			to, session, err = r.open(ctx, s)
		default:
			to, session, err = r.again(ctx, s)
		}
		if err != nil || to != "" {
			return to, session, err
		}
	}
	return "", "", asked("for a Checkout", errKeepsChanging)
}

// request records the Checkout that Stripe is to be asked for. If another request was faster, the next step uses its Checkout.
func (r *checkoutRun) request(ctx context.Context) error {
	now := r.Now()
	want := r.want
	want.Key, want.At, want.Expires = "checkout-"+r.NewID(), now, now.Add(checkoutFor)
	_, err := eventstore.Run(ctx, r.Store, r.stamp(r.o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		before, err := billings.Load(ctx, u, r.o.Account)
		if err != nil {
			return nil, err
		}
		_, err = executeBilling(ctx, u, r.o.Account, before, billing.RequestCheckout{CheckoutRequested: want, Terms: r.Terms})
		return nil, err
	})
	if errors.Is(err, billing.ErrPending) {
		return nil
	}
	r.key = want.Key
	return err
}

// open asks Stripe for a Checkout that was recorded, perhaps again. While the answer is not known, the same call is repeated.
func (r *checkoutRun) open(ctx context.Context, s billing.State) (to, session string, err error) {
	intent := s.Checkout.CheckoutRequested
	if !r.Now().Before(intent.Expires) {
		return "", "", r.see(ctx)
	}
	n := NewCheckout{Account: r.o.Account, Email: r.email, Customer: s.Customer, CheckoutRequested: intent}
	if r.fresh {
		n.Customer = ""
	}
	made, err := r.Stripe.OpenCheckout(ctx, n)
	var refused *RefusedError
	switch {
	case errors.As(err, &refused):
		if err := r.lose(ctx, s.Checkout, refused.Code); err != nil {
			return "", "", err
		}
		if refused.Code == codeMissing && n.Customer != "" {
			r.fresh = true
			return "", "", nil
		}
		if intent.Key != r.key {
			return "", "", nil // it was an earlier request's: Stripe may have refused it because of its age
		}
		return "", "", asked("to open a Checkout", err)
	case err != nil:
		if r.unsure++; r.unsure > 2 {
			return "", "", asked("to open a Checkout", err)
		}
		return "", "", retry.Sleep(ctx, time.Duration(r.unsure)*cmp.Or(r.RepeatAfter, 300*time.Millisecond))
	}
	s, err = r.look(ctx, r.o, r.o.Account, func(s billing.State) ([]billing.Command, error) {
		if s.Checkout == nil || s.Checkout.Key != intent.Key {
			return nil, nil
		}
		return r.checkoutSeen(ctx, s, made)
	})
	if err != nil || s.Checkout == nil || s.Checkout.Session != made.Session || !r.wants(intent) {
		return "", "", err
	}
	return made.URL, made.Session, nil
}

// again returns the URL of a Checkout that is open, or ends one that is for something else or beside a subscription.
func (r *checkoutRun) again(ctx context.Context, s billing.State) (to, session string, err error) {
	open := *s.Checkout
	seen, err := r.Stripe.Checkout(ctx, open.Session)
	switch {
	case err != nil && !errors.Is(err, ErrNotAtStripe):
		return "", "", asked("for a Checkout", err)
	case err == nil && seen.Status == billing.CheckoutOpen && r.wants(open.CheckoutRequested) && s.Several() == 0:
		return seen.URL, seen.Session, nil
	case err == nil && seen.Status == billing.CheckoutOpen:
		// If it was paid or has expired meanwhile, Stripe refuses, and shows which.
		if _, err := r.Stripe.ExpireCheckout(ctx, open.Session); err != nil && !errors.As(err, new(*RefusedError)) && !errors.Is(err, ErrNotAtStripe) {
			return "", "", asked("to end a Checkout", err)
		}
	}
	return "", "", r.see(ctx)
}

// see records what Stripe shows of the account's Checkout.
func (r *checkoutRun) see(ctx context.Context) error {
	_, err := r.look(ctx, r.o, r.o.Account, func(s billing.State) ([]billing.Command, error) { return r.seeCheckout(ctx, s) })
	return err
}

func (r *checkoutRun) lose(ctx context.Context, open *billing.Checkout, code string) error {
	_, err := r.look(ctx, r.o, r.o.Account, func(billing.State) ([]billing.Command, error) {
		return lost(*open, "Stripe refused it ("+clip(code, 60)+").", r.Payments), nil
	})
	return err
}

// wants reports whether a Checkout is for what this request asks for.
func (r *checkoutRun) wants(c billing.CheckoutRequested) bool {
	return c.Plan == r.want.Plan && c.Price == r.want.Price && c.Usage == r.want.Usage && c.Success == r.want.Success && c.Cancel == r.want.Cancel
}

// codeMissing is Stripe's code for a field that names an object that does not exist.
const codeMissing = "resource_missing"

// originOf returns the scheme, host and port of an absolute http or https URL.
func originOf(raw string) (origin string, ok bool) {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxReturnURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || !utf8.ValidString(raw) || strings.ContainsFunc(raw, isControl) {
		return "", false
	}
	usual := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), usual), true
}
