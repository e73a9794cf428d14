package ec2_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/retry"

	"errors"
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

// tally counts the faults that the schedules met, so that a run without any is noticed.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
}

func (c *tally) add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[what] += n
}

// schedule plays one seed: faults, kills and users' commands, then calm. Its error says where ledger and log
// disagree.
func schedule(t testing.TB, c setup, sagas int, counts *tally) (*stage, error) {
	s := newStage(t, c)
	r := rand.New(rand.NewPCG(c.seed, 99))
	crashes := rand.New(rand.NewPCG(c.seed, 98))
	s.crashes(func(string) bool {
		now := crashes.IntN(30) == 0
		if now {
			counts.add("kills at a failpoint", 1)
		}
		return now
	})
	for range sagas {
		s.start()
	}
	ids := []string{s.create()}
	for range 12 + r.IntN(14) {
		_ = retry.Sleep(context.Background(), time.Duration(r.Int64N(int64(50*time.Second))))
		synctest.Wait()
		s.act(r, &ids, counts)
		synctest.Wait()
		if s.dead() || len(s.runs) < sagas {
			_ = retry.Sleep(context.Background(), time.Duration(r.Int64N(int64(2*time.Minute))))
			s.start()
		}
	}
	s.crashes(nil)
	s.srv.SetPlan(slow)
	err := s.settle(sagas)
	for what, n := range s.srv.Faults() {
		counts.add(what, n)
	}
	for kind, n := range s.fixed {
		counts.add("reconciler: "+string(kind), n)
	}
	for _, st := range s.fold() {
		counts.add(string(st.Status), 1)
		counts.add("instances", 1)
		counts.add("attempts", st.Attempts)
	}
	for what, n := range s.srv.Calls() {
		counts.add(what, n)
	}
	for _, e := range s.srv.Ledger() {
		if e.Launch != nil {
			counts.add("machines", 1)
		}
	}
	s.stop()
	return s, err
}

// settle lets time pass without faults until ledger and log agree twice in a row.
func (s *stage) settle(sagas int) error {
	err := errors.New("not looked")
	for range 30 {
		if s.dead() || len(s.runs) < sagas {
			s.start()
		}
		_ = retry.Sleep(context.Background(), 6*time.Minute)
		synctest.Wait()
		for range 6 {
			s.speak(nil)
		}
		was := err
		if err = s.agree(); err == nil && was == nil {
			return nil
		}
		if f := (fatal{}); errors.As(err, &f) {
			return err
		}
	}
	return err
}

// act plays the next act of a user, a guest, an operator or the world.
func (s *stage) act(r *rand.Rand, ids *[]string, counts *tally) {
	id := (*ids)[r.IntN(len(*ids))]
	switch n := r.IntN(40); {
	case n < 3:
		out, err := s.instances.Create(context.Background(), origin, "desk", "")
		if no := (*domain.Error)(nil); err == nil {
			*ids = append(*ids, out.Answer.ID)
		} else if !errors.As(err, &no) {
			s.wrong("create: %v", err)
		}
	case n < 9:
		s.do("stop", id)
	case n < 17:
		s.do("start", id)
	case n < 20:
		s.do("terminate", id)
	case n < 22:
		machines := s.srv.Machines()
		if len(machines) > 0 {
			to := []ec2test.State{ec2test.Stopped, ec2test.Running, ec2test.Stopped, ec2test.Terminated}[r.IntN(4)]
			if s.srv.Outside(machines[r.IntN(len(machines))].ID, to) == nil {
				counts.add("outside", 1)
			}
		}
	case n < 24:
		for _, run := range s.runs {
			run.cancel()
		}
		counts.add("kills at any moment", 1)
	case n < 26:
		s.srv.SetFull("t3.large", s.subnets[r.IntN(2)], r.IntN(2) == 0)
	default:
		s.speak(func() bool { return r.IntN(3) == 0 })
	}
}

// TestSchedules plays seeded schedules of API faults, kills and users' commands through the real
// saga, adapter and SDK. No instance ever has two machines, no machine is orphaned or forgotten, and every
// instance ends in a stable state with a reason. In a fifth of them launches arrive late; there a reconciler
// runs as well, and finds nothing to terminate.
func TestSchedules(t *testing.T) {
	t.Parallel()
	schedules, lanes := 2000, 2
	if testing.Short() {
		schedules = 200
	}
	var alone, late tally
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
							t.Errorf("seed %d: %v\n%s", seed, err, s.history())
						}
						counts.add("schedules", 1)
					})
					if t.Failed() {
						t.FailNow()
					}
				}
			})
		}
	})
	t.Logf("saga alone: %v", alone.counts)
	t.Logf("with late launches and the reconciler: %v", late.counts)
	for _, what := range []string{"throttled", "internal", "internal, done", "request lost", "reply lost", "hung", "hung, done", "no capacity", "expired", "idle", "dies", "stuck stop", "undone", "unseen", "outside", "kills at a failpoint", "kills at any moment", "terminated", "failed", "running", "stopped"} {
		if alone.counts[what] == 0 {
			t.Errorf("got no schedule with %q, want some", what)
		}
	}
	for _, what := range []string{"late", "refused"} {
		if late.counts[what] == 0 {
			t.Errorf("got no schedule with %q, want some", what)
		}
	}
	if n := late.counts["reconciler: terminate"]; n > 0 {
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
				s, err := schedule(t, setup{seed: seed, plan: rough(), workers: 1}, 1, &tally{})
				if err != nil {
					t.Error(err)
				}
				histories[i] = s.history()
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
	s.start()
	var id string
	for range 2 {
		s.mute = true
		id = s.create()
		s.until("stalled", id, func(st instance.State) bool { return st.Stalled })
		s.mute = false
		s.until("ready", id, ready)
	}
	s.do("stop", id)
	s.until("stopped", id, status(instance.Stopped))
	s.do("start", id)
	s.until("ready", id, ready)
	s.do("terminate", id)
	s.until("terminated", id, status(instance.StatusTerminated))
	for range 2 {
		s.srv.Script("RunInstances", many(10, ec2test.Fate{Code: "RequestLimitExceeded", Status: 503})...)
		busy := s.create()
		s.until("failed", busy, status(instance.StatusFailed))
	}
	cancelled := s.create()
	s.until("open", cancelled, func(st instance.State) bool { return st.Attempts > 0 })
	s.do("terminate", cancelled)
	s.until("terminated", cancelled, status(instance.StatusTerminated))
	for range 2 {
		s.srv.Script("RunInstances", ec2test.Fate{Code: "OptInRequired", Status: 401})
		refused := s.create()
		s.until("failed", refused, status(instance.StatusFailed))
	}
	s.agreed()
}

// The saga is killed at every failpoint, at the first and the second pass.
func TestKillsAtEveryFailpoint(t *testing.T) {
	t.Parallel()
	var points map[string]int
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		journey(s)
		s.stop()
		points = s.points
	})
	kills := 0
	for point, passed := range points {
		for nth := 1; nth <= min(passed, 2); nth++ {
			kills++
			t.Run(fmt.Sprint(point, " ", nth), func(t *testing.T) {
				t.Parallel()
				play(t, setup{seed: 1, plan: slow}, func(s *stage) {
					seen, killed := 0, false
					s.crash = func(p string) bool {
						if p == point {
							seen++
						}
						now := p == point && seen == nth && !killed
						killed = killed || now
						return now
					}
					journey(s)
					if !killed {
						t.Error("it was not killed")
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
