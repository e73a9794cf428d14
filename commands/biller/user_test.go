package biller_test

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/stripe/stripetest"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// user is an account whose user pays, or does not, and lets desktops run.
type user struct {
	commands.Origin
	steady   bool // pays always, and cancels nothing
	session  string
	desktops []*desktop
}

// desktop is a machine, and when it really ran.
type desktop struct {
	id, machine string
	launched    time.Time
	runs        []run
	hidden      int       // steps for which the cloud shows the machine as stopped, although it runs
	ended       time.Time // when it stopped, which was not seen yet
}

type run struct{ from, to time.Time } // to zero: it goes on

func (u *user) live(c *town) {
	for len(u.desktops) < 2 {
		u.desktops = append(u.desktops, u.desktop(c))
	}
	for _, d := range u.desktops {
		d.live(c)
	}
	s := u.state(c)
	sub, _ := s.Current()
	switch {
	case s.Customer == "" || s.Several() == 0:
		u.buy(c)
	case u.steady:
	case c.rarely(15):
		_ = c.till.SetCard(s.Customer, stripetest.CardFailsLater)
	case c.rarely(40):
		_ = c.till.SetCard(s.Customer, stripetest.CardGood)
		for _, i := range s.Invoices {
			if i.Status == "open" {
				_ = c.till.PayInvoice(i.ID, stripetest.CardGood)
			}
		}
	case c.rarely(10):
		_ = c.till.ChangePlan(sub.ID, stripetest.DefaultPrices[c.random.IntN(3)].ID)
	case c.rarely(8):
		_ = c.till.SetCancel(sub.ID, c.random.IntN(3) > 0)
	case c.rarely(8):
		c.ask(func(ctx context.Context, r *replica) error {
			_, err := r.pay.CancelAtPeriodEnd(ctx, u.Origin)
			return err
		})
	case c.rarely(3):
		_ = c.till.CancelNow(sub.ID) // an operator, in the dashboard
	case c.planted.deletes && c.rarely(3):
		c.addCount("customers deleted at Stripe")
		_ = c.till.DeleteCustomer(s.Customer)
		c.deleted[s.Customer] = true
	}
}

// state is what the log has of the account.
func (u *user) state(c *town) billing.State {
	list, err := c.payers.Billed(c.t.Context(), "", 100)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, b := range list {
		if b.Account == u.Account {
			return b.State
		}
	}
	return billing.State{}
}

// ask has one of the replicas do what a user asks for.
func (c *town) ask(do func(context.Context, *replica) error) {
	c.run(c.parts[c.random.IntN(len(c.parts))], do)
}

// buy chooses a plan, and pays now, later or never.
func (u *user) buy(c *town) {
	if u.session != "" && c.random.IntN(2) == 0 {
		card := stripetest.CardGood
		if c.rarely(200) {
			card = stripetest.CardDeclined
		}
		if c.till.Pay(u.session, card, "ada@example.org") == nil {
			c.addCount("Checkouts paid")
			return
		}
	}
	if !u.steady && !c.rarely(300) {
		return
	}
	plan := billing.Offers[c.random.IntN(3)].Plan
	c.ask(func(ctx context.Context, r *replica) error {
		to, session, err := r.pay.Checkout(ctx, u.Origin, plan, "https://cloudbot.example/paid", "https://cloudbot.example/plans")
		if err != nil {
			return err
		}
		if c.addCount("Checkouts opened"); to == "" {
			c.t.Error("a Checkout has no URL")
		}
		u.session = session
		return nil
	})
	if u.session != "" && c.random.IntN(2) == 0 && c.till.Pay(u.session, stripetest.CardGood, "ada@example.org") == nil {
		c.addCount("Checkouts paid")
	}
}

func (u *user) desktop(c *town) *desktop {
	out, err := c.Instances.Create(c.t.Context(), u.Origin, "", "")
	if err != nil {
		c.t.Fatal(err)
	}
	d, now := &desktop{id: out.Answer.ID, machine: "m-" + out.Answer.ID}, c.Clock.Now()
	d.tell(c, instance.Attempt{At: now, Spec: instance.Spec{ClientToken: d.id, TokenKey: "k1"}}, instance.Launched{Attempt: 1, Machine: d.machine, At: now})
	d.starts(c)
	return d
}

func (d *desktop) tell(c *town, cmds ...instance.Command) {
	for _, cmd := range cmds {
		if _, err := c.Log.ExecuteInstance(c.t.Context(), d.id, cmd); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (d *desktop) runsNow() bool { return len(d.runs) > 0 && d.runs[len(d.runs)-1].to.IsZero() }

func (d *desktop) starts(c *town) {
	now := c.Clock.Now()
	d.launched = now
	d.runs = append(d.runs, run{from: now})
	d.tell(c, instance.Observe{Machine: d.machine, Seen: instance.SeenRunning, At: now, Launched: now})
}

// live starts and stops the machine. Sometimes the cloud's answers show for hours that it has stopped, although it runs: what
// it used is known only later.
func (d *desktop) live(c *town) {
	now := c.Clock.Now()
	switch {
	case !d.ended.IsZero():
		d.tell(c, instance.Observe{Machine: d.machine, Seen: instance.SeenStopped, At: now, Launched: d.launched, Ended: d.ended})
		d.ended = time.Time{}
	case d.hidden > 1:
		d.hidden--
	case d.hidden == 1:
		d.hidden = 0
		d.tell(c, instance.Observe{Machine: d.machine, Seen: instance.SeenRunning, At: now, Launched: d.launched})
	case !d.runsNow() && c.random.IntN(6) == 0:
		d.starts(c)
	case !d.runsNow():
	case c.rarely(20):
		c.addCount("runs known late")
		d.hidden = 3 + c.random.IntN(20)
		d.tell(c, instance.Observe{Machine: d.machine, Seen: instance.SeenStopped, At: now, Launched: d.launched, RanUntil: now.Add(-time.Hour)})
	case c.random.IntN(12) == 0:
		ended := now.Add(-time.Duration(c.random.IntN(100)) * time.Second)
		d.runs[len(d.runs)-1].to = ended
		d.tell(c, instance.Observe{Machine: d.machine, Seen: instance.SeenStopped, At: now, Launched: d.launched, Ended: ended})
	}
}

// unseen stops the machine while no replica looks.
func (d *desktop) unseen(c *town) {
	if d.runsNow() && d.hidden == 0 && c.random.IntN(3) == 0 {
		d.ended = c.Clock.Now()
		d.runs[len(d.runs)-1].to = d.ended
	}
}

// ran returns the seconds that the account's desktops ran on a day, since a time.
func (u *user) ran(day, since time.Time) int64 {
	var sum time.Duration
	for _, d := range u.desktops {
		for _, r := range d.runs {
			from, to := r.from, day.AddDate(0, 0, 1)
			for _, at := range []time.Time{day, since} {
				if from.Before(at) {
					from = at
				}
			}
			if !r.to.IsZero() && r.to.Before(to) {
				to = r.to
			}
			sum += max(0, to.Sub(from))
		}
	}
	return int64(sum / time.Second)
}
