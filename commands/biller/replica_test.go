package biller_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/biller"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// replica is one process of the control plane.
type replica struct {
	town   *town
	life   *life
	skew   time.Duration
	client *stripe.Client
	pay    *commands.Payments
	role   *biller.Biller
}

func (c *town) newReplica() *replica {
	client, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, WebhookSecret: stripetest.DefaultSecret, Meter: stripetest.DefaultMeter, URL: c.web.URL})
	if err != nil {
		c.t.Fatal(err)
	}
	r := &replica{town: c, life: &life{left: -1}, skew: time.Duration(c.random.Int64N(int64(6*time.Minute))) - 3*time.Minute, client: client}
	var calls commands.Stripe = mortalStripe{r.life, c.Clock.Now, client}
	if c.planted.stripe != nil {
		calls = c.planted.stripe(c, calls)
	}
	r.pay = &commands.Payments{
		Log: c.Log, Stripe: calls, Prices: plans, Books: c.payers, Deliveries: mortalDeliveries{r.life, c.handled}, Logger: logger(),
		Origins: []string{"https://cloudbot.example"}, RepeatAfter: 1,
	}
	r.pay.Log.Store = eventstore.Keeping(mortalStore{c.store, r.life}, eventstore.NewStates(1<<20))
	r.pay.Log.NewID, r.pay.Log.Now = c.ids, r.now
	r.role = &biller.Biller{Payments: r.pay, Metering: &commands.Metering{Payments: r.pay, Usage: c.books, Warm: cmp.Or(c.planted.warm, 5*every/2)}, Comparisons: c, Logger: logger()}
	return r
}

func (r *replica) now() time.Time { return r.town.Clock.Now().Add(r.skew) }

func (r *replica) compare(ctx context.Context) error {
	if r.town.planted.noComparison {
		return nil
	}
	return r.role.Compare(ctx)
}

// life is how many of a replica's steps are left until it dies, or is paused. A step is a call to Stripe or an append, before
// or after its effect.
type life struct {
	mu      sync.Mutex
	left    int // -1: it lives on
	pause   bool
	gone    bool
	waiting chan struct{} // closed when it is paused
	resume  chan struct{}
}

var errKilled = errors.New("the process was killed")

func (l *life) dead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

func (l *life) isPaused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resume != nil && !l.pause
}

// end sets what happens to the replica after some steps: it dies, or it is paused.
func (l *life) end(after int, pause bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.pause, l.waiting, l.resume = after, pause, make(chan struct{}), nil
	if pause {
		l.resume = make(chan struct{})
	}
}

// spare lets it live on.
func (l *life) spare() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.pause, l.resume = -1, false, nil
}

// step takes a step. It returns an error if the replica is dead.
func (l *life) step() error {
	l.mu.Lock()
	switch {
	case l.gone:
		l.mu.Unlock()
		return errKilled
	case l.left > 0:
		l.left--
	case l.left == 0 && l.pause:
		l.left, l.pause = -1, false
		close(l.waiting)
		resume := l.resume
		l.mu.Unlock()
		<-resume
		return nil
	case l.left == 0:
		l.gone = true
		l.mu.Unlock()
		return errKilled
	}
	l.mu.Unlock()
	return nil
}

// operation is something that a paused replica was doing.
type operation struct {
	r     *replica
	steps int // until it is resumed
	done  chan struct{}
}

// run runs an operation on a replica, which may die in it, or be paused. It reports whether the operation ended.
func (c *town) run(r *replica, do func(context.Context, *replica) error) bool {
	switch {
	case r.life.dead() || r.life.isPaused():
		return false
	case c.rarely(40):
		r.life.end(c.random.IntN(7), false)
	case c.rarely(80) && len(c.paused) == 0:
		r.life.end(c.random.IntN(5), true)
	default:
		_ = do(c.t.Context(), r)
		return true
	}
	done := make(chan struct{})
	waiting := r.life.waiting
	go func() {
		defer close(done)
		_ = do(c.t.Context(), r)
	}()
	select {
	case <-done:
	case <-waiting:
		c.addCount("processes paused")
		o := &operation{r, 1 + c.random.IntN(3), done}
		if c.random.IntN(3) == 0 { // a computer that slept for a day
			o.steps += int(26 * time.Hour / every)
		}
		c.paused = append(c.paused, o)
		c.holder = 1 - slices.Index(c.parts, r)
		return false
	}
	if !r.life.dead() {
		r.life.spare()
		return true
	}
	c.addCount("processes killed")
	i := slices.Index(c.parts, r)
	c.parts[i], c.holder = c.newReplica(), 1-i
	return false
}

// resume goes on with paused operations.
func (c *town) resume(all bool) {
	var left []*operation
	for _, o := range c.paused {
		if o.steps--; o.steps > 0 && !all {
			left = append(left, o)
			continue
		}
		close(o.r.life.resume)
		<-o.done
		o.r.life.spare()
	}
	c.paused = left
}

// mortalStore is the log as a replica reaches it.
type mortalStore struct {
	eventstore.Store
	life *life
}

func (s mortalStore) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	if err := s.life.step(); err != nil {
		return eventstore.Result{}, fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
	res, err := s.Store.Append(ctx, a)
	if dead := s.life.step(); dead != nil {
		return eventstore.Result{}, fmt.Errorf("%w: %w", eventstore.ErrUnavailable, dead)
	}
	return res, err
}

type mortalDeliveries struct {
	life *life
	handled
}

func (d mortalDeliveries) Remember(ctx context.Context, id string) error {
	if err := d.life.step(); err != nil {
		return err
	}
	return d.handled.Remember(ctx, id)
}

// mortalStripe is Stripe as a replica reaches it.
type mortalStripe struct {
	life *life
	now  func() time.Time
	commands.Stripe
}

func through[T any](l *life, call func() (T, error)) (none T, err error) {
	if err := l.step(); err != nil {
		return none, err
	}
	out, err := call()
	if dead := l.step(); dead != nil {
		return none, dead
	}
	return out, err
}

func (s mortalStripe) OpenCheckout(ctx context.Context, n commands.NewCheckout) (commands.Checkout, error) {
	return through(s.life, func() (commands.Checkout, error) { return s.Stripe.OpenCheckout(ctx, n) })
}

func (s mortalStripe) Checkout(ctx context.Context, id string) (commands.Checkout, error) {
	return through(s.life, func() (commands.Checkout, error) { return s.Stripe.Checkout(ctx, id) })
}

func (s mortalStripe) ExpireCheckout(ctx context.Context, id string) (commands.Checkout, error) {
	return through(s.life, func() (commands.Checkout, error) { return s.Stripe.ExpireCheckout(ctx, id) })
}

func (s mortalStripe) Subscription(ctx context.Context, id string) (commands.StripeSubscription, error) {
	return through(s.life, func() (commands.StripeSubscription, error) { return s.Stripe.Subscription(ctx, id) })
}

func (s mortalStripe) SubscriptionsOf(ctx context.Context, customer string) ([]commands.StripeSubscription, error) {
	return through(s.life, func() ([]commands.StripeSubscription, error) { return s.Stripe.SubscriptionsOf(ctx, customer) })
}

func (s mortalStripe) CancelAtPeriodEnd(ctx context.Context, id string, cancel bool) (commands.StripeSubscription, error) {
	return through(s.life, func() (commands.StripeSubscription, error) { return s.Stripe.CancelAtPeriodEnd(ctx, id, cancel) })
}

func (s mortalStripe) Invoice(ctx context.Context, id string) (commands.StripeInvoice, error) {
	return through(s.life, func() (commands.StripeInvoice, error) { return s.Stripe.Invoice(ctx, id) })
}

func (s mortalStripe) InvoicesOf(ctx context.Context, customer string, limit int) ([]commands.StripeInvoice, error) {
	return through(s.life, func() ([]commands.StripeInvoice, error) { return s.Stripe.InvoicesOf(ctx, customer, limit) })
}

// ReportUsage ends with its context by the town's clock, which goes on while the replica is paused.
func (s mortalStripe) ReportUsage(ctx context.Context, r billing.Report) error {
	end, ends := ctx.Deadline()
	last := s.now().Add(time.Until(end))
	_, err := through(s.life, func() (struct{}, error) {
		if ends && s.now().After(last) {
			return struct{}{}, context.DeadlineExceeded
		}
		return struct{}{}, s.Stripe.ReportUsage(ctx, r)
	})
	return err
}

func (s mortalStripe) UsageShown(ctx context.Context, customer, day string) (int64, error) {
	return through(s.life, func() (int64, error) { return s.Stripe.UsageShown(ctx, customer, day) })
}
