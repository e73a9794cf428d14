package biller_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe"
	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// town is users who pay for desktops at a small Stripe, and the replicas that bill them. One clock moves everything; each
// replica's differs from it by minutes.
type town struct {
	*commandstest.World
	t       testing.TB
	random  *rand.Rand
	planted planted
	store   eventstore.Store
	payers  *commandstest.Payers
	books   *commandstest.Books
	ids     func() string

	till     *stripetest.Server
	web      *httptest.Server // the till's
	mu       sync.Mutex
	bodies   map[string]json.RawMessage // by path: what the web answers in the till's place
	users    []*user
	parts    []*replica
	holder   int // the replica that holds the lease
	calm     bool
	paused   []*operation
	handled  handled
	last     commands.Comparison
	stranger string // the other program's Checkout
	away     int    // steps for which no replica runs
	began    time.Time
	deleted  map[string]bool // customers
	count    map[string]int
}

const (
	every  = 2 * time.Hour // the clock's steps
	month  = 17            // days with faults
	settle = 5             // days without, before the ledgers are compared
)

var plans = map[string]billing.Plan{
	stripetest.DefaultPrices[0].ID: billing.Starter, stripetest.DefaultPrices[1].ID: billing.Pro, stripetest.DefaultPrices[2].ID: billing.Enterprise,
}

// newTown returns a town of a seed in which a mistake is planted, or none.
func newTown(t testing.TB, seed uint64, p planted) *town {
	c := &town{
		t: t, random: rand.New(rand.NewPCG(seed, 7)), planted: p, bodies: map[string]json.RawMessage{},
		handled: handled{}, deleted: map[string]bool{}, count: map[string]int{}, store: memory.New(), ids: commandstest.NewIDs(),
	}
	if p.store != nil {
		c.store = p.store(c, c.store)
	}
	c.World = commandstest.NewWorldOn(c.store, 9)
	c.began = c.Clock.Now()
	c.payers, c.books = &commandstest.Payers{Store: c.store}, &commandstest.Books{Store: c.store}
	prices := slices.Clone(stripetest.DefaultPrices)
	for i := range prices {
		prices[i].Interval = "week"
	}
	c.till = stripetest.New(stripetest.Config{
		Clock: c.Clock.Now, Seed: seed, Prices: prices, Post: c.post, MeterLag: 90 * time.Minute,
		Retries: []time.Duration{24 * time.Hour, 48 * time.Hour, 48 * time.Hour},
	})
	c.web = httptest.NewServer(c)
	t.Cleanup(c.web.Close)
	for range 2 {
		c.parts = append(c.parts, c.newReplica())
	}
	for i := range 5 {
		o, _ := c.SignUp(t, fmt.Sprintf("user%d@example.org", i))
		c.users = append(c.users, &user{Origin: o, steady: i < 2})
	}
	return c
}

// ServeHTTP is the till, or what is answered in its place.
func (c *town) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	body, instead := c.bodies[r.URL.Path]
	c.mu.Unlock()
	if instead && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
		return
	}
	c.till.ServeHTTP(w, r)
}

// live lets the town live until the ledgers can be compared.
func (c *town) live() {
	c.foreigner()
	for range month * int(24*time.Hour/every) {
		c.step()
	}
	c.calm = true
	c.till.SetFaults(stripetest.Faults{})
	for range settle * int(24*time.Hour/every) {
		c.step()
	}
	c.resume(true)
	c.step()
}

// rarely reports true so many times of 1,000, and never when the town is calm.
func (c *town) rarely(of int) bool { return c.random.IntN(1000) < of && !c.calm }

func (c *town) step() {
	c.Clock.Advance(every)
	if c.absent() {
		return
	}
	c.weather()
	for _, u := range c.users {
		u.live(c)
	}
	c.till.Deliver(c.t.Context())
	c.resume(false)
	c.roles()
}

// absent reports whether no replica runs. Desktops stop meanwhile, and the first pass of new replicas does not know it yet.
func (c *town) absent() bool {
	switch {
	case c.away == 0 && c.rarely(10) && len(c.paused) == 0:
		c.addCount("outages of the control plane")
		c.away = 2 + c.random.IntN(8)
	case c.away == 0:
		return false
	}
	for _, u := range c.users {
		for _, d := range u.desktops {
			d.unseen(c)
		}
	}
	if c.away--; c.away == 0 {
		if c.random.IntN(2) == 0 { // else the database was away, and the processes waited
			for i := range c.parts {
				c.parts[i] = c.newReplica()
			}
		}
		c.roles()
	}
	return true
}

// weather changes what fails.
func (c *town) weather() {
	switch {
	case c.calm:
	case c.Clock.Now().Hour() == 1 && (c.rarely(100) || c.count["outages of 30 hours"] == 0 && c.Clock.Now().After(c.began.AddDate(0, 0, 8))): // what a day's reports became is not known when it begins
		c.count["outages of 30 hours"]++
		c.till.SetFaults(stripetest.Faults{Calls: map[string]int{stripetest.Lost: 500}, Lose: 500})
		c.role(c.parts[c.holder])
		c.till.Down(30 * time.Hour)
	default:
		c.till.SetFaults(stripetest.Faults{
			Calls: map[string]int{
				stripetest.Cut: 20, stripetest.Lost: 40, stripetest.Error: 5, stripetest.Broken: 5, stripetest.Busy: 20, stripetest.Locked: 5, stripetest.Proxy: 10,
			},
			Lose: 150, Repeat: 200, Delay: 300, Late: 8 * time.Hour,
		})
	}
}

// roles lets the replica that holds the lease do what is due. The lease moves when a replica dies or is paused, and for a
// moment two replicas may believe that they hold it.
func (c *town) roles() {
	if c.rarely(100) {
		c.holder = (c.holder + 1) % len(c.parts)
	}
	if c.rarely(150) {
		c.role(c.parts[1-c.holder])
	}
	c.role(c.parts[c.holder])
}

func (c *town) role(r *replica) {
	for _, do := range []func(context.Context) error{r.role.Payments.CompareCheckouts, r.compare, r.role.Metering.Pass} {
		c.run(r, func(ctx context.Context, r *replica) error { return do(ctx) })
		if r.life.dead() || r.life.isPaused() {
			return
		}
	}
}

// post is the webhook: any replica takes a delivery.
func (c *town) post(_ context.Context, body []byte, signature string) (int, error) {
	r := c.parts[c.random.IntN(len(c.parts))]
	if r.life.isPaused() || r.life.dead() {
		r = c.parts[1-slices.Index(c.parts, r)]
	}
	if r.life.isPaused() || r.life.dead() {
		return 0, errors.New("connection refused")
	}
	status := http.StatusServiceUnavailable
	done := c.run(r, func(ctx context.Context, r *replica) error {
		d, err := r.client.Verify(body, signature, r.now())
		if err != nil {
			c.t.Errorf("verify a delivery: %v", err)
			return err
		}
		c.addCount("deliveries")
		if c.planted.deliver != nil {
			err = c.planted.deliver(ctx, c, r, d, body)
		} else {
			_, err = r.pay.Deliver(ctx, d)
		}
		if err == nil {
			status = http.StatusOK
		}
		return err
	})
	if !done {
		return 0, context.DeadlineExceeded
	}
	return status, nil
}

func (c *town) addCount(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[what]++
}

// foreigner is a customer of another program that uses the same account of Stripe.
func (c *town) foreigner() {
	client, err := stripe.New(stripe.Config{Key: stripetest.DefaultKey, URL: c.web.URL})
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := client.OpenCheckout(c.t.Context(), commands.NewCheckout{Account: c.users[0].Account, Email: "x@example.org", CheckoutRequested: billing.CheckoutRequested{
		Key: "foreign", Plan: billing.Enterprise, Price: stripetest.DefaultPrices[2].ID, Success: "https://shop.example/", Cancel: "https://shop.example/", Expires: c.Clock.Now().Add(time.Hour),
	}})
	c.stranger = out.Session
	if err == nil {
		err = c.till.Pay(out.Session, stripetest.CardGood, "")
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// handled are the deliveries that were handled.
type handled map[string]bool

func (h handled) Handled(_ context.Context, id string) (bool, error) { return h[id], nil }
func (h handled) Remember(_ context.Context, id string) error {
	h[id] = true
	return nil
}

// LastComparison and RememberComparison are what ops.comparisons does.
func (c *town) LastComparison(context.Context) (time.Time, error) { return c.last.Began, nil }

func (c *town) RememberComparison(_ context.Context, found commands.Comparison) error {
	c.last = found
	c.addCount("comparisons")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count["accounts that only a comparison corrected"] += found.Changed
	return nil
}

func logger() *slog.Logger {
	if os.Getenv("LEDGER_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

// object returns the object in a delivery's body.
func object(body []byte) json.RawMessage {
	var e struct {
		Data struct {
			Object json.RawMessage `json:"object"`
		} `json:"data"`
	}
	_ = json.NewDecoder(bytes.NewReader(body)).Decode(&e)
	return e.Data.Object
}
