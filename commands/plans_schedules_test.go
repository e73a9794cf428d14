package commands_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// fault is a guard that a schedule leaves out.
type fault string

const (
	sound       fault = ""
	noGate      fault = "one replica does not ask for a plan when users create and start desktops"
	noJobGate   fault = "one replica does not ask for a plan when it starts desktops for jobs"
	noAllowance fault = "the quota does not get what the plan allows"
	noEnforcing fault = "no desktop is stopped"
	noConflict  fault = "two writers of an account's streams do not conflict"
)

// TestPlanSchedules plays seeded schedules of plan changes, payments, grants, cancellations, lost deliveries and answers, time,
// creates, starts and jobs through several replicas. In the log, no desktop is requested and none is started without a plan that
// allows it, and after the last enforcement none runs without one.
func TestPlanSchedules(t *testing.T) {
	t.Parallel()
	schedules, lanes := 200, 2
	if os.Getenv("LONG") != "" { // make faults
		schedules = 1000
	}
	var counts provisionertest.Tally
	t.Run("seeds", func(t *testing.T) {
		for lane := range lanes {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for seed := lane; seed < schedules; seed += lanes {
					if err := playPlans(t, uint64(seed), sound, &counts); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					counts.Add("schedules", 1)
				}
			})
		}
	})
	met := []string{
		"schedules", "creates", "creates refused", "starts", "starts refused", "starts for jobs", "starts for jobs refused", "decided again",
		"machines launched", "launches given up", "ended by a create, launch or start", "stopped by a plan", "payments", "payments failed", "plans changed", "grants", "withdrawals", "cancellations", "Checkouts",
	}
	for _, what := range met {
		t.Logf("%6d %s", counts.Of(what), what)
	}
	counts.Check(t, met...)
}

// Each guard is found missing by some schedule.
func TestPlantedPlanFaults(t *testing.T) {
	t.Parallel()
	for _, missing := range []fault{noGate, noJobGate, noAllowance, noEnforcing, noConflict} {
		t.Run(string(missing), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(300) {
				if err := playPlans(t, seed, missing, &provisionertest.Tally{}); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("got 300 schedules without a violation, want one")
		})
	}
}

// planPlay is one schedule.
type planPlay struct {
	*testing.T
	r        *rand.Rand
	missing  fault
	counts   *provisionertest.Tally
	log      *planLog
	replicas []*shop
	owners   []commands.Origin
	depth    int // of steps within steps
	failed   error
}

func playPlans(t *testing.T, seed uint64, missing fault, counts *provisionertest.Tally) error {
	t.Helper()
	p := &planPlay{T: t, r: rand.New(rand.NewPCG(seed, 15)), missing: missing, counts: counts}
	p.log = &planLog{Store: memory.New(), missing: missing, counts: counts}
	ids := commandstest.NewIDs()
	for n := range 3 {
		s := newShopOn(newWorldOn(p.log, 1))
		if n > 0 {
			first := p.replicas[0]
			s.Clock, s.Vault, s.stripe = first.Clock, first.Vault, first.stripe
			s.Accounts.Vault, s.Instances.Vault, s.Keys.Vault = s.Vault, s.Vault, s.Vault
		}
		s.Log.NewID, s.Log.Now = ids, s.Clock.Now
		s.require(true)
		s.Instances.Plans, s.Log.Plans = n != 1 || missing != noGate, n != 1 || missing != noJobGate
		s.payments.RepeatAfter = time.Nanosecond
		s.Lose = func(eventstore.Append) bool { return p.r.IntN(60) == 0 }
		s.Looked = func(eventstore.StreamID) { p.between() }
		p.replicas = append(p.replicas, s)
	}
	p.replicas[0].stripe.Seen = func(string) { p.between() }
	p.replicas[0].stripe.After = func(string) error {
		if p.r.IntN(20) == 0 {
			return commandstest.ErrNoAnswer
		}
		return nil
	}
	p.depth = 9
	for n := range 2 {
		for len(p.owners) == n {
			login, err := p.replicas[0].Accounts.SignUp(t.Context(), commands.Origin{}, fmt.Sprint("user", len(p.log.appends), "@example.org"), "correct horse", "", "")
			if err == nil {
				p.owners = append(p.owners, commands.Origin{Account: login.Account, Session: login.Session})
			}
		}
	}
	p.depth = 0
	for range 80 + p.r.IntN(120) {
		p.step()
		if p.failed != nil {
			return p.failed
		}
	}
	return p.end()
}

// between is a moment within a step: another replica may do something.
func (p *planPlay) between() {
	if p.depth > 0 && p.depth < 3 && p.r.IntN(12) == 0 {
		p.step()
	}
}

// ok notes an error that no refusal and no lost answer explains.
func (p *planPlay) ok(what string, err error) bool {
	lost := errors.Is(err, eventstore.ErrUnavailable) || errors.Is(err, commandstest.ErrNoAnswer) || errors.As(err, new(*commands.RefusedError))
	if err != nil && !lost && !errors.As(err, new(*domain.Error)) && p.failed == nil {
		p.failed = fmt.Errorf("%s: %w", what, err)
	}
	return err == nil
}

// step is something that a user, an operator, Stripe, a machine, a role or the clock does.
func (p *planPlay) step() {
	p.depth++
	defer func() { p.depth-- }()
	ctx, s, o := p.Context(), p.replicas[p.r.IntN(len(p.replicas))], p.owners[p.r.IntN(len(p.owners))]
	plan := billing.Offers[p.r.IntN(3)].Plan
	switch n := p.r.IntN(36) - 8; {
	case n < 0:
		p.machine(s, o)
	case n < 4:
		p.create(s, o)
	case n < 10:
		p.start(s, o)
	case n < 13:
		p.machine(s, o)
	case n < 15:
		var until time.Time
		if p.r.IntN(3) > 0 {
			until = s.Clock.Now().Add(time.Duration(1+p.r.IntN(100)) * time.Hour)
		}
		_, err := s.plans.Grant(ctx, o.Account, plan, until, "")
		if p.ok("grant", err) {
			p.counts.Add("grants", 1)
		}
	case n < 16:
		_, err := s.plans.Withdraw(ctx, o.Account)
		if p.ok("withdraw", err) {
			p.counts.Add("withdrawals", 1)
		}
	case n < 18:
		_, session, err := s.payments.Checkout(ctx, o, plan, success, cancel)
		if p.ok("checkout", err) {
			p.counts.Add("Checkouts", 1)
			if p.r.IntN(3) > 0 && s.stripe.Pay(session) != "" {
				p.counts.Add("payments", 1)
			}
		}
	case n < 21:
		p.atStripe(s)
	case n < 22:
		change := s.payments.CancelAtPeriodEnd
		if p.r.IntN(2) == 0 {
			change = s.payments.Resume
		}
		if _, err := change(ctx, o); p.ok("cancel or resume", err) {
			p.counts.Add("cancellations", 1)
		}
	case n < 25:
		p.ok("sync", s.payments.Sync(ctx, o))
	case n < 26:
		if p.missing != noEnforcing {
			p.ok("enforce", s.plans.Enforce(ctx))
		}
	case p.depth == 1: // a step has one time
		minutes := 1 + p.r.IntN(60)
		if p.r.IntN(4) == 0 {
			minutes *= 24 * 3
		}
		if p.r.IntN(8) == 0 {
			minutes = -minutes % 30
		}
		s.Clock.Advance(time.Duration(minutes) * time.Minute)
	}
}

func (p *planPlay) create(s *shop, o commands.Origin) {
	kind := []string{"", "", "t3.medium", "t3.large", "t3.xlarge", "m7.metal"}[p.r.IntN(6)]
	if _, err := s.Instances.Create(p.Context(), o, "", kind); p.ok("create", err) {
		p.counts.Add("creates", 1)
	} else if commandstest.Code(err) != "" {
		p.counts.Add("creates refused", 1)
	}
}

// start starts one of the account's stopped desktops, for its user or for a job.
func (p *planPlay) start(s *shop, o commands.Origin) {
	id, state := p.desktop(o, instance.Stopped)
	if id == "" {
		return
	}
	what, started := "starts", true
	var err error
	if state.WakeAt.IsZero() || p.r.IntN(3) == 0 {
		_, err = s.Instances.Start(p.Context(), o, id)
	} else {
		what = "starts for jobs"
		started, err = s.Log.StartForJob(p.Context(), id, state.WakeAt)
	}
	if p.ok(what, err) && started {
		p.counts.Add(what, 1)
	} else if commandstest.Code(err) != "" {
		p.counts.Add(what+" refused", 1)
	}
}

// desktop returns one of the account's desktops of a status.
func (p *planPlay) desktop(o commands.Origin, statuses ...instance.Status) (string, instance.State) {
	all := p.log.desktops()
	ids := make([]string, 0, len(all))
	for id, d := range all {
		if d.Account == o.Account && slices.Contains(statuses, d.Status) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", instance.State{}
	}
	slices.Sort(ids)
	id := ids[p.r.IntN(len(ids))]
	return id, all[id]
}

// machine lets a machine do what it was asked for, or its user or its idle policy stop it, or its user terminate it.
func (p *planPlay) machine(s *shop, o commands.Origin) {
	id, d := p.desktop(o, instance.Launching, instance.Starting, instance.Running, instance.Running, instance.Stopping, instance.Terminating)
	if id == "" {
		return
	}
	now := s.Clock.Now()
	var cmds []instance.Command
	switch d.Status {
	case instance.Launching:
		cmds = []instance.Command{instance.Attempt{At: now}, instance.Launched{Attempt: 1, Machine: "m-" + id, At: now}, instance.Observe{Machine: "m-" + id, Seen: instance.SeenRunning, At: now}}
	case instance.Starting:
		cmds = []instance.Command{instance.Observe{Machine: "m-" + id, Seen: instance.SeenRunning, At: now}}
	case instance.Stopping:
		cmds = []instance.Command{instance.Observe{Machine: "m-" + id, Seen: instance.SeenStopped, At: now}}
	case instance.Terminating:
		cmds = []instance.Command{instance.Observe{Machine: "m-" + id, Seen: instance.SeenGone, At: now}}
	case instance.Running:
		switch p.r.IntN(7) {
		case 0:
			cmds = []instance.Command{instance.Terminate{At: now}}
		case 1, 2:
			cmds = []instance.Command{instance.Stop{At: now}}
		case 3, 4, 5:
			cmds = []instance.Command{instance.StopBecause{At: now, Cause: instance.CauseIdle, Why: "idle", WakeAt: now, Jobs: "wake"}}
		}
	}
	for _, cmd := range cmds {
		_, err := s.Log.ExecuteInstance(p.Context(), id, cmd)
		p.ok("machine", err)
	}
}

// atStripe changes a subscription at Stripe. Perhaps a delivery tells.
func (p *planPlay) atStripe(s *shop) {
	subs := s.stripe.Subscriptions()
	if len(subs) == 0 {
		return
	}
	sub := subs[p.r.IntN(len(subs))]
	s.stripe.Change(sub.ID, func(sub *billing.Subscription) {
		switch n := p.r.IntN(10); {
		case n < 3:
			sub.Price = "price_" + string(billing.Offers[p.r.IntN(3)].Plan)
			p.counts.Add("plans changed", 1)
		case n < 6 && !sub.Status.Over():
			sub.Status = billing.PastDue
			p.counts.Add("payments failed", 1)
		case n < 8 && !sub.Status.Over():
			sub.Status = billing.Active
		case n < 9 && !sub.Status.Over():
			sub.Status = billing.Unpaid
		default:
			sub.Status = billing.Canceled
		}
	})
	if p.r.IntN(3) > 0 {
		p.ok("delivery", s.payments.Sync(p.Context(), commands.Origin{Account: sub.Account}))
	}
}

// end lets all machines arrive, and enforces plans until no time that was announced is left.
func (p *planPlay) end() error {
	p.depth = 9
	s, ctx := p.replicas[0], context.Background()
	for _, replica := range p.replicas {
		replica.Lose = nil
	}
	s.stripe.After = nil
	for _, o := range p.owners {
		if err := s.payments.Sync(ctx, o); err != nil {
			return err
		}
	}
	for range 3 {
		for id, d := range p.log.desktops() {
			if d.Status == instance.Launching || d.Status == instance.Starting {
				for _, cmd := range []instance.Command{
					instance.Attempt{At: s.Clock.Now()}, instance.Launched{Attempt: 1, Machine: "m-" + id, At: s.Clock.Now()},
					instance.Observe{Machine: "m-" + id, Seen: instance.SeenRunning, At: s.Clock.Now()},
				} {
					if _, err := s.Log.ExecuteInstance(ctx, id, cmd); err != nil && !errors.Is(err, instance.ErrSuperseded) {
						return err
					}
				}
			}
		}
		if p.missing != noEnforcing {
			if err := s.plans.Enforce(ctx); err != nil {
				return err
			}
		}
		s.Clock.Advance(terms.Grace + 3*time.Hour)
	}
	if p.missing != noEnforcing {
		if err := s.plans.Enforce(ctx); err != nil {
			return err
		}
	}
	return p.log.check(s.Clock.Now())
}
