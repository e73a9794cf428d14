package ec2_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func many(n int, f ec2test.Fate) (list []ec2test.Fate) {
	for range n {
		list = append(list, f)
	}
	return list
}

// The answers that a launch may get, and what follows from them.
func TestLaunchRows(t *testing.T) {
	t.Parallel()
	no := func(code string, status int) ec2test.Fate { return ec2test.Fate{Code: code, Status: status} }
	for _, c := range []struct {
		name     string
		fates    []ec2test.Fate
		want     instance.Status
		code     string
		machines int
		attempts int
	}{
		{"throttled", many(4, no("RequestLimitExceeded", 503)), instance.Running, "", 1, 1},
		{"500s", many(5, no("InternalError", 500)), instance.Running, "", 1, 1},
		{"500 after the effect", []ec2test.Fate{{Code: "InternalError", Status: 500, Effect: true}}, instance.Running, "", 1, 1},
		{"reply lost after success", many(3, ec2test.Fate{Cut: true, Effect: true}), instance.Running, "", 1, 1},
		{"request lost", many(3, ec2test.Fate{Cut: true}), instance.Running, "", 1, 1},
		{"no answer", []ec2test.Fate{{Hang: true}}, instance.Running, "", 1, 1},
		{"no answer after the effect", []ec2test.Fate{{Hang: true, Effect: true}}, instance.Running, "", 1, 1},
		{"capacity once", many(1, no("InsufficientInstanceCapacity", 500)), instance.Running, "", 1, 2},
		{"capacity in three places", many(3, no("InsufficientInstanceCapacity", 500)), instance.Running, "", 1, 4},
		{"capacity nowhere", many(6, no("InsufficientInstanceCapacity", 500)), instance.StatusFailed, "no_capacity", 0, 6},
		{"the account's limit", many(6, no("VcpuLimitExceeded", 400)), instance.StatusFailed, "no_capacity", 0, 6},
		{"not in this zone", many(1, no("Unsupported", 400)), instance.Running, "", 1, 2},
		{"session token expired", many(2, no("RequestExpired", 400)), instance.Running, "", 1, 1},
		{"no rights", many(1, no("UnauthorizedOperation", 403)), instance.StatusFailed, "UnauthorizedOperation", 0, 1},
		{"no such image", many(1, no("InvalidAMIID.NotFound", 400)), instance.StatusFailed, "InvalidAMIID.NotFound", 0, 1},
		{"a bad parameter", many(1, no("InvalidParameterValue", 400)), instance.StatusFailed, "InvalidParameterValue", 0, 1},
		{"not opted in", many(1, no("OptInRequired", 401)), instance.StatusFailed, "OptInRequired", 0, 1},
		{"blocked", many(1, no("Blocked", 403)), instance.StatusFailed, "Blocked", 0, 1},
		{"an unknown error", many(1, no("Surprise", 400)), instance.StatusFailed, "Surprise", 0, 1},
		{"an unknown server error", many(2, no("Surprise", 502)), instance.Running, "", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, setup{seed: 3, plan: slow}, func(s *stage) {
				s.srv.Script("RunInstances", c.fates...)
				s.Start()
				id := s.Create()
				st := s.Until(string(c.want), id, func(st instance.State) bool {
					return st.Status == c.want && (st.Status != instance.Running || st.Ready())
				})
				if n := len(s.srv.Machines()); n != c.machines || st.Attempts != c.attempts || c.code != "" && st.Abandoned.Code != c.code {
					t.Errorf("got %d machines and %+v, want %d, %d attempts and code %q", n, st, c.machines, c.attempts, c.code)
				}
				if st.Status == instance.StatusFailed && (st.Abandoned.Reason == "" || st.Refusal == "") {
					t.Errorf("got %+v, want a reason", st)
				}
				if calls := s.srv.Calls()["RunInstances"]; calls != len(c.fates)+min(c.machines, 1) {
					t.Errorf("%d launch calls for %d faults, want %v", calls, len(c.fates), len(c.fates)+min(c.machines, 1))
				}
				s.agreed()
			})
		})
	}
}

// A refusal that ends an attempt is not believed while the attempt's machine is visible.
func TestRefusedAfterALostReply(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: ec2test.Plan{Boot: ec2test.Span{Min: time.Minute}}}, func(s *stage) {
		s.srv.Script("RunInstances", ec2test.Fate{Cut: true, Effect: true}, ec2test.Fate{Code: "UnauthorizedOperation", Status: 403})
		s.Start()
		id := s.Create()
		st := s.Until("ready", id, provisionertest.Ready)
		if st.Attempts != 1 || len(s.srv.Machines()) != 1 {
			t.Errorf("got %+v, want st.Attempts 1 and len(s.srv.Machines()) 1", st)
		}
		s.agreed()
	})
}

// EC2 does not list its own machine for a minute.
func TestNotFoundForAMinute(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"left alone": "", "terminated at once": "terminate"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, setup{seed: 1, plan: ec2test.Plan{Unknown: ec2test.Span{Min: 4 * time.Minute}}}, func(s *stage) {
				s.Start()
				id := s.Create()
				s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" })
				if command == "" {
					s.Until("ready", id, provisionertest.Ready)
				} else {
					s.Do(command, id)
					s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
				}
				s.agreed()
			})
		})
	}
}

func TestStartWithoutCapacity(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"for a while": 3, "permanently": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, setup{seed: 1, plan: slow}, func(s *stage) {
				s.Start()
				id := s.Create()
				was := s.Until("ready", id, provisionertest.Ready).Address
				s.Do("stop", id)
				s.Until("stopped", id, provisionertest.Status(instance.Stopped))
				s.srv.Script("StartInstances", many(n, ec2test.Fate{Code: "InsufficientInstanceCapacity", Status: 500})...)
				began := time.Now()
				s.Do("start", id)
				if n == 10 {
					st := s.Until("stopped", id, provisionertest.Status(instance.Stopped))
					if st.Refusal == "" || time.Since(began) < 2*time.Minute || s.srv.Calls()["StartInstances"] != 10 {
						t.Errorf("after %v: %+v, want st.Refusal not empty, time.Since(began) at least %v and s.srv.Calls()[\"StartInstances\"] 10", time.Since(began), st, 2*time.Minute)
					}
				} else if st := s.Until("ready", id, provisionertest.Ready); st.Address == was || st.Address == "" {
					t.Errorf("its address is still %q, want st.Address other than %v and st.Address not empty", st.Address, was)
				}
				s.agreed()
			})
		})
	}
}

func TestChangedFromOutside(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		s.Start()
		id := s.Create()
		m := s.Until("ready", id, provisionertest.Ready).Machine
		for _, c := range []struct {
			to   ec2test.State
			want instance.Status
		}{{ec2test.Stopped, instance.Stopped}, {ec2test.Running, instance.Running}, {ec2test.Terminated, instance.StatusFailed}} {
			if err := s.srv.Outside(m, c.to); err != nil {
				t.Fatal(err)
			}
			s.Until(string(c.want), id, func(st instance.State) bool { return st.Status == c.want && (c.want != instance.Running || st.Ready()) })
			s.agreed()
		}
		if s.Count("instance.machine_gone") != 1 {
			t.Error("its end is not in the log")
		}
	})
}

// A machine that the cloud terminates while it boots has a reason, without the operator's ids.
func TestDiesWhileComingUp(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		s.Start()
		id := s.Create()
		m := s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" }).Machine
		s.srv.Kill(m, "Client.VolumeLimitExceeded")
		s.Until("failed", id, provisionertest.Status(instance.StatusFailed))
		if want := "disk space"; s.Count("instance.failed") != 1 || !containsReason(s, id, want) {
			t.Errorf("the reason does not speak of %s, want s.Count(\"instance.failed\") 1 and containsReason(s, id, want) true\n%s", want, s.History())
		}
		s.agreed()
	})
}

// A stop that never ends is repeated, explained and forced.
func TestStopThatNeverEnds(t *testing.T) {
	t.Parallel()
	plan := slow
	plan.Stuck = 1000
	play(t, setup{seed: 1, plan: plan}, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Do("stop", id)
		st := s.Until("a reason", id, func(st instance.State) bool { return st.Code == "stop_forced" })
		if st.Refusal == "" {
			t.Errorf("got %+v, want st.Refusal not empty", st)
		}
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		if n := s.srv.Calls()["StopInstances"]; n > 5 {
			t.Errorf("%d stop calls, want at most 5", n)
		}
		s.agreed()
	})
}

// A stop that an operator began in the web console is recorded as one. If it does not end, the saga takes it over.
func TestOutsideStopNeverEnds(t *testing.T) {
	t.Parallel()
	plan := slow
	plan.Stuck = 1000
	play(t, setup{seed: 1, plan: plan}, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		if err := s.srv.Outside(s.State(id).Machine, ec2test.Stopped); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.Until("stopping", id, provisionertest.Status(instance.Stopping))
		if took := time.Since(began); took > 5*time.Minute || !s.State(id).Outside {
			t.Errorf("told after %v: %+v, want took at most %v and s.State(id).Outside true", took, s.State(id), 5*time.Minute)
		}
		if s.srv.Calls()["StopInstances"] != 0 {
			t.Error("we stop it ourselves at once, and the report may be stale")
		}
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		if took := time.Since(began); took > 20*time.Minute {
			t.Errorf("stopped after %v, want at most %v", took, 20*time.Minute)
		}
		s.Do("start", id)
		s.Until("ready", id, provisionertest.Ready)
		s.agreed()
	})
}

// Waiting for many machines costs few calls: one call covers all of them, and calls become rarer with time.
func TestOneCallForMany(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, poll: time.Second, plan: ec2test.Plan{Boot: ec2test.Span{Min: 4 * time.Minute}}}, func(s *stage) {
		s.Instances.Limit = 40
		s.Start()
		for range 40 {
			s.Create()
		}
		s.Sleep(4*time.Minute - time.Second)
		if n := s.srv.Calls()["DescribeInstances"]; n > 120 || n < 40 { // one a second would be 240
			t.Errorf("%d calls in four minutes for 40 machines, want n at most 120 and n at least 40", n)
		}
	})
}

// When a guest first connects, its machine is checked immediately, so that no user waits for the next round.
func TestTheGuestsWordBringsALook(t *testing.T) {
	t.Parallel()
	const takes = 31 * time.Second // a round begins every thirty
	play(t, setup{seed: 1, plan: ec2test.Plan{Boot: ec2test.Span{Min: takes}}}, func(s *stage) {
		s.Start()
		id := s.Create()
		boots := func(what string) {
			t.Helper()
			s.Sleep(takes + time.Second)
			if st := s.State(id); st.Running {
				t.Fatalf("%s: got a look before the guest connected, want none", what)
			}
			before := s.srv.Calls()["DescribeInstances"]
			s.Speak(nil)
			synctest.Wait()
			if st := s.State(id); st.Status != instance.Running || st.Address == "" {
				t.Errorf("%s: %s at %q with a guest that speaks, want st.Status %v and st.Address not empty", what, st.Status, st.Address, instance.Running)
			}
			s.Speak(nil)
			synctest.Wait()
			if n := s.srv.Calls()["DescribeInstances"] - before; n != 1 {
				t.Errorf("%s: %d looks, want 1", what, n)
			}
		}
		boots("launch")
		s.Do("stop", id)
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		s.Do("start", id)
		boots("start")
	})
}

// Two sagas run at once, as when one was frozen and wakes up. They never launch two machines: a saga that continues
// the other's attempt first records that in the log, and from then on neither believes a refusal while a call of
// the other may be under way. That holds for instance.DoubtFor. Leases prevent that two sagas run for longer
// than that with a launch refused all the time.
func TestTwoSagas(t *testing.T) {
	t.Parallel()
	var counts provisionertest.Tally
	const schedules = 60
	for seed := range uint64(schedules) {
		synctest.Test(t, func(t *testing.T) {
			s, err := schedule(t, setup{seed: seed, plan: rough(), reconcile: true, workers: 1}, 2, &counts)
			if err != nil {
				t.Errorf("seed %d: %v\n%s", seed, err, s.History())
			}
		})
	}
	t.Logf("%d schedules: %v", schedules, &counts)
}

func TestReconciler(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		cloud := s.newCloud()
		rec := &provisioner.Reconciler{Log: s.Log, Cloud: cloud, Live: s.Live}
		look := func(dry bool) provisioner.Report {
			t.Helper()
			rec.DryRun = dry
			report, err := rec.Reconcile(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return report
		}
		foreign := s.srv.Put("", map[string]string{"cloudbot:environment": "another", "cloudbot:instance": "01X", "cloudbot:attempt": "1"})
		untagged := s.srv.Put("", map[string]string{"Name": "the operator's own"})
		unknown := s.srv.Put("01NEVER-1", map[string]string{"cloudbot:environment": environment, "cloudbot:instance": "01NEVER", "cloudbot:attempt": "1"})
		nameless := s.srv.Put("", map[string]string{"cloudbot:environment": environment})

		// The answer to a launch is lost and the saga dies: the machine is adopted.
		s.CrashAt(func(point string) bool { return point == "call.call.launch.after" })
		s.Start()
		adopted := s.Create()
		s.Sleep(time.Minute)
		if !s.Dead() || !s.State(adopted).Open {
			t.Fatalf("not open: got %+v, want s.Dead() true and s.State(adopted).Open true", s.State(adopted))
		}
		s.CrashAt(nil)
		if report := look(true); report.Count(provisioner.Adopt) != 1 || report.Count(provisioner.Stranger) != 2 || s.State(adopted).Machine != "" {
			t.Errorf("dry: got %+v, want report.Count(provisioner.Adopt) 1, report.Count(provisioner.Stranger) 2 and s.State(adopted).Machine \"\"", report)
		}
		if report := look(false); report.Count(provisioner.Adopt) != 1 || s.State(adopted).Machine == "" || s.State(adopted).Attempts != 1 {
			t.Errorf("got %+v %+v, want report.Count(provisioner.Adopt) 1, s.State(adopted).Machine not empty and s.State(adopted).Attempts 1", report, s.State(adopted))
		}

		// A launch that takes effect after its attempt was given up.
		s.srv.Script("RunInstances", ec2test.Fate{Code: "InsufficientInstanceCapacity", Status: 500})
		s.Start()
		s.Until("ready", adopted, provisionertest.Ready)
		twice := s.Create()
		s.Until("ready", twice, provisionertest.Ready)
		copied := s.srv.Put("", map[string]string{"cloudbot:environment": environment, "cloudbot:instance": twice, "cloudbot:attempt": "1"})
		double := s.srv.Put(twice+"-1", map[string]string{"cloudbot:environment": environment, "cloudbot:instance": twice, "cloudbot:attempt": "1"})
		if report := look(false); report.Count(provisioner.Young) != 1 || report.Count(provisioner.Terminate) != 0 {
			t.Errorf("while it is young: got %+v, want report.Count(provisioner.Young) 1 and report.Count(provisioner.Terminate) 0", report)
		}
		s.Sleep(3 * time.Minute)
		if report := look(false); report.Count(provisioner.Terminate) != 1 || report.Count(provisioner.Stranger) != 3 {
			t.Errorf("got %+v, want report.Count(provisioner.Terminate) 1 and report.Count(provisioner.Stranger) 3", report)
		}

		// The log is behind the cloud: the machine stopped while no saga looked.
		s.Stop()
		machine := s.State(twice).Machine
		if err := s.srv.Outside(machine, ec2test.Stopped); err != nil {
			t.Fatal(err)
		}
		s.Sleep(3 * time.Minute)
		if report := look(false); report.Count(provisioner.Repair) != 1 || s.State(twice).Status != instance.Stopped {
			t.Errorf("got %+v %+v, want report.Count(provisioner.Repair) 1 and s.State(twice).Status %v", report, s.State(twice), instance.Stopped)
		}
		if report := look(false); len(report.Findings) != 3 {
			t.Errorf("a second look finds %+v, want 3", report)
		}
		for _, m := range s.srv.Machines() {
			switch m.ID {
			case foreign, untagged, unknown, nameless, copied:
				if m.State != ec2test.Running {
					t.Errorf("%s is not ours to touch, and is %s, want %v", m.ID, m.State, ec2test.Running)
				}
			case double:
				if m.Live() {
					t.Errorf("the double %s is %s, want m.Live() false", m.ID, m.State)
				}
			}
		}
	})
}

// If most machines are unknown at once, they are not believed to be gone: the account may be wrong. A few are
// believed gone after half an hour, and a machine that returns after that is left alone.
func TestWrongAccount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		n      int
		more   bool // a machine is also made in the wrong account
		within time.Duration
		kept   bool
	}{
		{"six", 6, false, 2 * time.Hour, true},
		{"six, and a new one there", 6, true, 2 * time.Hour, true},
		{"three, for a while", 3, false, 25 * time.Minute, true},
		{"three, for long", 3, false, time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, setup{seed: 1, plan: slow}, func(s *stage) {
				s.Instances.Limit = 7
				s.Start()
				var ids []string
				for range c.n {
					ids = append(ids, s.Create())
				}
				for _, id := range ids {
					s.Until("ready", id, provisionertest.Ready)
				}
				s.Stop()
				right := s.srv
				s.srv, s.reconcile = ec2test.New(ec2test.Config{}), true
				s.Start()
				if c.more {
					s.Until("running", s.Create(), provisionertest.Status(instance.Running))
				}
				s.Sleep(c.within)
				rec := &provisioner.Reconciler{Log: s.Log, Cloud: s.newCloud(), Live: s.Live}
				if report, err := rec.Reconcile(context.Background()); err != nil || c.kept && report.Count(provisioner.Missing) != c.n {
					t.Errorf("got %+v %v, want no error and %d missing: %v", report, err, c.n, c.kept)
				}
				s.holds(ids, c.kept)
				s.Stop()

				s.srv = right
				s.Start()
				s.Sleep(time.Hour)
				rec.Cloud, rec.DryRun = s.newCloud(), true
				if report, err := rec.Reconcile(context.Background()); err != nil || !c.kept && report.Count(provisioner.Returned) != c.n {
					t.Errorf("got %+v %v, want no error and %d returned: %v", report, err, c.n, !c.kept)
				}
				s.holds(ids, c.kept)
				for _, m := range right.Machines() {
					if m.State != ec2test.Running {
						t.Errorf("%s is %s: what its owner left on it is gone, want %v", m.ID, m.State, ec2test.Running)
					}
				}
			})
		})
	}
}

// If every place except the last is full, the last one is found.
func TestEveryPlaceIsAsked(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		s.subnets = []string{"subnet-a", "subnet-b", "subnet-c", "subnet-d"}
		attempts := s.newCloud().(*ec2.Cloud).Attempts()
		for _, subnet := range s.subnets {
			s.srv.SetFull("t3.large", subnet, true)
			s.srv.SetFull("t3a.large", subnet, subnet != "subnet-d")
		}
		s.policy.Attempts = max(6, attempts)
		s.Start()
		id := s.Create()
		if st := s.Until("ready", id, provisionertest.Ready); st.Attempts != 8 || attempts != 8 {
			t.Errorf("got %d attempts of %d, want st.Attempts 8 and attempts 8", st.Attempts, attempts)
		}
		s.agreed()
	})
}

// With the operator's confirmation they are believed gone.
func TestMissingBelieved(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Stop()
		s.srv = ec2test.New(ec2test.Config{})
		s.Sleep(time.Hour)
		rec := &provisioner.Reconciler{Log: s.Log, Cloud: s.newCloud(), Live: s.Live, BelieveMissing: true}
		if report, err := rec.Reconcile(context.Background()); err != nil || report.Count(provisioner.Missing) != 1 {
			t.Errorf("got %+v %v, want no error and 1", report, err)
		}
		s.holds([]string{id}, false)
	})
}

// holds reports whether the instances run, or have failed.
func (s *stage) holds(ids []string, run bool) {
	s.t.Helper()
	want := instance.StatusFailed
	if run {
		want = instance.Running
	}
	for _, id := range ids {
		if st := s.State(id); st.Status != want {
			s.t.Errorf("%s is %s, not %s", id, st.Status, want)
		}
	}
}

// A start that the cloud accepts and undoes is retried, and then given up with the reason.
func TestStartUndone(t *testing.T) {
	t.Parallel()
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint("always ", always), func(t *testing.T) {
			t.Parallel()
			play(t, setup{seed: 1, plan: slow}, func(s *stage) {
				s.Start()
				id := s.Create()
				s.Until("ready", id, provisionertest.Ready)
				s.Do("stop", id)
				s.Until("stopped", id, provisionertest.Status(instance.Stopped))
				undoing := slow
				undoing.Undone = 1000
				s.srv.SetPlan(undoing)
				s.Do("start", id)
				s.Until("undone", id, func(st instance.State) bool { return st.Undone > 0 })
				if !always {
					s.srv.SetPlan(slow)
					s.Until("ready", id, provisionertest.Ready)
					s.agreed()
					return
				}
				st := s.Until("stopped", id, provisionertest.Status(instance.Stopped))
				if n := s.srv.Calls()["StartInstances"]; n != instance.MaxUndone || !strings.Contains(st.Refusal, "encryption key") {
					t.Errorf("%d calls, and the reason is %q, want n %v and \"encryption key\" in st.Refusal", n, st.Refusal, instance.MaxUndone)
				}
				s.agreed()
				s.srv.SetPlan(slow)
				s.Do("start", id)
				s.Until("ready", id, provisionertest.Ready)
				s.agreed()
			})
		})
	}
}

func containsReason(s *stage, id, part string) bool {
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err == nil && e.Stream.ID == id && e.Type == "instance.failed" {
			return strings.Contains(string(e.Data), part)
		}
	}
	return false
}
