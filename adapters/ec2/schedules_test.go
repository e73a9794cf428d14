package ec2_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// slow is a cloud that is slow and never fails.
var slow = ec2test.Plan{
	Latency: ec2test.Span{Min: 50 * time.Millisecond, Max: 900 * time.Millisecond}, Boot: ec2test.Span{Min: 5 * time.Second, Max: 90 * time.Second},
	Stop: ec2test.Span{Min: 5 * time.Second, Max: 80 * time.Second}, Terminate: ec2test.Span{Min: 5 * time.Second, Max: 60 * time.Second},
	Unknown: ec2test.Span{Max: time.Minute}, Lag: ec2test.Span{Max: 8 * time.Second}, Limits: true,
}

// rough is a plan that the saga must survive without a reconciler.
func rough() ec2test.Plan {
	p := slow
	p.Throttled, p.Internal, p.InternalDone, p.LostRequest, p.LostReply = 60, 40, 40, 60, 90
	p.Hung, p.HungDone, p.NoCapacity, p.Expired, p.Idle, p.Dies, p.Stuck, p.Undone, p.Unseen = 12, 18, 120, 20, 40, 20, 40, 60, 30
	return p
}

// roughest adds launches that take effect minutes after their connection was cut, and rights that are missing
// exactly when a repeated launch would have found its machine.
func roughest() ec2test.Plan {
	p := rough()
	p.Late, p.Refused = 60, 50
	return p
}

// schedule plays one seed: faults, kills and users' commands, then calm. Its error says where ledger and log
// disagree.
func schedule(t testing.TB, c setup, sagas int, counts *provisionertest.Tally) (*stage, error) {
	s := newStage(t, c)
	r := rand.New(rand.NewPCG(c.seed, 99))
	crashes := rand.New(rand.NewPCG(c.seed, 98))
	s.CrashAt(func(string) bool {
		now := crashes.IntN(30) == 0
		if now {
			counts.Add("kills at a failpoint", 1)
		}
		return now
	})
	for range sagas {
		s.Start()
	}
	ids := []string{s.Create()}
	s.Play(r, sagas, func() { s.act(r, &ids, counts) })
	s.srv.SetPlan(slow)
	err := s.Settle(sagas, s.agree)
	for what, n := range s.srv.Faults() {
		counts.Add(what, n)
	}
	for kind, n := range s.fixed {
		counts.Add("reconciler: "+string(kind), n)
	}
	for _, st := range s.Fold() {
		counts.Add(string(st.Status), 1)
		counts.Add("instances", 1)
		counts.Add("attempts", st.Attempts)
	}
	for what, n := range s.srv.Calls() {
		counts.Add(what, n)
	}
	for _, e := range s.srv.Ledger() {
		if e.Launch != nil {
			counts.Add("machines", 1)
		}
	}
	s.Stop()
	return s, err
}

// act plays the next act of a user, a guest, an operator or the world.
func (s *stage) act(r *rand.Rand, ids *[]string, counts *provisionertest.Tally) {
	id := (*ids)[r.IntN(len(*ids))]
	switch n := r.IntN(40); {
	case n < 3:
		if created := s.Do("create", ""); created != "" {
			*ids = append(*ids, created)
		}
	case n < 9:
		s.Do("stop", id)
	case n < 17:
		s.Do("start", id)
	case n < 20:
		s.Do("terminate", id)
	case n < 22:
		machines := s.srv.Machines()
		if len(machines) > 0 {
			to := []ec2test.State{ec2test.Stopped, ec2test.Running, ec2test.Stopped, ec2test.Terminated}[r.IntN(4)]
			if s.srv.Outside(machines[r.IntN(len(machines))].ID, to) == nil {
				counts.Add("outside", 1)
			}
		}
	case n < 24:
		s.Kill()
		counts.Add("kills at any moment", 1)
	case n < 26:
		s.srv.SetFull("t3.large", s.subnets[r.IntN(2)], r.IntN(2) == 0)
	default:
		s.Speak(func() bool { return r.IntN(3) == 0 })
	}
}

// TestSchedules plays seeded schedules of API faults, kills and users' commands through the real
// saga, adapter and SDK. No instance ever has two machines, no machine is orphaned or forgotten, and every
// instance ends in a stable state with a reason. In a fifth of them launches arrive late; there a reconciler
// runs as well, and finds nothing to terminate.
func TestSchedules(t *testing.T) {
	t.Parallel()
	schedules, lanes := 300, 2
	switch {
	case os.Getenv("LONG") != "": // make faults
		schedules = 2000
	case testing.Short():
		schedules = 200
	}
	var alone, late provisionertest.Tally
	t.Run("seeds", func(t *testing.T) {
		for lane := range lanes {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for seed := lane; seed < schedules; seed += lanes {
					synctest.Test(t, func(t *testing.T) {
						c, counts := setup{seed: uint64(seed), plan: rough(), workers: 1 + seed/2%2}, &alone
						if seed%5 == 0 {
							c.plan, c.reconcile, counts = roughest(), true, &late
						}
						if s, err := schedule(t, c, 1, counts); err != nil {
							t.Errorf("seed %d: %v\n%s", seed, err, s.History())
						}
						counts.Add("schedules", 1)
					})
					if t.Failed() {
						t.FailNow()
					}
				}
			})
		}
	})
	t.Logf("saga alone: %v", &alone)
	t.Logf("with late launches and the reconciler: %v", &late)
	alone.Check(t, "throttled", "internal", "internal, done", "request lost", "reply lost", "hung", "hung, done", "no capacity", "expired", "idle", "dies", "stuck stop", "undone", "unseen", "outside", "kills at a failpoint", "kills at any moment", "terminated", "failed", "running", "stopped")
	late.Check(t, "late", "refused")
	if n := late.Of("reconciler: terminate"); n > 0 {
		t.Errorf("got %d machines that the reconciler terminated, want 0: a saga launched too many", n)
	}
}

// The same seed gives the same history.
func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	for seed := uint64(5000); seed < 5006; seed++ {
		var histories [2]string
		for i := range histories {
			synctest.Test(t, func(t *testing.T) {
				s, err := schedule(t, setup{seed: seed, plan: rough(), workers: 1}, 1, &provisionertest.Tally{})
				if err != nil {
					t.Error(err)
				}
				histories[i] = s.History()
			})
		}
		if histories[0] != histories[1] {
			t.Errorf("seed %d: got\n%s\nwant\n%s", seed, histories[1], histories[0])
		}
	}
}

// journey passes every failpoint: refusals, a lost reply, a boot that takes too long, stop, start, a termination, a
// cancelled launch, a launch that is given up, and an impossible one.
func journey(s *stage) {
	s.srv.Script("RunInstances", ec2test.Fate{Code: "InsufficientInstanceCapacity", Status: 500}, ec2test.Fate{Cut: true, Effect: true})
	for _, action := range []string{"StopInstances", "StartInstances"} {
		s.srv.Script(action, ec2test.Fate{Code: "RequestLimitExceeded", Status: 503})
	}
	s.Start()
	var id string
	for range 2 {
		s.Mute = true
		id = s.Create()
		s.Until("stalled", id, func(st instance.State) bool { return st.Stalled })
		s.Mute = false
		s.Until("ready", id, provisionertest.Ready)
	}
	s.Do("stop", id)
	s.Until("stopped", id, provisionertest.Status(instance.Stopped))
	s.Do("start", id)
	s.Until("ready", id, provisionertest.Ready)
	s.Do("terminate", id)
	s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
	for range 2 {
		s.srv.Script("RunInstances", many(10, ec2test.Fate{Code: "RequestLimitExceeded", Status: 503})...)
		busy := s.Create()
		s.Until("failed", busy, provisionertest.Status(instance.StatusFailed))
	}
	cancelled := s.Create()
	s.Until("open", cancelled, func(st instance.State) bool { return st.Attempts > 0 })
	s.Do("terminate", cancelled)
	s.Until("terminated", cancelled, provisionertest.Status(instance.StatusTerminated))
	for range 2 {
		s.srv.Script("RunInstances", ec2test.Fate{Code: "OptInRequired", Status: 401})
		refused := s.Create()
		s.Until("failed", refused, provisionertest.Status(instance.StatusFailed))
	}
	s.agreed()
}

// The saga is killed at every failpoint, at the first and the second pass.
func TestKillsAtEveryFailpoint(t *testing.T) {
	t.Parallel()
	var points map[string]int
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		journey(s)
		s.Stop()
		points = s.Points()
	})
	kills := 0
	for point, passed := range points {
		for nth := 1; nth <= min(passed, 2); nth++ {
			kills++
			t.Run(fmt.Sprint(point, " ", nth), func(t *testing.T) {
				t.Parallel()
				play(t, setup{seed: 1, plan: slow}, func(s *stage) {
					killed := s.CrashOnce(point, nth)
					journey(s)
					if !killed() {
						t.Errorf("got no kill, want one at %s", point)
					}
				})
			})
		}
	}
	t.Logf("%d failpoints, %d kills: %v", len(points), kills, points)
	var all []string
	for _, step := range []string{"attempt", "abandon", "stall", "conclude", "call.launch", "call.stop", "call.start", "call.terminate"} {
		all = append(all, "append."+step+".before", "append."+step+".after")
		if strings.HasPrefix(step, "call.") {
			all = append(all, "call."+step+".before", "call."+step+".after")
		}
	}
	for _, want := range all {
		if points[want] == 0 {
			t.Errorf("got no pass of failpoint %s in the journey, want one", want)
		}
	}
}
