package commands_test

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// asleep makes a stopped desktop that is to be started for a job now.
func (s *shop) asleep(t testing.TB, o commands.Origin, machineType string) string {
	t.Helper()
	id := s.run(t, o, machineType)
	s.write(t, id, instance.StopRequested{At: s.Clock.Now(), Cause: instance.CauseIdle, WakeAt: s.Clock.Now(), Jobs: "wake"})
	s.stopped(t, id)
	return id
}

// launches tries all ways to get a desktop running, and returns the codes of their refusals. Planned is when the start of the
// stopped desktop is planned.
func (s *shop) launches(t testing.TB, o commands.Origin, stopped string, planned time.Time) map[string]string {
	t.Helper()
	got := map[string]string{"create": s.create(t, o, "t3.medium"), "with keys": ""}
	_, keys := s.Instances.CreateWithKeys(t.Context(), o, "", "t3.medium", map[string]string{"anthropic": "sk-ant-0123456789"})
	got["with keys"] = commandstest.Code(keys)
	_, job := s.Log.StartForJob(t.Context(), stopped, planned)
	got["job"] = commandstest.Code(job)
	_, because := s.Log.ExecuteInstance(t.Context(), stopped, instance.StartBecause{At: s.Clock.Now(), Cause: instance.CauseJob, Why: "A job is due."})
	got["because"] = commandstest.Code(because)
	_, start := s.Instances.Start(t.Context(), o, stopped)
	got["start"] = commandstest.Code(start)
	return got
}

// No way to get a desktop running works without a plan, and the refusals leave nothing behind.
func TestGates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		until func(s *shop, o commands.Origin)
		want  map[string]string // "": all
	}{
		"never had a plan": {func(*shop, commands.Origin) {}, map[string]string{"": "plan_needed"}},
		"withdrawn": {func(s *shop, o commands.Origin) {
			s.grant(t, o, billing.Pro, time.Time{})
			if _, err := s.plans.Withdraw(t.Context(), o.Account); err != nil {
				t.Fatal(err)
			}
		}, map[string]string{"": "plan_ended"}},
		"over, and the role is late": {func(s *shop, o commands.Origin) {
			s.grant(t, o, billing.Pro, s.Clock.Now().Add(time.Minute))
			s.Clock.Advance(time.Minute)
		}, map[string]string{"": "plan_ended"}},
		"not paid, and the role is late": {func(s *shop, o commands.Origin) {
			id := s.buy(t, o, billing.Pro)
			s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.PastDue })
			s.sync(t, o)
			s.Clock.Advance(terms.Grace)
		}, map[string]string{"": "payment_failed"}},
		"not paid yet": {func(s *shop, o commands.Origin) {
			id := s.buy(t, o, billing.Pro)
			s.stripe.Change(id, func(s *billing.Subscription) { s.Status = billing.PastDue })
			s.sync(t, o)
			s.Clock.Advance(terms.Grace - 1)
		}, map[string]string{"create": "payment_due", "with keys": "payment_due"}},
		"a smaller plan": {func(s *shop, o commands.Origin) { s.grant(t, o, billing.Starter, time.Time{}) },
			map[string]string{"with keys": "quota_exceeded", "job": "plan_too_small", "because": "plan_too_small", "start": "plan_too_small"}},
	} {
		s := newShop()
		s.require(false)
		ada, _ := s.SignUp(t, "ada@example.org")
		planned := s.Clock.Now()
		stopped := s.asleep(t, ada, "t3.large")
		s.require(true)
		c.until(s, ada)
		head := s.Last(t)
		for way, got := range s.launches(t, ada, stopped, planned) {
			want, ok := c.want[way]
			if !ok {
				want = c.want[""]
			}
			if got != want && !(want == "" && way == "start") { // the job's start was earlier
				t.Errorf("%s: %s: got %q, want %q", name, way, got, want)
			}
		}
		if c.want[""] != "" && s.Last(t) != head {
			t.Errorf("%s: got %d events of refusals, want none", name, s.Last(t)-head)
		}
	}
}

// A start by a plan that ends at the same time is decided again.
func TestPlanEndsDuringAStart(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"start", "create"} {
		s := newShop()
		ada, _ := s.SignUp(t, "ada@example.org")
		s.grant(t, ada, billing.Pro, time.Time{})
		stopped := s.asleep(t, ada, "t3.large")
		once := true
		s.Looked = func(stream eventstore.StreamID) {
			if stream.Aggregate == "quota" && once {
				once = false
				if _, err := s.plans.Withdraw(t.Context(), ada.Account); err != nil {
					t.Error(err)
				}
			}
		}
		var err error
		if way == "start" {
			_, err = s.Instances.Start(t.Context(), ada, stopped)
		} else {
			_, err = s.Instances.Create(t.Context(), ada, "", "")
		}
		if once || commandstest.Code(err) != "plan_ended" {
			t.Errorf("%s: got %v, want plan_ended", way, err)
		}
	}
}

// The default type of an account whose plan's type the cloud does not have is the first one that the plan allows.
func TestDefaultType(t *testing.T) {
	t.Parallel()
	s := newShop()
	ada, _ := s.SignUp(t, "ada@example.org")
	s.grant(t, ada, billing.Enterprise, time.Time{})
	for want, types := range map[string][]string{
		"t3.medium": {"m7.metal", "t3.medium", "t3.large"},
		"local":     {"local"},
		"t3.xlarge": {"m7.metal", "t3.medium", "t3.xlarge"},
	} {
		s.Instances.Cloud = only{types: types}
		if out, err := s.Instances.Create(t.Context(), ada, "", ""); err != nil || out.Answer.Type != want {
			t.Errorf("got %+v, %v of %v, want %s", out, err, types, want)
		}
	}
	s.Instances.Cloud = only{types: []string{"m7.metal"}}
	if got := s.create(t, ada, ""); got != "plan_too_small" {
		t.Errorf("got %q where the cloud has nothing of the plan, want plan_too_small", got)
	}
}

// only is a cloud with some types.
type only struct {
	machines.Cloud
	types []string
}

func (only) Region() string { return "eu-central-1" }

func (c only) Types() (list []machines.MachineType) {
	for _, id := range c.types {
		list = append(list, machines.MachineType{ID: id})
	}
	return list
}

// A desktop that was taken over has no known size, so every plan allows it: it starts, and no change of plan stops it.
func TestPlansAllowDesktopsThatWereTakenOver(t *testing.T) {
	t.Parallel()
	s := newShop()
	const one, two = "i-0123456789abcdef0", "i-0123456789abcdef1"
	in := s.imports(machines.Machine{ID: one, Seen: instance.SeenRunning, Address: "203.0.113.7"}, machines.Machine{ID: two, Seen: instance.SeenStopped})
	account, _, err := in.Account(t.Context(), commands.ForeignAccount{ID: "a", Email: "ada@example.org", Hash: s.Passwords.OutdatedHash("hi")})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, machine := range []string{one, two} {
		id, _, err := in.Machine(t.Context(), account, commands.ForeignMachine{ID: machine, Name: "old", Machine: machine, At: s.Clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	ada := commands.Origin{Account: account}
	s.grant(t, ada, billing.Starter, time.Time{})
	s.Clock.Advance(terms.Grace)
	s.enforce(t)
	if got := s.status(t, ids[0]); got != instance.Running {
		t.Errorf("got %s after the grace, want it to run on", got)
	}
	if v := s.overview(t, ada); len(v.Stopping) != 0 {
		t.Errorf("got %+v, want none to stop", v)
	}
	if _, err := s.Instances.Start(t.Context(), ada, ids[1]); err != nil {
		t.Errorf("start: got %v, want it to start", err)
	}
}
