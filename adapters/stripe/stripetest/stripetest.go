// Package stripetest is a small Stripe for tests: Checkout, subscriptions, invoices, the customer portal, meters and
// deliveries, with pages that a browser can use, and a clock and faults that a test controls.
//
// The one thing to know: it keeps to what Stripe documents where that is inconvenient. It delivers late, twice, in another
// order or not at all; it remembers an idempotency key with its outcome, also of a failure, and forgets it after 24 hours;
// and it shares no code with what it is compared with. It accepts no real card.
package stripetest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Config says what the server is like. The zero Config is a server with three prices and one meter.
type Config struct {
	Clock         func() time.Time // nil: time.Now
	Key           string           // "": DefaultKey
	WebhookSecret string           // "": DefaultSecret
	// Post sends a delivery. Nil: an HTTP POST to the URL of SetWebhook.
	Post   func(ctx context.Context, body []byte, signature string) (status int, err error)
	Public string  // where a browser finds the pages; "": where the call came from
	Prices []Price // nil: DefaultPrices
	Meter  string  // the meter's event_name; "": DefaultMeter
	// Retries says after which time a failed payment is tried again. Nil: 3, 5 and 7 days.
	Retries []time.Duration
	// AfterRetries is what becomes of a subscription whose last retry failed: "canceled" (the default), "unpaid" or "past_due".
	AfterRetries string
	// MeterLag is how long after an event its meter shows it.
	MeterLag time.Duration
	Seed     uint64 // of the faults
}

// The values of the zero Config.
const (
	DefaultKey         = "sk_test_stripetestStripetest24"
	DefaultPublishable = "pk_test_stripetestStripetest24"
	DefaultSecret      = "whsec_stripetestStripetestStripe"
	DefaultMeter       = "desktop_seconds"
)

// DefaultPrices are those of the zero Config.
var DefaultPrices = []Price{
	{ID: "price_starter000000000000", Name: "Starter", Amount: 1900, Currency: "usd", Interval: "month"},
	{ID: "price_pro0000000000000000", Name: "Pro", Amount: 4900, Currency: "usd", Interval: "month"},
	{ID: "price_enterprise000000000", Name: "Enterprise", Amount: 9900, Currency: "usd", Interval: "month"},
}

// DefaultUsage is what an hour of the meter costs: a second price of a subscription.
var DefaultUsage = Price{ID: "price_usage0000000000000", Name: "Hours that desktops ran", Amount: 2, Currency: "usd", Interval: "month", Metered: true}

// Price is what a plan costs. Amount is in cents.
type Price struct {
	ID, Name string
	Amount   int64
	Currency string
	Interval string // "day", "week", "month" or "year"
	Archived bool   // it takes no new Checkouts
	Metered  bool   // Amount is for each whole hour of the meter's seconds in a period
}

// idempotent is for how long the server remembers idempotency keys and the identifiers of meter events.
const idempotent = 24 * time.Hour

// Server is the small Stripe.
type Server struct {
	cfg     Config
	sending sync.Mutex // is held while deliveries are sent
	mu      sync.Mutex
	ahead   time.Duration // of the clock
	random  *rand.Rand
	serial  uint64
	webhook webhook
	host    string // of the latest call

	prices    []*price
	customers []*customer
	checkouts []*checkout
	subs      []*subscription
	invoices  []*invoice
	portals   map[string]*portal
	meters    []*meter
	usage     []*meterEvent
	events    []*event
	queue     []*delivery
	keys      map[string]*kept

	faults Faults
	next   []Next
	down   time.Time // until when every call fails
	calls  map[string]int
	met    map[string]int // faults, by name
}

// New returns a server.
func New(cfg Config) *Server {
	cfg.Key = cmp.Or(cfg.Key, DefaultKey)
	cfg.WebhookSecret = cmp.Or(cfg.WebhookSecret, DefaultSecret)
	cfg.Meter = cmp.Or(cfg.Meter, DefaultMeter)
	cfg.AfterRetries = cmp.Or(cfg.AfterRetries, statusCanceled)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Prices == nil {
		cfg.Prices = append(slices.Clone(DefaultPrices), DefaultUsage)
	}
	if cfg.Retries == nil {
		cfg.Retries = []time.Duration{3 * day, 5 * day, 7 * day}
	}
	s := &Server{
		cfg: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 15)), portals: map[string]*portal{}, keys: map[string]*kept{},
		calls: map[string]int{}, met: map[string]int{}, webhook: webhook{secret: cfg.WebhookSecret},
	}
	s.meters = []*meter{{id: s.id("mtr_test"), event: cfg.Meter, created: s.now()}}
	for _, p := range cfg.Prices {
		s.prices = append(s.prices, &price{Price: p, product: s.id("prod"), created: s.now(), meter: s.meters[0]})
	}
	return s
}

const day = 24 * time.Hour

// Now returns the time of the server's clock.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

func (s *Server) now() time.Time { return s.cfg.Clock().Add(s.ahead).Truncate(time.Second).UTC() }

// Advance moves the server's clock forward, and does what is due by then, in its order.
func (s *Server) Advance(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += by
	s.settle()
}

// AdvanceCustomer moves the clock of one customer's subscriptions and invoices forward, as a test clock of Stripe's does.
func (s *Server) AdvanceCustomer(customer string, by time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.customer(customer)
	if c == nil {
		return fmt.Errorf("no such customer: %s", customer)
	}
	c.ahead += by
	s.settle()
	return nil
}

// of returns the time of a customer's clock.
func (s *Server) of(c *customer) time.Time { return s.now().Add(c.ahead) }

// id returns an id that is like Stripe's, and the same one in each run.
func (s *Server) id(prefix string) string {
	s.serial++
	sum := sha256.Sum256(fmt.Appendf(nil, "%d-%d", s.cfg.Seed, s.serial))
	return fmt.Sprintf("%s_%06d%s", prefix, s.serial, hex.EncodeToString(sum[:9]))
}

// settle does what the clock has reached, the earliest first.
func (s *Server) settle() {
	for {
		var (
			at   time.Time
			work func(time.Time)
		)
		due := func(when, now time.Time, do func(time.Time)) {
			if !when.IsZero() && !when.After(now) && (work == nil || when.Before(at)) {
				at, work = when, do
			}
		}
		for _, c := range s.checkouts {
			if c.status == statusOpen {
				due(c.expires, s.now(), func(at time.Time) { s.expire(c, at) })
			}
		}
		for _, sub := range s.subs {
			if sub.over() {
				continue
			}
			now := s.of(sub.customer)
			due(sub.cancelAt, now, func(at time.Time) { s.end(sub, at) })
			due(sub.end, now, func(at time.Time) { s.renew(sub, at) })
		}
		for _, i := range s.invoices {
			now := s.of(i.customer)
			switch {
			case i.status == statusDraft && i.advance:
				due(i.finalizes, now, func(at time.Time) { s.finalize(i, at) })
			case i.status == statusOpen:
				due(i.nextAttempt, now, func(at time.Time) { s.attempt(i, i.customer.card, at) })
			}
		}
		if work == nil {
			return
		}
		work(at)
	}
}
