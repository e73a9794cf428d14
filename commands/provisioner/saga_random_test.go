package provisioner_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
)

// TestSagaRandomSchedules plays seeded schedules of faults, crashes and users' commands. After the faults, ledger and
// log agree: no instance ever had two machines, no machine is orphaned or forgotten, and every instance is in a stable
// state with a reason.
func TestSagaRandomSchedules(t *testing.T) {
	t.Parallel()
	const schedules, lanes = 504, 4
	var counts provisionertest.Tally
	t.Run("seeds", func(t *testing.T) {
		for lane := range lanes {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for seed := lane; seed < schedules; seed += lanes {
					synctest.Test(t, func(t *testing.T) { schedule(t, uint64(seed), 1, &counts) })
					if t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		}
	})
	t.Logf("%d schedules: %v", schedules, &counts)
	if !t.Failed() {
		counts.Check(t, "crashes", "reply lost", "hung", "no capacity", "no effect", "never", "throttled", "outside", "terminated", "failed", "running", "stopped")
	}
}

func TestSagaSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	for seed := uint64(1000); seed < 1012; seed += 2 { // even: one worker
		var traces [2]string
		for i := range traces {
			synctest.Test(t, func(t *testing.T) { traces[i] = schedule(t, seed, 1, &provisionertest.Tally{}) })
		}
		if t.Failed() || traces[0] != traces[1] {
			t.Fatalf("seed %d: got two histories, want one\n%s", seed, firstDifference(traces[0], traces[1]))
		}
	}
}

// Two sagas run at once, as when the process of one was paused. What the second one does has been done already, or the
// log refuses it and its machine is terminated. One case is beyond what the log can know: a launch whose outcome the
// second saga never learns, while the first is refused for lack of capacity.
func TestSagaTwoAtOnce(t *testing.T) {
	t.Parallel()
	const schedules = 20
	var counts provisionertest.Tally
	for seed := range uint64(schedules) {
		if synctest.Test(t, func(t *testing.T) { schedule(t, seed, 2, &counts) }); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d schedules: %v", schedules, &counts)
}

// schedule plays one seed and returns its history.
func schedule(t *testing.T, seed uint64, sagas int, counts *provisionertest.Tally) string {
	s := newStage(t, seed)
	r := rand.New(rand.NewPCG(seed, 99))
	crashes := rand.New(rand.NewPCG(seed, 98))
	s.cloud.SetFaulty(true)
	s.cloud.Certain = sagas > 1
	if sagas == 1 {
		s.CrashAt(func(string) bool {
			now := crashes.IntN(25) == 0
			if now {
				counts.Add("crashes", 1)
			}
			return now
		})
	}
	s.workers = 1 + int(seed%2)
	for range sagas {
		s.Start()
	}
	ids := []string{s.Create()}
	s.Play(r, sagas, func() { s.act(r, &ids) })
	s.cloud.SetFaulty(false)
	err := s.Settle(sagas, func() error {
		if sagas > 1 {
			s.cloud.Wrongs() // for a short time there may have been two; the second was terminated
		}
		return s.agree()
	})
	if err != nil {
		t.Errorf("seed %d: got %v, want ledger and log to agree\n%s", seed, err, s.History())
	}
	for what, n := range s.cloud.Faults() {
		counts.Add(what, n)
	}
	for _, st := range s.Fold() {
		counts.Add(string(st.Status), 1)
	}
	counts.Add("machines", s.cloud.Launches())
	history := s.History()
	s.Stop()
	return history
}

// act plays the next act of a user, a guest or the world.
func (s *stage) act(r *rand.Rand, ids *[]string) {
	id := (*ids)[r.IntN(len(*ids))]
	switch n := r.IntN(40); {
	case n < 3:
		if created := s.Do("create", ""); created != "" {
			*ids = append(*ids, created)
		}
	case n < 8:
		s.Do("stop", id)
	case n < 15:
		s.Do("start", id)
	case n < 17:
		s.Do("terminate", id)
	case n < 18:
		s.cloud.Outside(r)
	default:
		s.Speak(func() bool { return r.IntN(3) == 0 })
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			return strings.Join(x[max(0, i-5):min(i+3, len(x))], "\n") + "\n---\n" + strings.Join(y[max(0, min(i-5, len(y))):min(i+3, len(y))], "\n")
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}
