package ec2_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// monthPrices is our price list of the small EC2's region. Its own bill has prices of its own.
const monthPrices = `{"source": "a test", "date": "2026-11-01", "disk_gib": 40, "versions": [{"from": "1999-01-01", "regions": {"eu-test-1":
	{"hourly_micros": {"t3.large": 83200, "t3a.large": 75200}, "disk_gib_month_micros": 80000, "address_hourly_micros": 5000}}}]}`

// simulation is a time that many desktops are used, with all faults of the small EC2.
type simulation struct {
	desktops int
	days     int
	acts     int // of users and of the world, for each desktop and day
	seed     uint64
	read     func(instance.Event) instance.Event // plants a fault between the log and the charges; nil: none
}

// TestMonth simulates what desktops use, and compares what we charge with EC2's own bill. Where the cloud gave the time, a
// run ends at the same second. Elsewhere the difference is at most the time between two looks. No desktop pays more than
// EC2 bills. The whole month has 200 desktops: make month.
func TestMonth(t *testing.T) {
	t.Parallel()
	m := simulation{desktops: 8, days: 3, acts: 24, seed: 11}
	if os.Getenv("E2E_MONTH") != "" {
		m = simulation{desktops: 200, days: 30, acts: 6, seed: 11}
		if seed, err := strconv.ParseUint(os.Getenv("E2E_MONTH"), 10, 64); err == nil {
			m.seed = seed
		}
	}
	synctest.Test(t, func(t *testing.T) {
		a := m.run(t)
		t.Log(a)
		for _, wrong := range a.wrongs[:min(len(a.wrongs), 20)] {
			t.Error(wrong)
		}
		a.Check(t, "runs", "exact ends", "seen ends", "runs under a minute", "stopped and started between two looks", "outside", "kills", "reply lost", "throttled", "hung", "unseen", "timeless", "terminated")
	})
}

// A mistake in what is charged is found.
func TestMonthFindsMistakes(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(instance.Event) instance.Event{
		"charged from the launch time": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineRunning); ok && !e.Launched.IsZero() {
				e.At = e.Launched
				return e
			}
			return e
		},
		"charged until the next look": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineStopped); ok {
				return instance.MachineStopped{Asked: e.Asked, RunEnded: instance.RunEnded{RanUntil: time.Now()}}
			}
			return e
		},
		"the cloud's times ignored": func(e instance.Event) instance.Event {
			if e, ok := e.(instance.MachineStopped); ok {
				e.Ended = time.Time{}
				return e
			}
			return e
		},
		"looks forgotten": func(e instance.Event) instance.Event {
			switch e := e.(type) {
			case instance.MachineStopped:
				e.RanUntil = time.Time{}
				return e
			case instance.MachineRunning:
				e.RanUntil = time.Time{}
				return e
			}
			return e
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := simulation{desktops: 6, days: 2, acts: 24, seed: 12, read: read}
				if a := m.run(t); len(a.wrongs) == 0 {
					t.Errorf("got no difference, want some:\n%v", a)
				}
			})
		})
	}
}

// run plays the simulation and returns the comparison.
func (m simulation) run(t *testing.T) *audit {
	plan := roughest()
	plan.Timeless = 150
	// Two answers half an hour apart that leave a machine out give it up if no process looked in between: see
	// instance.MissingFor. Such a machine would end the month, so answers leave out fewer than in other schedules.
	plan.Unseen = 5
	c := setup{seed: m.seed, plan: plan, reconcile: true, workers: 1, sweep: 4 * time.Minute, limit: m.desktops + 5}
	looks := &looks{}
	c.cloud = looks.at
	s := newStage(t, c)
	r := rand.New(rand.NewPCG(m.seed, 97))
	crashes := rand.New(rand.NewPCG(m.seed, 98))
	a := &audit{stage: s, looks: looks, read: m.read, live: newFold(), began: time.Now()}
	s.CrashAt(func(string) bool {
		now := crashes.IntN(400) == 0
		if now {
			a.Add("kills", 1)
		}
		return now
	})
	s.Start()
	var ids []string
	var spoke time.Time
	step := 24 * time.Hour / time.Duration(m.desktops*m.acts)
	for time.Since(a.began) < time.Duration(m.days)*24*time.Hour {
		s.Sleep(time.Duration(r.Int64N(int64(2 * step))))
		if len(ids) < m.desktops {
			if id := s.Do("create", ""); id != "" {
				ids = append(ids, id)
			}
		}
		ids = m.act(s, r, ids, &a.Tally)
		synctest.Wait()
		if s.Dead() || s.Running() == 0 {
			s.Sleep(time.Duration(r.Int64N(int64(20 * time.Minute))))
			s.Start()
		}
		if time.Since(spoke) > 10*time.Minute {
			spoke = time.Now()
			s.Speak(nil)
		}
		a.follow()
	}
	s.CrashAt(nil)
	s.srv.SetPlan(slow)
	s.srv.Unstick()
	if err := s.Settle(1, s.agree); err != nil {
		t.Fatalf("got %v, want log and cloud to agree after the month", err)
	}
	for what, n := range s.srv.Faults() {
		a.Add(what, n)
	}
	for _, st := range s.Fold() {
		a.Add(string(st.Status), 1)
	}
	a.compare(t)
	return a
}

// act plays what a user or the world does to one desktop, and returns the desktops.
func (m simulation) act(s *stage, r *rand.Rand, ids []string, counts *provisionertest.Tally) []string {
	if len(ids) == 0 {
		return ids
	}
	i := r.IntN(len(ids))
	id := ids[i]
	outside := func(to ec2test.State) {
		if s.srv.Outside(s.State(id).Machine, to) == nil {
			counts.Add("outside", 1)
		}
	}
	switch n := r.IntN(100); {
	case n < 40:
		s.Do("stop", id)
	case n < 80:
		s.Do("start", id)
	case n < 84: // a short run: a boot takes up to 90 s
		outside(ec2test.Running)
		s.Sleep(100 * time.Second)
		outside(ec2test.Stopped)
	case n < 88:
		outside(ec2test.Stopped)
		s.Sleep(85 * time.Second)
		outside(ec2test.Running)
	case n < 90:
		outside(ec2test.Stopped)
	case n < 91:
		s.Do("stop", id)
		s.Sleep(time.Duration(r.IntN(60)) * time.Second)
		fallthrough
	case n < 92:
		s.Do("terminate", id)
		return slices.Delete(ids, i, i+1)
	case n < 93:
		if st := s.State(id); st.Status == instance.Running {
			s.srv.Kill(st.Machine, "Server.InternalError")
			return slices.Delete(ids, i, i+1)
		}
	case n < 94 && r.IntN(m.desktops*m.acts) < 300:
		s.Kill()
		counts.Add("kills", 1)
	}
	return ids
}
