package instance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// FuzzDecide turns bytes into commands of users, saga, cloud and guest, in any order and with any delay, and checks the
// decider's events against its laws.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{})
	for seed := range uint64(64) {
		r := rand.New(rand.NewPCG(seed, 1))
		script := make([]byte, 40+seed*8)
		for i := range script {
			script[i] = byte(r.Uint32())
		}
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if err := obeys(script); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDecideLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		if err := obeys(rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "script")); err != nil {
			t.Fatal(err)
		}
	})
}

// life is what can be derived from the events alone.
type life struct {
	state    State
	now      time.Time
	attempts int
	open     bool            // the latest attempt has no outcome yet
	unsure   time.Time       // when a call of it last ended unsure
	machines map[string]bool // alive
	started  map[string]bool // ever
	final    bool
	gone     bool // by Terminated
	doomed   bool // termination was requested or the launch abandoned
}

func obeys(script []byte) error {
	l := life{now: t0, machines: map[string]bool{}, started: map[string]bool{}}
	for len(script) >= 3 {
		l.now = l.now.Add(time.Duration(script[0]) * time.Duration(script[0]) * 50 * time.Millisecond)
		c := l.command(script[1], script[2])
		script = script[3:]
		if err := l.step(c); err != nil {
			return fmt.Errorf("%T %+v: %w", c, c, err)
		}
	}
	return nil
}

func (l *life) command(what, how byte) Command {
	pick := func(n int) int { return int(how) % n }
	attempt := max(0, l.attempts-pick(3)/2) // mostly the latest
	machine := fmt.Sprintf("m%d", attempt)
	verdict := []Verdict{Again, Another, Never}[pick(3)]
	call := []Call{CallLaunch, CallStart, CallStop, CallTerminate}[pick(4)]
	seen := []Seen{SeenPending, SeenRunning, SeenRunning, SeenStopping, SeenStopped, SeenGone, SeenMissing, "strange"}[pick(8)]
	if d := due(l.state); d != "" && how >= 64 {
		call = d
	}
	switch what % 27 {
	case 0:
		if how >= 192 {
			return TakeOver{Account: "acc", Region: "r", Machine: "m0", Stopped: how%2 == 0, At: l.now}
		}
		return Request{"acc", nil, "t", "r"}
	case 1:
		return Rename{[]byte{how}}
	case 2:
		return Stop{l.now}
	case 3:
		return Start{l.now}
	case 4:
		if how < 200 {
			return Start{l.now}
		}
		return Terminate{l.now}
	case 5, 6:
		return Attempt{At: l.now, Spec: spec}
	case 7, 8:
		return Launched{attempt, machine, l.now}
	case 9, 10:
		return Accept{call, l.now}
	case 11, 12:
		return Refuse{call, attempt, verdict, "c", "R.", l.now.Add(time.Duration(how) * time.Second), l.now, how%5 == 0}
	case 13:
		if how < 200 {
			return Stall{"slow"}
		}
		return Abandon{"c", "R."}
	case 14:
		if how%2 == 0 {
			return Resume{attempt, l.now}
		}
		return Conclude{}
	case 15, 16, 17:
		return Observe{Machine: l.state.Machine, Seen: seen, Address: fmt.Sprint("a", pick(3)), At: l.now, Sure: how > 250}
	case 18:
		return Enroll{attempt, []byte{how % 2}, l.now}
	case 19:
		return ReportVersions{fmt.Sprint("b", pick(2)), map[string]string{"os": fmt.Sprint(how)}, l.now}
	case 20:
		return Warn{At: l.now, StopAt: l.now.Add(time.Duration(how) * time.Second), Cause: []Cause{CauseIdle, CauseCeiling}[pick(2)], Why: "W."}
	case 21:
		if how < 128 {
			return Withdraw{l.now}
		}
		return Extend{At: l.now, Until: l.now.Add(time.Duration(how-140) * time.Minute)}
	case 22:
		return SetIdlePolicy{[]*idle.Policy{nil, {After: 60, Jobs: idle.Wake}, {Ceiling: int64(how), Jobs: idle.Sleep}}[pick(3)]}
	case 23:
		return StopBecause{At: l.now, Cause: CauseIdle, Why: "W.", WakeAt: l.now.Add(time.Hour)}
	case 24:
		return StartBecause{At: l.now, Cause: CauseJob, Why: "W."}
	case 25:
		return ReportModelCost{Meter: fmt.Sprint("m", pick(2)), Total: int64(how), At: l.now}
	}
	return ReachPhase{fmt.Sprint("b", pick(2)), Phases[pick(len(Phases))], "", l.now}
}

func (l *life) step(c Command) error {
	events, err := Decide(l.state, c)
	if err != nil && len(events) > 0 {
		return fmt.Errorf("refused with %v and yet %v", err, events)
	}
	for _, e := range events {
		l.state = Evolve(l.state, e)
		if err := l.see(e); err != nil {
			return fmt.Errorf("%T %+v: %w", e, e, err)
		}
	}
	if l.state.Open && l.state.Machine != "" {
		return fmt.Errorf("an open attempt and machine %s", l.state.Machine)
	}
	if l.state.Open != l.open || (l.state.Machine != "") != (len(l.machines) == 1) || len(l.machines) > 1 {
		return fmt.Errorf("state says open %v, machine %q; events say open %v, machines %v", l.state.Open, l.state.Machine, l.open, l.machines)
	}
	if l.state.Final() != l.final {
		return fmt.Errorf("state says %s, events say final %v", l.state.Status, l.final)
	}
	if l.doomed && l.state.Status == Running {
		return fmt.Errorf("the terminated runs")
	}
	if l.state.Warned != nil && (l.state.Status == Stopping || l.state.Status == Stopped || l.state.Status == Starting) {
		return fmt.Errorf("a warning stands although it is %s", l.state.Status)
	}
	if !l.state.WakeAt.IsZero() && (l.state.Status == Starting || l.state.Status == Running) {
		return fmt.Errorf("it waits to be started at %v although it is %s", l.state.WakeAt, l.state.Status)
	}
	return l.again(c)
}

// again checks that repeating a command adds nothing, unless the command counts or contains something new.
func (l *life) again(c Command) error {
	switch c.(type) {
	case Rename, Refuse:
		return nil
	}
	events, err := Decide(l.state, c)
	if len(events) > 0 {
		return fmt.Errorf("once more: %+v, %v", events, err)
	}
	return nil
}

func (l *life) see(e Event) error {
	switch e.(type) {
	case Renamed:
	case TerminationRequested, Terminated: // a failed instance may be dismissed
		if l.state.Status == StatusTerminated && l.gone {
			return fmt.Errorf("after the end")
		}
	default:
		if l.final {
			return fmt.Errorf("after the end")
		}
	}
	switch e := e.(type) {
	case LaunchAttempted:
		if l.open || len(l.machines) > 0 {
			return fmt.Errorf("an attempt beside open %v, machines %v", l.open, l.machines)
		}
		if e.Attempt != l.attempts+1 || l.doomed {
			return fmt.Errorf("attempt %d after %d, doomed %v", e.Attempt, l.attempts, l.doomed)
		}
		l.attempts, l.open, l.unsure = e.Attempt, true, time.Time{}
	case TakenOver:
		l.machines[e.Machine], l.started[e.Machine] = true, true
	case MachineLaunched:
		if !l.open || e.Attempt != l.attempts || l.started[e.Machine] {
			return fmt.Errorf("open %v, attempts %d, machine new %v", l.open, l.attempts, !l.started[e.Machine])
		}
		l.open = false
		l.machines[e.Machine], l.started[e.Machine] = true, true
	case CallRefused:
		if e.Call == CallLaunch && e.Verdict != Again {
			if l.open && !l.unsure.IsZero() && l.now.Before(l.unsure.Add(DoubtFor)) {
				return fmt.Errorf("the attempt ends %v after a call that was unsure", l.now.Sub(l.unsure))
			}
			l.open = false
		}
		if !e.Unsure.IsZero() {
			l.unsure = e.Unsure
		}
	case LaunchAbandoned, TerminationRequested:
		l.doomed = true
	case MachineGone:
		if len(l.machines) != 1 {
			return fmt.Errorf("of machines %v", l.machines)
		}
		clear(l.machines)
	case Terminated, Failed:
		if l.open || len(l.machines) > 0 {
			return fmt.Errorf("forgotten: open %v, machines %v", l.open, l.machines)
		}
		_, l.gone = e.(Terminated)
		l.final = true
	}
	return nil
}

// Phases only advance within a boot, whatever the guest repeats.
func TestPhasesGoForward(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := decider.Fold(running...)
		boot, rank := "", s.Phase.Rank()
		for range rapid.IntRange(1, 50).Draw(t, "words") {
			c := ReachPhase{rapid.SampledFrom([]string{"b1", "b2"}).Draw(t, "boot"), rapid.SampledFrom(Phases[:]).Draw(t, "phase"), "", t0}
			events, err := Decide(s, c)
			if err != nil && !errors.Is(err, ErrPhases) {
				t.Fatalf("got %v, want no error or error %v", err, ErrPhases)
			}
			for _, e := range events {
				p := e.(PhaseReached)
				if p.Boot == boot && p.Phase.Rank() <= rank || p.Phase.Rank() < PhaseBooting.Rank() {
					t.Fatalf("got %v after %s %d, want p.Boot != %v or p.Phase.Rank() > %v and p.Phase.Rank() >= %v", p, boot, rank, boot, rank, PhaseBooting.Rank())
				}
				boot, rank = p.Boot, p.Phase.Rank()
				s = Evolve(s, e)
			}
		}
	})
}
