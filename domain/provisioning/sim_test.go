package provisioning

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// sim lets Next drive one instance through a cloud with arbitrary answers. The same seed gives the same run.
type sim struct {
	r     *rand.Rand
	now   time.Time
	state instance.State
	calm  bool // faults have stopped

	machines map[string]*machine // the cloud's ledger, by client token
	trace    []string
	launches int
}

type machine struct {
	id, want  string // want is the state that it is changing to: running, stopped, terminated
	seen      string
	changesAt time.Time
	visible   time.Time
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	const runs = 1500
	ends := map[instance.Status]int{}
	refusals, attempts := 0, 0
	for seed := range uint64(runs) {
		s := run(seed)
		if err := s.verdict(); err != nil {
			t.Fatalf("seed %d: got %v, want no error\n%s", seed, err, s.history())
		}
		ends[s.state.Status]++
		attempts += s.launches
		refusals += len(s.trace)
	}
	if again := run(7); again.history() != run(7).history() {
		t.Errorf("got two histories of one seed, want one")
	}
	t.Logf("%d runs ended %v, %d machines, %d decisions", runs, ends, attempts, refusals)
	for _, want := range []instance.Status{instance.Running, instance.Stopped, instance.StatusTerminated, instance.StatusFailed} {
		if ends[want] == 0 {
			t.Errorf("no run ended %s", want)
		}
	}
}

func run(seed uint64) *sim {
	s := &sim{r: rand.New(rand.NewPCG(seed, 2)), now: t0, machines: map[string]*machine{}}
	s.execute(instance.Request{Account: "acc", Type: "t", Region: "r"})
	for range 40 + s.r.IntN(160) {
		s.turn()
	}
	s.calm = true
	for range 500 { // about four hours
		s.turn()
	}
	return s
}

// turn lets some time pass, may let the user or the world act and the cloud be polled, and takes the step that is due.
func (s *sim) turn() {
	s.now = s.now.Add(time.Duration(s.r.IntN(60_000)) * time.Millisecond)
	if !s.calm {
		s.meddle()
	}
	for _, m := range s.machines {
		if m.seen != "terminated" && !m.changesAt.After(s.now) {
			m.seen = m.want
		}
	}
	s.observe()
	step := Next(s.state, Policy{}, s.now)
	if step.At.After(s.now) {
		return
	}
	switch step.Do {
	case Attempt:
		s.execute(instance.Attempt{At: s.now, Spec: instance.Spec{ClientToken: fmt.Sprint("i-", s.state.Attempts+1)}})
	case Abandon:
		s.execute(instance.Abandon{Code: step.Why, Reason: "R."})
	case Stall:
		s.execute(instance.Stall{Reason: "slow"})
	case Conclude:
		s.execute(instance.Conclude{})
	case Call:
		s.call(step.Call)
	}
}

func (s *sim) meddle() {
	m := s.machines[s.state.Spec.ClientToken]
	switch s.r.IntN(90) {
	case 0:
		s.execute(instance.Terminate{At: s.now})
	case 1, 2, 3:
		s.execute(instance.Stop{At: s.now})
	case 4, 5, 6, 7:
		s.execute(instance.Start{At: s.now})
	case 8, 9:
		s.execute(instance.ReachPhase{Boot: fmt.Sprint("b", s.r.IntN(3)), Phase: instance.Phases[s.r.IntN(len(instance.Phases))], At: s.now})
	case 10:
		s.outside(m, "stopped")
	case 11:
		s.outside(m, "running")
	case 12:
		s.outside(m, "terminated")
	}
}

func (s *sim) outside(m *machine, want string) {
	if m == nil || m.want == "terminated" || want == "terminated" && s.r.IntN(4) > 0 {
		return
	}
	m.want, m.changesAt = want, s.now.Add(s.delay())
	s.note("outside: %s %s", m.id, want)
}

func (s *sim) delay() time.Duration { return time.Duration(s.r.IntN(120)) * time.Second }

// call makes a call to the cloud. The answer may be lost before or after the effect. Refusals of all verdicts come only
// while the token is unused, as a cloud's idempotency promises.
func (s *sim) call(c instance.Call) {
	refuse := func(v instance.Verdict) {
		s.execute(instance.Refuse{Call: c, Attempt: s.state.Attempts, Verdict: v, Code: "c", Reason: "R.",
			RetryAt: s.now.Add(time.Duration(s.r.IntN(30)) * time.Second)})
	}
	fate := 99
	if !s.calm {
		fate = s.r.IntN(10)
	}
	token := s.state.Spec.ClientToken
	m := s.machines[token]
	if c != instance.CallLaunch && m == nil {
		panic("a call to a machine that never was")
	}
	switch {
	case fate == 0:
		return // the request is lost, and the control plane crashes
	case fate == 1 || fate == 2:
		refuse(instance.Again)
		return
	case fate == 3 && c == instance.CallLaunch && m == nil:
		refuse(instance.Another)
		return
	case fate == 4 && s.r.IntN(4) == 0 && (c == instance.CallStart || c == instance.CallLaunch && m == nil):
		refuse(instance.Never)
		return
	}
	s.effect(c, token)
	switch {
	case fate == 5:
		return // the answer is lost
	case fate == 6:
		refuse(instance.Again) // an answer that does not show the effect
		return
	}
	if c == instance.CallLaunch {
		s.execute(instance.Launched{Attempt: s.state.Attempts, Machine: s.machines[token].id, At: s.now})
		return
	}
	s.execute(instance.Accept{Call: c, At: s.now})
}

func (s *sim) effect(c instance.Call, token string) {
	m := s.machines[token]
	want := map[instance.Call]string{instance.CallLaunch: "running", instance.CallStart: "running", instance.CallStop: "stopped", instance.CallTerminate: "terminated"}[c]
	if c == instance.CallLaunch {
		if m == nil {
			s.launches++
			s.machines[token] = &machine{id: fmt.Sprint("m", s.launches), want: want, seen: "pending", changesAt: s.now.Add(s.delay()), visible: s.now.Add(s.delay() / 2)}
		}
		return
	}
	if m.want == "terminated" {
		return
	}
	if !s.calm && s.r.IntN(8) == 0 {
		return // accepted, but without effect
	}
	m.want, m.changesAt = want, s.now.Add(s.delay())
}

func (s *sim) observe() {
	id := s.state.Machine
	if id == "" || !s.calm && s.r.IntN(4) == 0 {
		return
	}
	seen := instance.SeenMissing
	for _, m := range s.machines {
		if m.id == id && s.now.After(m.visible) {
			seen = instance.Seen(m.seen)
		}
	}
	s.execute(instance.Observe{Machine: id, Seen: seen, Address: "a", At: s.now})
}

func (s *sim) execute(c instance.Command) {
	events, err := instance.Decide(s.state, c)
	for _, e := range events {
		s.state = instance.Evolve(s.state, e)
	}
	if len(events) > 0 || err != nil {
		s.note("%T%+v: %T %v", c, c, events, err)
	}
	if n := s.live(); n > 1 {
		s.note("LEDGER: %d machines", n)
	}
}

func (s *sim) note(format string, args ...any) {
	s.trace = append(s.trace, s.now.Format("15:04:05 ")+fmt.Sprintf(format, args...))
}

func (s *sim) history() (all string) {
	for _, line := range s.trace {
		all += line + "\n"
	}
	return all
}

func (s *sim) live() (n int) {
	for _, m := range s.machines {
		if m.seen != "terminated" && m.want != "terminated" {
			n++
		}
	}
	return n
}

// verdict compares the ledger with the log once all is quiet.
func (s *sim) verdict() error {
	for _, line := range s.trace {
		if len(line) > 15 && line[9:15] == "LEDGER" {
			return fmt.Errorf("%s", line)
		}
	}
	var alive []string
	for _, m := range s.machines {
		if m.seen != "terminated" {
			alive = append(alive, m.id)
		}
	}
	step := Next(s.state, Policy{}, s.now)
	switch s.state.Status {
	case instance.StatusTerminated, instance.StatusFailed:
		if len(alive) > 0 {
			return fmt.Errorf("%s, and %v alive", s.state.Status, alive)
		}
	case instance.Running, instance.Stopped:
		if len(alive) != 1 || alive[0] != s.state.Machine {
			return fmt.Errorf("%s with %q, and %v alive", s.state.Status, s.state.Machine, alive)
		}
		if seen := s.machines[s.state.Spec.ClientToken].seen; seen != string(s.state.Status) {
			return fmt.Errorf("%s, and the cloud says %s", s.state.Status, seen)
		}
		if step.Do != Watch || !step.At.IsZero() {
			return fmt.Errorf("no rest: %+v", step)
		}
	default:
		return fmt.Errorf("still %s with step %+v", s.state.Status, step)
	}
	return nil
}
