package commands_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func (s *shop) grant(t testing.TB, o commands.Origin, p billing.Plan, until time.Time) {
	t.Helper()
	if _, err := s.plans.Grant(t.Context(), o.Account, p, until, "a test"); err != nil {
		t.Fatalf("grant: %v", err)
	}
}

// run makes a running desktop of a type.
func (s *shop) run(t testing.TB, o commands.Origin, machineType string) string {
	t.Helper()
	out, err := s.Instances.Create(t.Context(), o, "", machineType)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, out.Answer.ID, instance.LaunchAttempted{Attempt: 1, At: s.Clock.Now()})
	s.boot(t, out.Answer.ID)
	return out.Answer.ID
}

func TestGrants(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	if _, err := s.plans.Grant(t.Context(), "01NOACCOUNT", billing.Pro, time.Time{}, ""); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("got %v for no account, want %v", err, account.ErrNotFound)
	}
	if _, err := s.plans.Withdraw(t.Context(), ada.Account); !errors.Is(err, billing.ErrNoGrant) {
		t.Errorf("got %v without a grant, want %v", err, billing.ErrNoGrant)
	}
	state, err := s.plans.Grant(t.Context(), ada.Account, billing.Starter, s.Clock.Now().Add(24*time.Hour), strings.Repeat("x", 300)+"\x00")
	if err != nil || state.Access.Level != billing.Full || state.Grant.Plan != billing.Starter {
		t.Errorf("got %+v, %v, want the plan", state, err)
	}
	if data := s.dataOf(t, "billing.plan_granted"); len(data) != 1 || !strings.Contains(data[0], `"`+strings.Repeat("x", 200)+`"`) {
		t.Errorf("got %v, want the reason at most 200 bytes long", data)
	}
	for _, a := range s.Appends[1:] {
		for _, w := range a.Writes {
			for _, e := range w.Events {
				if e.Meta.Actor != commands.Operator {
					t.Errorf("got %s by %s, want it by the operator", e.Type, e.Meta.Actor)
				}
			}
		}
	}
	if out, err := s.Instances.Create(t.Context(), ada, "", ""); err != nil || out.Answer.Type != "t3.medium" {
		t.Errorf("got %+v, %v, want a desktop of the plan's type", out, err)
	}
}

// What a plan no longer allows stops at its time, with the reason, and not earlier; what it allows goes on.
func TestEnforce(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	sub := s.buy(t, ada, billing.Pro)
	ids := []string{s.run(t, ada, "t3.medium"), s.run(t, ada, "t3.medium"), s.run(t, ada, "t3.medium")}
	large := s.run(t, ada, "t3.large")
	eve, _ := s.SignUp(t, "eve@example.org")
	s.grant(t, eve, billing.Starter, time.Time{})
	hers := s.run(t, eve, "t3.medium")
	running := func() (list []string) {
		for n, id := range append(slices.Clone(ids), large, hers) {
			if s.status(t, id) == instance.Running {
				list = append(list, fmt.Sprint(n))
			}
		}
		return list
	}
	expect := func(when, want string) {
		t.Helper()
		s.enforce(t)
		if got := strings.Join(running(), ""); got != want {
			t.Errorf("%s: got desktops %s running, want %s", when, got, want)
		}
	}
	expect("at first", "01234")
	s.stripe.Change(sub, func(s *billing.Subscription) { s.Price = "price_starter" })
	s.sync(t, ada)
	if v := s.overview(t, ada); !slices.Equal(v.Stopping, []string{ids[2], large}) || !v.StopAt.Equal(s.Clock.Now().Add(terms.Grace)) || v.Held != 4 {
		t.Errorf("got %+v, want the third one and the large one to stop after the grace", v)
	}
	s.Clock.Advance(terms.Grace - 1)
	expect("a moment before the end of the grace", "01234")
	s.Clock.Advance(1)
	expect("after the grace", "014")
	s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
	s.sync(t, ada)
	if v := s.overview(t, ada); v.Access.Level != billing.Due || len(v.Stopping) != 2 || !v.StopAt.Equal(s.Clock.Now().Add(terms.Grace)) {
		t.Errorf("got %+v, want both to stop after the grace", v)
	}
	s.Clock.Advance(terms.Grace - 1)
	expect("a moment before the payment is overdue", "014")
	s.Clock.Advance(1)
	expect("when it is overdue", "4")
	if _, err := s.plans.Withdraw(t.Context(), eve.Account); err != nil {
		t.Fatal(err)
	}
	expect("after her grant was withdrawn", "4")
	s.Clock.Advance(terms.Notice)
	expect("after the notice", "")
	stops := s.dataOf(t, "instance.stop_requested")
	for n, want := range []string{"is for 2 desktops", "is for 2 desktops", "not paid in time", "not paid in time", "has ended"} {
		if n >= len(stops) || !strings.Contains(stops[n], `"cause":"plan"`) || !strings.Contains(stops[n], want) {
			t.Fatalf("got stops %v, want five with their reasons, the %d. with %q", stops, n+1, want)
		}
	}
	head := s.Last(t)
	s.enforce(t)
	if s.Last(t) != head {
		t.Errorf("got %d events of an enforcement again, want none", s.Last(t)-head)
	}
}

// When billing is turned on, desktops that run have the grace. Those that were taken over count, whatever their type is.
func TestEnforceSinceToday(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.require(false)
	ada, _ := s.SignUp(t, "ada@example.org")
	id := s.run(t, ada, "t3.large")
	s.require(true)
	s.enforce(t)
	s.enforce(t)
	if v := s.overview(t, ada); v.Access.Level != billing.None || !v.StopAt.Equal(s.Clock.Now().Add(terms.Grace)) || len(s.dataOf(t, "billing.access_set")) != 1 {
		t.Errorf("got %+v, want no plan and the grace, recorded once", v)
	}
	s.Clock.Advance(terms.Grace - 1)
	s.enforce(t)
	if got := s.status(t, id); got != instance.Running {
		t.Errorf("got %s within the grace, want it running", got)
	}
	s.Clock.Advance(1)
	s.enforce(t)
	if got := s.status(t, id); got != instance.Stopping {
		t.Errorf("got %s after the grace, want it stopping", got)
	}
	bob, _ := s.SignUp(t, "bob@example.org")
	s.grant(t, bob, billing.Starter, time.Time{})
	theirs := s.takeOver(t, bob)
	s.Clock.Advance(1000 * time.Hour)
	s.enforce(t)
	if got := s.status(t, theirs); got != instance.Running {
		t.Errorf("got %s for a machine that was taken over, want it running", got)
	}
}

// takeOver makes a desktop of a machine that another control plane launched, as an import does.
func (s *shop) takeOver(t testing.TB, o commands.Origin) string {
	t.Helper()
	const machine = "i-0123456789abcdef0"
	in := s.imports(machines.Machine{ID: machine, Seen: instance.SeenRunning})
	id, fate, err := in.Machine(t.Context(), o.Account, commands.ForeignMachine{ID: "m", Name: "old", Machine: machine, At: s.Clock.Now()})
	if err != nil || fate != commands.Added {
		t.Fatalf("got %s, %v, want it taken over", fate, err)
	}
	return id
}

// A desktop is stopped by what the log says, not by read models that are out of date.
func TestEnforceWhileReadModelsAreBehind(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	eve, _ := s.SignUp(t, "eve@example.org")
	s.grant(t, eve, billing.Starter, s.Clock.Now().Add(time.Hour))
	s.grant(t, ada, billing.Starter, s.Clock.Now().Add(time.Hour))
	id := s.run(t, ada, "t3.medium")
	s.Clock.Advance(time.Hour)
	s.enforce(t)
	s.Clock.Advance(terms.Notice)
	once := true
	s.Looked = func(stream eventstore.StreamID) {
		if stream.Aggregate == "quota" && stream.ID == ada.Account && once {
			once = false
			s.grant(t, ada, billing.Starter, time.Time{}) // after her desktop was found
		}
	}
	s.payers.Behind.Store(3)
	s.plans.Running = func(_ context.Context, do func(account, id, machineType string) error) error {
		return errors.Join(do(ada.Account, id, "t3.medium"), do(eve.Account, id, "t3.medium"), do(eve.Account, "01GONE", "t3.medium"))
	}
	s.enforce(t)
	if got := s.status(t, id); once || got != instance.Running {
		t.Errorf("got %s, want it running by the plan that was granted", got)
	}
}

// Desktops on the server's own computer are in each plan, also older ones, which have the name of an EC2 type.
func TestPlansOfLocalDesktops(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.require(false)
	s.Instances.Cloud = here{only{types: []string{"t3.xlarge"}}}
	ada, _ := s.SignUp(t, "ada@example.org")
	id := s.run(t, ada, "t3.xlarge")
	s.require(true)
	s.grant(t, ada, billing.Starter, time.Time{})
	s.Clock.Advance(terms.Grace)
	s.enforce(t)
	if got := s.status(t, id); got != instance.Running {
		t.Fatalf("got %s, want it running", got)
	}
	s.stop(t, ada, id)
	if _, err := s.Instances.Start(t.Context(), ada, id); err != nil {
		t.Errorf("start: %v", err)
	}
}

// here is a cloud on the server's own computer.
type here struct{ only }

func (here) Region() string { return machines.Local }

// One unreadable account does not keep others from being enforced.
func TestEnforceBesideADamagedOne(t *testing.T) {
	t.Parallel()
	s := newShop()
	var ids []string
	for _, name := range []string{"ada", "bob", "eve"} {
		o, _ := s.SignUp(t, name+"@example.org")
		s.grant(t, o, billing.Starter, s.Clock.Now().Add(time.Hour))
		ids = append(ids, s.run(t, o, "t3.medium"))
	}
	s.Clock.Advance(time.Hour)
	s.enforce(t)
	s.damage(t, ids[1])
	s.Clock.Advance(terms.Notice)
	s.plans.Running = func(_ context.Context, do func(account, id, machineType string) error) error {
		var failed error
		for n, id := range ids {
			acc := strings.Split(s.dataOf(t, "instance.requested")[n], `"`)[3]
			failed = errors.Join(failed, do(acc, id, "t3.medium"))
		}
		return failed
	}
	if err := s.plans.Enforce(t.Context()); !errors.Is(err, eventstore.ErrDamaged) {
		t.Errorf("got %v, want error %v", err, eventstore.ErrDamaged)
	}
	for _, id := range []string{ids[0], ids[2]} {
		if got := s.status(t, id); got != instance.Stopping {
			t.Errorf("got %s, want it stopping", got)
		}
	}
}

// A desktop that is starting when its plan ends stops once it runs.
func TestEnforceAStartingDesktop(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.grant(t, ada, billing.Starter, s.Clock.Now().Add(time.Hour))
	id := s.asleep(t, ada, "t3.medium")
	if _, err := s.Instances.Start(t.Context(), ada, id); err != nil {
		t.Fatal(err)
	}
	s.Clock.Advance(time.Hour)
	s.enforce(t)
	s.Clock.Advance(terms.Notice)
	s.enforce(t)
	if got := s.status(t, id); got != instance.Starting {
		t.Fatalf("got %s, want it starting", got)
	}
	s.write(t, id, instance.MachineRunning{At: s.Clock.Now()})
	s.enforce(t)
	if got := s.status(t, id); got != instance.Stopping {
		t.Errorf("got %s, want it stopping", got)
	}
}

// A payment of which no delivery told is found before the time for it is over, so what was paid runs on. If Stripe does not
// answer, that waits for a day.
func TestEnforceAsksStripeBeforeItStops(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		paid, away bool
		later      time.Duration
		want       instance.Status
	}{
		"paid":                         {paid: true, want: instance.Running},
		"not paid":                     {want: instance.Stopping},
		"Stripe is away":               {away: true, want: instance.Running},
		"Stripe is away, a moment yet": {away: true, later: 24*time.Hour - 1, want: instance.Running},
		"Stripe is away for a day":     {away: true, later: 24 * time.Hour, want: instance.Stopping},
	} {
		s := newShop()
		s.plans.Payments = s.payments
		ada, _ := s.SignUp(t, "ada@example.org")
		sub := s.buy(t, ada, billing.Pro)
		id := s.run(t, ada, "t3.large")
		s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.PastDue })
		s.sync(t, ada)
		if c.paid {
			s.stripe.Change(sub, func(s *billing.Subscription) { s.Status = billing.Active })
		}
		s.Clock.Advance(terms.Grace + c.later)
		if c.away {
			s.stripe.Before = func(string) error { return commandstest.ErrNoAnswer }
		}
		if err := s.plans.Enforce(t.Context()); (err != nil) != (c.away && c.want == instance.Running) {
			t.Errorf("%s: enforce: got %v", name, err)
		}
		if got := s.status(t, id); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if got := s.level(t, ada); c.paid && got != "full pro" {
			t.Errorf("%s: got %s, want the plan that was paid", name, got)
		}
	}
}

// Where all accounts fail, as while Stripe or the database is away, the error names a few of them.
func TestEnforceNamesAFewFailures(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.grant(t, ada, billing.Starter, s.Clock.Now().Add(time.Hour))
	id := s.run(t, ada, "t3.medium")
	s.Clock.Advance(time.Hour)
	s.enforce(t)
	s.damage(t, id)
	s.Clock.Advance(terms.Notice)
	s.plans.Running = func(_ context.Context, do func(account, id, machineType string) error) (failed error) {
		for range 2000 {
			failed = do(ada.Account, id, "t3.medium")
		}
		return failed
	}
	err := s.plans.Enforce(t.Context())
	if !errors.Is(err, eventstore.ErrDamaged) || len(err.Error()) > 10_000 || !strings.Contains(err.Error(), "and 1990 more") {
		t.Errorf("got an error of %d bytes, want one that names a few and the number of the others", len(fmt.Sprint(err)))
	}
}
