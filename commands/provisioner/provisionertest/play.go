package provisionertest

import (
	"context"
	"errors"
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
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Machine is a machine as the cloud's ledger has it.
type Machine struct {
	ID       string
	Instance string // that it was launched for; "": unknown
	Token    string // the enrolment token in its user-data
	State    instance.Seen
	Moving   bool // to another state
	Address  string
	Boots    int
}

// Create requests an instance as the user, and returns its id.
func (s *Stage) Create() string {
	s.T.Helper()
	out, err := s.Instances.Create(context.Background(), s.Origin, "desk", "")
	if err != nil {
		s.T.Fatal(err)
	}
	return out.Answer.ID
}

// Do sends the user's command "create", "stop", "start" or "terminate", and returns the id of a created instance. A
// refusal is fine, for "create" only by the quota. It notes any other error with Wrong.
func (s *Stage) Do(command, id string) (created string) {
	ctx := context.Background()
	var err error
	switch command {
	case "create":
		out, failed := s.Instances.Create(ctx, s.Origin, "desk", "")
		if created, err = out.Answer.ID, failed; commandstest.Code(err) == "quota_exceeded" {
			return ""
		}
	case "stop":
		_, err = s.Instances.Stop(ctx, s.Origin, id)
	case "start":
		_, err = s.Instances.Start(ctx, s.Origin, id)
	case "terminate":
		_, err = s.Instances.Terminate(ctx, s.Origin, id)
	default:
		err = errors.New("no such command")
	}
	var refusal *domain.Error
	if err != nil && (command == "create" || !errors.As(err, &refusal)) {
		s.Wrong("%s %s: %v", command, id, err)
	}
	return created
}

// Speak makes the guests of the running machines enrol and report their next phase. A guest for which silent returns
// true does not speak. Nil: all speak.
func (s *Stage) Speak(silent func() bool) {
	ctx := context.Background()
	for _, m := range s.config.Machines() {
		if m.State != instance.SeenRunning || m.Instance == "" || silent != nil && silent() {
			continue
		}
		st := s.State(m.Instance)
		if !st.Exists() {
			continue
		}
		if st.Enrolled != st.Attempts {
			if _, err := s.Guests.Enroll(ctx, m.Token, fmt.Appendf(nil, "%-32.32s", m.ID)); err != nil && commandstest.Code(err) == "" {
				s.Wrong("enrol: %v", err)
			}
		}
		next, boot := instance.PhaseBooting.Rank(), fmt.Sprint("boot-", m.Boots)
		if st.Boot == boot {
			next = st.Phase.Rank() + 1
		}
		if next < len(instance.Phases) {
			if err := s.Guests.Reached(ctx, m.Instance, boot, instance.Phases[next], "detail"); err != nil {
				s.Wrong("reached: %v", err)
			}
		}
	}
}

// Until lets time pass and guests speak, and restarts sagas that died, until wanted returns true.
func (s *Stage) Until(what, id string, wanted func(instance.State) bool) instance.State {
	s.T.Helper()
	for range 2 * 3600 {
		if st := s.State(id); wanted(st) {
			return st
		}
		s.Sleep(2 * time.Second)
		s.Speak(func() bool { return s.Mute })
		if s.Dead() {
			s.Start()
		}
	}
	s.T.Fatalf("got %+v of %s after four hours, want it %s\n%s", s.State(id), id, what, s.History())
	return instance.State{}
}

// Status returns a condition for Until.
func Status(want instance.Status) func(instance.State) bool {
	return func(s instance.State) bool { return s.Status == want }
}

// Ready is a condition for Until.
func Ready(s instance.State) bool { return s.Ready() }

// ErrWrong is what Agree returns, wrapped, if something happened that time does not fix.
var ErrWrong = errors.New("what must never happen did")

// Agree compares the cloud's ledger with the log, once all is quiet, and returns a difference as an error.
func (s *Stage) Agree() error {
	alive := map[string][]Machine{}
	for _, m := range s.config.Machines() {
		alive[m.Instance] = append(alive[m.Instance], m)
	}
	states := s.Fold()
	if wrongs := s.Wrongs(); len(wrongs) > 0 {
		return fmt.Errorf("%w: %s", ErrWrong, strings.Join(wrongs, "; "))
	}
	for _, id := range slices.Sorted(maps.Keys(states)) {
		if err := agree(id, states[id], alive[id], s.slots[id]); err != nil {
			return err
		}
		delete(alive, id)
	}
	if len(alive) > 0 {
		return fmt.Errorf("got orphans %v, want none", alive)
	}
	return nil
}

// agree compares one instance with the machines and the slots it has.
func agree(id string, st instance.State, machines []Machine, slots int) error {
	switch {
	case st.Final() && slots != 0, !st.Final() && slots != 1:
		return fmt.Errorf("%s is %s and holds %d slots", id, st.Status, slots)
	case st.Final() && len(machines) > 0:
		return fmt.Errorf("%s is %s, and its machine %s is %s", id, st.Status, machines[0].ID, machines[0].State)
	case st.Final():
	case st.Status != instance.Running && st.Status != instance.Stopped:
		return fmt.Errorf("%s is still %s: %+v", id, st.Status, st)
	case len(machines) != 1 || machines[0].ID != st.Machine:
		return fmt.Errorf("%s is %s with machine %q, and the ledger has %+v", id, st.Status, st.Machine, machines)
	case string(machines[0].State) != string(st.Status) || machines[0].Moving:
		return fmt.Errorf("%s is %s, and its machine %s", id, st.Status, machines[0].State)
	case st.Status == instance.Running && st.Address != machines[0].Address:
		return fmt.Errorf("%s is at %s, and its machine at %s", id, st.Address, machines[0].Address)
	case st.Status == instance.Running && !st.Ready() && !st.Stalled:
		return fmt.Errorf("%s runs, is not ready and has no reason: %+v", id, st)
	}
	return nil
}

// Play calls act at random times and restarts sagas that died. At the end it turns crashes off.
func (s *Stage) Play(r *rand.Rand, sagas int, act func()) {
	for range 12 + r.IntN(18) {
		s.Sleep(time.Duration(r.Int64N(int64(45 * time.Second))))
		act()
		synctest.Wait()
		if s.Dead() || s.Running() < sagas {
			s.lag.Store(r.Int64N(6))
			s.Sleep(time.Duration(r.Int64N(int64(2 * time.Minute))))
			s.Start()
		}
	}
	s.lag.Store(0)
	s.CrashAt(nil)
}

// Settle lets time pass until agree returns nil twice in a row, and returns its last error if it never does. It returns
// an ErrWrong immediately.
func (s *Stage) Settle(sagas int, agree func() error) error {
	err := errors.New("not looked")
	for range 40 {
		if s.Dead() || s.Running() < sagas {
			s.Start()
		}
		s.Sleep(8 * time.Minute)
		for range 6 {
			s.Speak(nil)
		}
		was := err
		if err = agree(); err == nil && was == nil || errors.Is(err, ErrWrong) {
			return err
		}
	}
	return err
}

// Tally counts what random schedules met, so that a run that met nothing is noticed. Its zero value is empty.
type Tally struct {
	mu     sync.Mutex
	counts map[string]int
}

// Add counts n more.
func (c *Tally) Add(what string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[what] += n
}

// Of returns a count.
func (c *Tally) Of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[what]
}

// Check fails the test for each of these that was never met.
func (c *Tally) Check(t *testing.T, whats ...string) {
	t.Helper()
	for _, what := range whats {
		if c.Of(what) == 0 {
			t.Errorf("got no schedule that met %q, want at least one", what)
		}
	}
}

// String lists the counts.
func (c *Tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.counts)
}
