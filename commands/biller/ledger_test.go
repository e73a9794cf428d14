package biller_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// ours is the ledger that our log gives: what was paid, and what was used.
type ours struct {
	paid    map[string]int   // how often each invoice was seen to become paid
	amount  map[string]int64 // of the last time
	period  map[string][2]time.Time
	metered map[string]map[string]int64 // seconds, by customer and day
	open    int                         // reports without an outcome
	unclear int
	states  map[string]billing.State
}

// read adds up what the log says.
func (c *town) read() ours {
	o := ours{map[string]int{}, map[string]int64{}, map[string][2]time.Time{}, map[string]map[string]int64{}, 0, 0, map[string]billing.State{}}
	for e, err := range c.store.ReadAll(c.t.Context(), 0) {
		if err != nil {
			c.t.Fatal(err)
		}
		if e.Stream.Aggregate != billing.Codec.Aggregate() {
			continue
		}
		ev, err := billing.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		s := o.states[e.Stream.ID]
		switch ev := ev.(type) {
		case billing.InvoiceSeen:
			if ev.Status == "paid" && s.Invoices[ev.ID].Status != "paid" {
				o.paid[ev.ID]++
				o.amount[ev.ID], o.period[ev.ID] = ev.Paid, [2]time.Time{ev.PeriodStart, ev.PeriodEnd}
			}
		case billing.UsageSettled:
			m := s.Usage[ev.Day]
			if ev.Outcome == billing.Sent && m.Open != nil && m.Open.Identifier == ev.Identifier {
				if o.metered[m.Open.Customer] == nil {
					o.metered[m.Open.Customer] = map[string]int64{}
				}
				o.metered[m.Open.Customer][ev.Day] += m.Open.Seconds
			}
		}
		o.states[e.Stream.ID] = billing.Evolve(s, ev)
	}
	for _, s := range o.states {
		for _, m := range s.Usage {
			if m.Open != nil && !c.deleted[m.Open.Customer] { // Stripe shows nothing of a deleted customer: it waits for an operator
				o.open++
			}
			if m.Unclear > 0 {
				o.unclear++
			}
		}
	}
	return o
}

// differences compares our ledger with Stripe's.
func (c *town) differences() (found []string) {
	differ := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	log, till := c.read(), c.till.Ledger()
	mine := map[string]string{} // accounts by customer
	for account, s := range log.states {
		if s.Customer != "" {
			mine[s.Customer] = account
		}
		for _, sub := range s.Subscriptions {
			mine[sub.Customer] = account // perhaps deleted since, so that the account has another
		}
	}
	for _, k := range till.Checkouts { // what was paid for an account of ours at a Checkout of ours
		if k.Status == "complete" && strings.HasPrefix(k.ID, "cs_") && mine[k.Customer] == "" && !c.foreign(k) {
			differ("Checkout %s was paid, and the log does not know its customer", k.ID)
		}
	}
	c.comparePaid(till, log, mine, differ)
	c.compareSubscriptions(till, log, mine, differ)
	c.compareUsage(till, log, mine, differ)
	if log.open > 0 {
		differ("%d reports of usage have no outcome", log.open)
	}
	c.count["reports that an operator has to look at"] = log.unclear
	return found
}

// foreign reports whether a Checkout is the other program's.
func (c *town) foreign(k stripetest.Checkout) bool { return k.ID == c.stranger }

func (c *town) comparePaid(till stripetest.Ledger, log ours, mine map[string]string, differ func(string, ...any)) {
	seen := map[string]bool{}
	cycles := map[string]string{}
	for _, i := range till.Invoices {
		if mine[i.Customer] == "" || i.Status != "paid" {
			continue
		}
		seen[i.ID] = true
		c.count["invoices paid at Stripe"]++
		c.count["cents paid at Stripe"] += int(i.Paid)
		switch p := log.period[i.ID]; {
		case log.paid[i.ID] == 0 && c.deleted[i.Customer]: // the account may have another customer by then
			c.count["invoices of deleted customers that the log does not have"]++
		case log.paid[i.ID] != 1:
			differ("invoice %s of %s was paid once, and the log has it %d times", i.ID, i.Start.Format(time.DateOnly), log.paid[i.ID])
		case log.amount[i.ID] != i.Paid:
			differ("invoice %s: paid %d, in the log %d", i.ID, i.Paid, log.amount[i.ID])
		case !p[0].Equal(i.Start) || !p[1].Equal(i.End):
			differ("invoice %s: period %v to %v, in the log %v", i.ID, i.Start, i.End, p)
		}
		if i.Reason != "subscription_update" { // each period of a subscription is paid once
			period := i.Subscription + i.Start.String()
			if other := cycles[period]; other != "" {
				differ("invoices %s and %s are for the same period", i.ID, other)
			}
			cycles[period] = i.ID
		}
	}
	for id, n := range log.paid {
		c.count["invoices paid in the log"] += n
		c.count["cents paid in the log"] += n * int(log.amount[id])
		if !seen[id] {
			differ("invoice %s is paid only in the log", id)
		}
	}
}

func (c *town) compareSubscriptions(till stripetest.Ledger, log ours, mine map[string]string, differ func(string, ...any)) {
	shown := map[string]bool{}
	living := map[string]int{}
	for _, sub := range till.Subscriptions {
		shown[sub.ID] = true
		account := mine[sub.Customer]
		if account == "" {
			continue
		}
		c.count["subscriptions"]++
		if sub.Status != "canceled" {
			living[account]++
		}
		k := log.states[account].Subscriptions[sub.ID]
		if string(k.Status) != sub.Status || k.Price != sub.Price || !k.PeriodStart.Equal(sub.Start) || !k.PeriodEnd.Equal(sub.End) || !k.Ended.Equal(sub.Ended) {
			differ("subscription %s is %s until %v, in the log %s until %v", sub.ID, sub.Status, sub.End, k.Status, k.PeriodEnd)
		}
	}
	for account, s := range log.states {
		for id := range s.Subscriptions {
			if !shown[id] {
				differ("subscription %s is only in the log", id)
			}
		}
		if living[account] > 1 {
			differ("account %s pays %d subscriptions", account, living[account])
		}
	}
}

func (c *town) compareUsage(till stripetest.Ledger, log ours, mine map[string]string, differ func(string, ...any)) {
	metered := till.Metered()
	for customer := range log.metered {
		if metered[customer] == nil {
			differ("customer %s has usage only in the log", customer)
		}
	}
	users := map[string]*user{}
	for _, u := range c.users {
		users[u.Account] = u
	}
	for customer, days := range metered {
		u := users[mine[customer]]
		if u == nil {
			differ("customer %s of no account has usage", customer)
			continue
		}
		all := maps.Clone(days)
		for day := range log.metered[customer] {
			all[day] += 0
		}
		for _, day := range slices.Sorted(maps.Keys(all)) {
			c.count["seconds metered at Stripe"] += int(days[day])
			c.count["seconds metered in the log"] += int(log.metered[customer][day])
			c.count["days metered"]++
			if open := log.states[u.Account].Usage[day].Open; open != nil && c.deleted[open.Customer] {
				c.count["reports of deleted customers without an outcome"]++
				continue
			}
			if days[day] != log.metered[customer][day] {
				differ("%s: Stripe counts %d seconds of %s, the log %d", customer, days[day], day, log.metered[customer][day])
			}
			at, _ := time.Parse(time.DateOnly, day)
			if ran := u.ran(at, time.Time{}); days[day] > ran {
				differ("%s: Stripe counts %d seconds of %s, of %d that desktops ran", customer, days[day], day, ran)
			}
		}
	}
	for _, u := range c.users {
		s := log.states[u.Account]
		if !u.steady || len(s.Subscriptions) != 1 {
			continue
		}
		from := s.MeteredFrom()
		for day := from.Truncate(24 * time.Hour); day.Before(c.Clock.Now().Add(-2 * 24 * time.Hour).Truncate(24 * time.Hour)); day = day.AddDate(0, 0, 1) {
			name := day.Format(time.DateOnly)
			if ran, got := u.ran(day, from), metered[s.Customer][name]; ran != got {
				differ("%s: Stripe counts %d seconds of %s, desktops ran %d", s.Customer, got, name, ran)
			}
			c.count["days of steady users that were compared with the truth"]++
		}
	}
}

// Stripe's ledger equals ours: each period once and each second once, although processes die, calls fail, and deliveries come
// twice, in another order, late or never, and Stripe is away for 30 hours.
func TestLedgerSchedules(t *testing.T) {
	t.Parallel()
	play(t, 60, planted{})
}

// Customers that an operator deletes at Stripe cost no other customer anything. What Stripe no longer shows of them stays open.
func TestLedgerSchedulesWithDeletedCustomers(t *testing.T) {
	t.Parallel()
	play(t, 20, planted{deletes: true})
}

// play lets towns live, one or with LONG=1 many, and prints what they met.
func play(t *testing.T, long uint64, p planted) {
	t.Helper()
	seeds := uint64(1)
	if os.Getenv("LONG") != "" {
		seeds = long
	}
	total := map[string]int{}
	for seed := range seeds {
		c := newTown(t, seed+1, p)
		c.live()
		for _, d := range c.differences() {
			t.Errorf("seed %d: %s", seed+1, d)
		}
		for name, n := range c.count {
			total[name] += n
		}
		for name, n := range c.till.Ledger().Faults {
			total["fault: "+name] += n
		}
		if t.Failed() {
			break
		}
	}
	report(t, total)
}

func report(t *testing.T, count map[string]int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%9d %s", count[name], name)
	}
}
