package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// fakeStripe keeps what accounts bought in maps. Its customers are named after the accounts.
type fakeStripe struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[string]commands.Checkout
	keys     map[string]string // sessions by idempotency key
	plans    map[string]billing.Plan
	subs     map[string]commands.StripeSubscription
	invoices map[string]commands.StripeInvoice
	calls    int
	err      error       // of all calls, if set
	hangs    atomic.Bool // no call is answered
}

const proPrice = "price_pro"

// withPlans returns a change of a front's Config after which plans are required, and paid at the fake.
func withPlans(fake *fakeStripe, more ...func(*Config)) func(*Config) {
	return func(c *Config) {
		fake.now = c.Now
		fake.sessions, fake.keys, fake.plans = map[string]commands.Checkout{}, map[string]string{}, map[string]billing.Plan{}
		fake.subs, fake.invoices = map[string]commands.StripeSubscription{}, map[string]commands.StripeInvoice{}
		c.Instances.Plans, c.Instances.Terms = true, billing.Terms{Grace: 7 * 24 * time.Hour, Notice: time.Hour}
		store := c.Instances.Store.(*memory.Store)
		c.Payments = &Payments{
			Payments: &commands.Payments{
				Log: c.Instances.Log, Stripe: fake, Prices: map[string]billing.Plan{proPrice: billing.Pro}, Books: billedAccounts{store},
				Deliveries: &handledDeliveries{ids: map[string]bool{}}, Logger: c.Logger, Origins: c.Origins,
			},
			Verify: verifyFake, Key: "pk_test_of_a_test", Metered: true,
			Board: &PriceBoard{Find: fake.Price, IDs: []string{proPrice}, Logger: slog.New(slog.DiscardHandler)},
		}
		for _, change := range more {
			change(c)
		}
	}
}

const returnTo = "https://app.example.com/app/plan"

// buy buys the plan Pro for a user, as a visit to Stripe's page does.
func (f *front) buy(u user, fake *fakeStripe) {
	f.t.Helper()
	a := f.want(200, call{method: "POST", path: "/api/payments/create-checkout", token: u.access, body: map[string]string{"plan_type": "pro", "success_url": returnTo, "cancel_url": returnTo}})
	fake.pay(a.field(f.t, "session_id"))
	f.want(200, call{method: "POST", path: "/api/payments/sync", token: u.access})
	f.caughtUp()
}

// pay completes a Checkout, as Stripe does after a payment.
func (k *fakeStripe) pay(session string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessions[session]
	at := k.now().Truncate(time.Second)
	s.Status, s.URL, s.Customer, s.Subscription = billing.CheckoutComplete, "", "cus_"+s.Account, "sub_"+s.Account
	k.sessions[session] = s
	k.subs[s.Subscription] = commands.StripeSubscription{Account: s.Account, Subscription: billing.Subscription{
		ID: s.Subscription, Customer: s.Customer, Status: billing.Active, Plan: k.plans[session], Price: proPrice, Created: at, PeriodStart: at, PeriodEnd: at.AddDate(0, 1, 0),
	}}
	k.invoices["in_"+s.Account] = commands.StripeInvoice{
		Account: s.Account, Number: "CB-1", URL: "https://invoice.example/" + canary, PDF: "https://invoice.example/pdf/" + canary, Invoice: billing.Invoice{
			ID: "in_" + s.Account, Customer: s.Customer, Subscription: s.Subscription, Status: "paid", Currency: "usd", Due: 1900, Paid: 1900, PeriodStart: at, PeriodEnd: at.AddDate(0, 1, 0), Created: at,
		},
	}
}

// fail has a renewal fail.
func (k *fakeStripe) fail(account string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sub, inv := k.subs["sub_"+account], k.invoices["in_"+account]
	sub.Status = billing.PastDue
	inv.ID, inv.Status, inv.Paid, inv.Attempts, inv.NextAttempt = "in_2_"+account, "open", 0, 1, k.now().Add(72*time.Hour)
	k.subs[sub.ID], k.invoices[inv.ID] = sub, inv
}

func (k *fakeStripe) begin(ctx context.Context) error {
	if k.hangs.Load() {
		<-ctx.Done()
		k.mu.Lock()
		return ctx.Err()
	}
	k.mu.Lock()
	k.calls++
	return k.err
}

func (k *fakeStripe) breaks(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

func (k *fakeStripe) OpenCheckout(ctx context.Context, c commands.NewCheckout) (commands.Checkout, error) {
	defer k.mu.Unlock()
	if err := k.begin(ctx); err != nil {
		return commands.Checkout{}, err
	}
	id, again := k.keys[c.Key]
	if !again {
		id = fmt.Sprint("cs_", len(k.sessions)+1)
		k.keys[c.Key], k.plans[id] = id, c.Plan
		k.sessions[id] = commands.Checkout{Session: id, Account: c.Account, Status: billing.CheckoutOpen, URL: "https://checkout.example/" + canary + "/" + id}
	}
	return k.sessions[id], nil
}

func (k *fakeStripe) Checkout(ctx context.Context, session string) (commands.Checkout, error) {
	defer k.mu.Unlock()
	return found(k.sessions, session, k.begin(ctx))
}

func (k *fakeStripe) ExpireCheckout(ctx context.Context, session string) (commands.Checkout, error) {
	defer k.mu.Unlock()
	s, err := found(k.sessions, session, k.begin(ctx))
	if err == nil && s.Status != billing.CheckoutOpen {
		return s, &commands.RefusedError{Code: "not_open", Reason: "It is not open."}
	}
	s.Status, s.URL = billing.CheckoutExpired, ""
	k.sessions[session] = s
	return s, err
}

func (k *fakeStripe) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	defer k.mu.Unlock()
	return found(k.subs, id, k.begin(ctx))
}

func (k *fakeStripe) SubscriptionsOf(ctx context.Context, customer string) (list []commands.StripeSubscription, err error) {
	defer k.mu.Unlock()
	err = k.begin(ctx)
	for _, s := range k.subs {
		if s.Customer == customer {
			list = append(list, s)
		}
	}
	return list, err
}

func (k *fakeStripe) EachSubscription(_ context.Context, do func([]commands.StripeSubscription) error) error {
	k.mu.Lock()
	list := slices.Collect(maps.Values(k.subs))
	k.mu.Unlock()
	return do(list)
}

func (k *fakeStripe) CancelAtPeriodEnd(ctx context.Context, id string, cancel bool) (commands.StripeSubscription, error) {
	defer k.mu.Unlock()
	s, err := found(k.subs, id, k.begin(ctx))
	if err != nil {
		return s, err
	}
	s.CancelAt = time.Time{}
	if cancel {
		s.CancelAt = s.PeriodEnd
	}
	k.subs[id] = s
	return s, nil
}

func (k *fakeStripe) Invoice(ctx context.Context, id string) (commands.StripeInvoice, error) {
	defer k.mu.Unlock()
	return found(k.invoices, id, k.begin(ctx))
}

func (k *fakeStripe) InvoicesOf(ctx context.Context, customer string, limit int) (list []commands.StripeInvoice, err error) {
	defer k.mu.Unlock()
	err = k.begin(ctx)
	for _, id := range slices.Sorted(maps.Keys(k.invoices)) {
		if i := k.invoices[id]; i.Customer == customer && len(list) < limit {
			list = append(list, i)
		}
	}
	return list, err
}

func (k *fakeStripe) EachInvoice(_ context.Context, _ time.Time, do func([]commands.StripeInvoice) error) error {
	k.mu.Lock()
	list := slices.Collect(maps.Values(k.invoices))
	k.mu.Unlock()
	return do(list)
}

func (k *fakeStripe) OpenPortal(ctx context.Context, customer, _ string) (string, error) {
	defer k.mu.Unlock()
	return "https://portal.example/" + canary + "/" + customer, k.begin(ctx)
}

func (k *fakeStripe) Price(ctx context.Context, _ string) (commands.Price, error) {
	defer k.mu.Unlock()
	return commands.Price{Amount: 1900, Currency: "usd", Interval: "month"}, k.begin(ctx)
}

func (k *fakeStripe) ReportUsage(context.Context, billing.Report) error { return nil }

func (k *fakeStripe) UsageShown(context.Context, string, string) (int64, error) { return 0, nil }

func found[T any](in map[string]T, id string, err error) (T, error) {
	one, ok := in[id]
	if err == nil && !ok {
		err = commands.ErrNotAtStripe
	}
	return one, err
}

// verifyFake accepts a body with its hash as the signature.
func verifyFake(body []byte, signature string, _ time.Time) (d commands.Delivery, err error) {
	if signature != signFake(body) {
		return d, commands.ErrSignature
	}
	return d, json.Unmarshal(body, &d)
}

func signFake(body []byte) string { return fmt.Sprintf("v1=%x", sha256.Sum256(body)) }

// handledDeliveries is a set of deliveries.
type handledDeliveries struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (h *handledDeliveries) Handled(_ context.Context, id string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ids[id], nil
}

func (h *handledDeliveries) Remember(_ context.Context, id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ids[id] = true
	return nil
}

// billedAccounts folds the billing streams of a log each time.
type billedAccounts struct{ store *memory.Store }

func (b billedAccounts) states(ctx context.Context) (map[string]billing.State, error) {
	all := map[string]billing.State{}
	for e, err := range b.store.ReadAll(ctx, 0) {
		if err != nil {
			return nil, err
		}
		if e.Stream.Aggregate == billing.Codec.Aggregate() {
			ev, err := billing.Codec.Decode(e.Type, e.Schema, e.Data)
			if err != nil {
				return nil, err
			}
			all[e.Stream.ID] = billing.Evolve(all[e.Stream.ID], ev)
		}
	}
	return all, nil
}

func (b billedAccounts) Position() int64 {
	head, _ := b.store.Head(context.Background())
	return head
}

func (b billedAccounts) Customer(ctx context.Context, customer string) (string, error) {
	all, err := b.states(ctx)
	for account, s := range all {
		if s.Customer == customer {
			return account, err
		}
	}
	return "", err
}

func (b billedAccounts) Billed(context.Context, string, int) ([]commands.Billed, error) {
	return nil, errors.New("not needed by the front")
}

func (b billedAccounts) CheckingOut(context.Context, string, int) ([]string, error) {
	return nil, errors.New("not needed by the front")
}

func (m readModel) Plans(ctx context.Context, accounts ...string) (map[string]billing.State, error) {
	all, err := billedAccounts{m.store}.states(ctx)
	maps.DeleteFunc(all, func(id string, _ billing.State) bool { return !slices.Contains(accounts, id) })
	return all, err
}

var (
	_ commands.Stripe    = &fakeStripe{}
	_ commands.Customers = billedAccounts{}
)
