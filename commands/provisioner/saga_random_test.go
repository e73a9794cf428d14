package provisioner_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
)

func sorted(s []string) []string { slices.Sort(s); return s }

func keysOf[V any](m map[string]V) []string { return slices.Collect(maps.Keys(m)) }

// tally adds up what the random schedules met, so that a run that met nothing shows.
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

// TestSagaRandomSchedules plays seeded schedules of faults, crashes and users' commands. When the
// faults have stopped, ledger and log agree: at no time two machines for an instance, none
// orphaned, none forgotten, every instance at rest and with a reason.
func TestSagaRandomSchedules(t *testing.T) {
	t.Parallel()
	const schedules, lanes = 504, 4
	var counts tally
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
	t.Logf("%d schedules: %v", schedules, counts.counts)
	for _, what := range []string{"crashes", "reply lost", "hung", "no capacity", "no effect", "never", "throttled", "outside", "terminated", "failed", "running", "stopped"} {
		if counts.counts[what] == 0 && !t.Failed() {
			t.Errorf("no schedule met: %s", what)
		}
	}
}

func TestSagaSameSeedSameTrace(t *testing.T) {
	t.Parallel()
	for seed := uint64(1000); seed < 1012; seed += 2 { // even: one worker
		var traces [2]string
		for i := range traces {
			synctest.Test(t, func(t *testing.T) { traces[i] = schedule(t, seed, 1, &tally{}) })
		}
		if t.Failed() || traces[0] != traces[1] {
			t.Fatalf("seed %d:\n%s", seed, firstDifference(traces[0], traces[1]))
		}
	}
}

// Two sagas at once, as when one was frozen and wakes up: what the second does has been done, or
// is refused by the log and taken down again. Only a launch whose outcome the second never hears,
// while the first is told that there is no capacity, is beyond what the log can know.
func TestSagaTwoAtOnce(t *testing.T) {
	t.Parallel()
	const schedules = 20
	var counts tally
	for seed := range uint64(schedules) {
		if synctest.Test(t, func(t *testing.T) { schedule(t, seed, 2, &counts) }); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d schedules: %v", schedules, counts.counts)
}

// schedule plays one seed and returns its trace.
func schedule(t *testing.T, seed uint64, sagas int, counts *tally) string {
	s := newStage(t, seed, 3)
	r := rand.New(rand.NewPCG(seed, 99))
	crashes := rand.New(rand.NewPCG(seed, 98))
	s.cloud.Faulty, s.cloud.Certain = true, sagas > 1
	if sagas == 1 {
		s.crash = func(string) bool {
			now := crashes.IntN(25) == 0
			if now {
				counts.add("crashes", 1)
			}
			return now
		}
	}
	s.workers = 1 + int(seed%2)
	for range sagas {
		s.start()
	}
	ids := []string{s.create()}
	for range 14 + r.IntN(18) {
		_ = provisionertest.Pause(context.Background(), time.Duration(r.Int64N(int64(40*time.Second))))
		synctest.Wait()
		s.act(r, &ids)
		synctest.Wait()
		if s.dead() || len(s.sagas) < sagas {
			s.lag = r.Int64N(6)
			_ = provisionertest.Pause(context.Background(), time.Duration(r.Int64N(int64(2*time.Minute))))
			s.start()
		}
	}
	s.crashes(nil)
	s.cloud.Mu.Lock()
	s.cloud.Faulty = false
	s.cloud.Mu.Unlock()
	s.settle(seed, sagas)
	for what, n := range s.cloud.Faults {
		counts.add(what, n)
	}
	for _, st := range s.fold() {
		counts.add(string(st.Status), 1)
	}
	counts.add("machines", s.cloud.Launches())
	trace := strings.Join(append(s.cloud.Trace, s.logTrace()...), "\n")
	s.stop()
	return trace
}

// settle lets time pass without faults until ledger and log agree, and stay so.
func (s *stage) settle(seed uint64, sagas int) {
	var err error
	for range 40 {
		if s.dead() || len(s.sagas) < sagas {
			s.lag = 0
			s.start()
		}
		_ = provisionertest.Pause(context.Background(), 9*time.Minute)
		synctest.Wait()
		for range 6 {
			s.speak(nil)
		}
		if sagas > 1 {
			s.cloud.Mu.Lock()
			s.cloud.Wrongs = nil // for a moment there may have been two; the second was taken down
			s.cloud.Mu.Unlock()
		}
		was := err
		if err = s.agree(); err == nil && was == nil {
			return
		}
	}
	s.t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(append(s.cloud.Trace, s.logTrace()...), "\n"))
}

// act is what users, guests and the world do next.
func (s *stage) act(r *rand.Rand, ids *[]string) {
	id := (*ids)[r.IntN(len(*ids))]
	switch n := r.IntN(40); {
	case n < 3:
		if out, err := s.Instances.Create(context.Background(), s.origin, "desk", ""); err == nil {
			*ids = append(*ids, out.Answer.ID)
		} else if commandstest.Code(err) != "quota_exceeded" {
			s.t.Error(err)
		}
	case n < 8:
		s.do("stop", id)
	case n < 15:
		s.do("start", id)
	case n < 17:
		s.do("terminate", id)
	case n < 18:
		s.cloud.Outside(r)
	default:
		s.speak(func() bool { return r.IntN(3) == 0 })
	}
}

func (s *stage) logTrace() (lines []string) {
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Stream.Aggregate == "instance" {
			lines = append(lines, fmt.Sprint(e.Time.Format("15:04:05.000000 "), e.Position, " ", e.Stream, " ", e.Type, " ", clipped(e.Data)))
		}
	}
	return lines
}

// clipped leaves out what is long or sealed.
func clipped(data []byte) string {
	text := string(data)
	if strings.Contains(text, `"spec"`) || strings.Contains(text, `"name"`) {
		return ""
	}
	return text
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
