package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// stage is provisionertest's stage with a cloud, and with the settings of its sagas.
type stage struct {
	*provisionertest.Stage
	t         testing.TB
	cloud     *provisionertest.Cloud
	workers   int
	connected func(context.Context, string) (bool, error)
	policy    provisioning.Policy
}

// newStage must be called in a synctest bubble.
func newStage(t *testing.T, seed uint64) *stage {
	s := &stage{t: t, cloud: provisionertest.NewCloud(seed), workers: 2}
	t.Cleanup(func() { // after the sagas have ended
		if wrongs := s.Wrongs(); len(wrongs) > 0 {
			t.Errorf("got %q, want nothing wrong", wrongs)
		}
	})
	s.Stage = provisionertest.NewStage(t, provisionertest.Config{
		Seed: seed, Machines: s.cloud.Machines, Trace: s.cloud.Trace,
		Saga: func() *provisioner.Saga {
			return &provisioner.Saga{
				Cloud: s.cloud, Connected: s.connected, Policy: s.policy,
				PollEvery: 5 * time.Second, SweepEvery: 3 * time.Minute, Workers: s.workers,
			}
		},
	})
	s.Instances.Cloud = s.cloud
	return s
}

// agree compares the cloud's ledger with the log once all is quiet.
func (s *stage) agree() error {
	if err := s.Agree(); err != nil {
		return err
	}
	if wrongs := s.cloud.Wrongs(); len(wrongs) > 0 {
		return fmt.Errorf("%w: the cloud saw %s", provisionertest.ErrWrong, strings.Join(wrongs, "; "))
	}
	return nil
}

func (s *stage) agreed() {
	s.t.Helper()
	if err := s.agree(); err != nil {
		s.t.Errorf("got %v, want ledger and log to agree\n%s", err, s.History())
	}
}

// play runs a scene in its own bubble.
func play(t *testing.T, scene func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scene(newStage(t, 1)) })
}

func TestSagaHappyPath(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		st := s.Until("ready", id, provisionertest.Ready)
		if st.Address == "" || st.Enrolled != 1 || st.Attempts != 1 || s.cloud.Calls("launch") != 1 {
			s.t.Errorf("got %+v after %d launches, want st.Address not empty, st.Enrolled == 1, st.Attempts == 1 and s.cloud.Calls(\"launch\") == 1", st, s.cloud.Calls("launch"))
		}
		s.agreed()
		s.Do("stop", id)
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		s.agreed()
		s.Do("start", id)
		st = s.Until("ready again", id, provisionertest.Ready)
		if st.Boot != "boot-2" {
			s.t.Errorf("got %+v, want st.Boot == \"boot-2\"", st)
		}
		s.Do("terminate", id)
		s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
		s.agreed()
		for call, want := range map[string]int{"launch": 1, "stop": 1, "start": 1, "terminate": 1} {
			if got := s.cloud.Calls(call); got != want {
				s.t.Errorf("got %d %s calls, want %d", got, call, want)
			}
		}
	})
}

func TestSagaRefusals(t *testing.T) {
	t.Parallel()
	no := func(v instance.Verdict) provisionertest.Fate {
		return provisionertest.Fate{Err: provisionertest.Refused(v, "Busy"), Took: time.Second}
	}
	many := func(n int, f provisionertest.Fate) (list []provisionertest.Fate) {
		for range n {
			list = append(list, f)
		}
		return list
	}
	lost := provisionertest.Fate{Err: errors.New("connection reset"), Effect: true, Took: time.Second}
	for _, c := range []struct {
		name     string
		fates    []provisionertest.Fate
		want     instance.Status
		code     string
		machines int
		attempts int
	}{
		{"again", many(3, no(instance.Again)), instance.Running, "", 1, 1},
		{"another", many(3, no(instance.Another)), instance.Running, "", 1, 4},
		{"never", many(1, no(instance.Never)), instance.StatusFailed, "Busy", 0, 1},
		{"again always", many(10, no(instance.Again)), instance.StatusFailed, "launch_refused", 0, 1},
		{"replies lost, then again always", append(many(1, lost), many(9, no(instance.Again))...), instance.StatusFailed, "launch_refused", 1, 1},
		{"another always", many(6, no(instance.Another)), instance.StatusFailed, "no_capacity", 0, 6},
		{"reply lost", []provisionertest.Fate{lost}, instance.Running, "", 1, 1},
		{"replies always lost", many(10, lost), instance.StatusFailed, "launch_refused", 1, 1},
		{"reply never comes", []provisionertest.Fate{{Effect: true, Hangs: true}}, instance.Running, "", 1, 1},
		{"request never arrives", []provisionertest.Fate{{Hangs: true}}, instance.Running, "", 1, 1},
		{"wrapped refusal", []provisionertest.Fate{{Err: fmt.Errorf("launch: %w", provisionertest.Refused(instance.Never, "Quota"))}}, instance.StatusFailed, "Quota", 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.Answers("launch", c.fates...)
				s.Start()
				id := s.Create()
				st := s.Until(string(c.want), id, func(st instance.State) bool {
					return st.Status == c.want && (st.Status != instance.Running || st.Ready())
				})
				if s.cloud.Launches() != c.machines || st.Attempts != c.attempts || c.code != "" && st.Abandoned.Code != c.code {
					s.t.Errorf("got %d machines, %+v, want s.cloud.Launches() == %v, st.Attempts == %v and c.code empty or st.Abandoned.Code == %v", s.cloud.Launches(), st, c.machines, c.attempts, c.code)
				}
				s.agreed()
			})
		})
	}
}

// If the cloud says when to retry, the saga does not retry earlier.
func TestSagaHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		err := &machines.CallError{Verdict: instance.Again, Code: "RequestLimitExceeded", Reason: "Slow down.", RetryAfter: 5 * time.Minute}
		s.cloud.Answers("launch", provisionertest.Fate{Err: err})
		s.Start()
		id := s.Create()
		began := time.Now()
		s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		if d := time.Since(began); d < 5*time.Minute || d > 8*time.Minute {
			s.t.Errorf("got another call after %v, want it between %v and %v", d, 5*time.Minute, 8*time.Minute)
		}
	})
}

func TestSagaStartRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		verdict instance.Verdict
		n       int
		want    instance.Status
		calls   int
	}{
		{instance.Again, 3, instance.Running, 4},
		{instance.Another, 3, instance.Running, 4},
		{instance.Never, 1, instance.Stopped, 1},
		{instance.Again, 1000, instance.Stopped, 10},
		{instance.Another, 1000, instance.Stopped, 10},
	} {
		t.Run(fmt.Sprint(c.verdict, " ", c.n), func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.Start()
				id := s.Create()
				s.Until("ready", id, provisionertest.Ready)
				s.Do("stop", id)
				s.Until("stopped", id, provisionertest.Status(instance.Stopped))
				for range c.n {
					s.cloud.Answers("start", provisionertest.Fate{Err: provisionertest.Refused(c.verdict, "InsufficientInstanceCapacity")})
				}
				s.Do("start", id)
				began := time.Now()
				st := s.Until(string(c.want), id, provisionertest.Status(c.want))
				if got := s.cloud.Calls("start"); got != c.calls {
					s.t.Errorf("got %d calls in %v, want %d", got, time.Since(began), c.calls)
				}
				if c.want == instance.Stopped && st.Refusal == "" {
					s.t.Errorf("no reason: got %+v, want c.want != %v or st.Refusal not empty", st, instance.Stopped)
				}
				if c.n > 10 && time.Since(began) < time.Minute {
					s.t.Errorf("got %d calls within %v, want c.n <= 10 or time.Since(began) >= %v", c.calls, time.Since(began), time.Minute)
				}
			})
		})
	}
}

// The reason of a call that was given up does not promise a retry.
func TestSagaPromisesNoRetryAfterTheLast(t *testing.T) {
	t.Parallel()
	busy := make([]provisionertest.Fate, 10)
	for i := range busy {
		busy[i].Err = &machines.CallError{Verdict: instance.Again, Code: "Busy", Reason: "The cloud is busy; retrying.", Err: errors.New("scripted")}
	}
	play(t, func(s *stage) {
		s.cloud.Answers("launch", busy...)
		s.Start()
		st := s.Until("failed", s.Create(), provisionertest.Status(instance.StatusFailed))
		if want := "The launch was refused 10 times in a row. The last answer was: The cloud is busy."; st.Abandoned.Reason != want {
			s.t.Errorf("launch: got %q, want %q", st.Abandoned.Reason, want)
		}
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Do("stop", id)
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		s.cloud.Answers("start", busy...)
		s.Do("start", id)
		st = s.Until("stopped again", id, provisionertest.Status(instance.Stopped))
		if want := "The start was refused 10 times in a row. The last answer was: The cloud is busy."; st.Refusal != want {
			s.t.Errorf("start: got %q, want %q", st.Refusal, want)
		}
	})
}

// A cancelled launch may have made a machine without an answer.
func TestSagaCancelsDuringLaunch(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]provisionertest.Fate{
		"slow":           {Effect: true, Took: 30 * time.Second},
		"reply lost":     {Effect: true, Took: 30 * time.Second, Err: errors.New("reset")},
		"never comes":    {Effect: true, Hangs: true, Took: 30 * time.Second},
		"no effect":      {Took: 30 * time.Second, Err: errors.New("reset")},
		"no capacity":    {Took: 30 * time.Second, Err: provisionertest.Refused(instance.Another, "InsufficientInstanceCapacity")},
		"not for you":    {Took: 30 * time.Second, Err: provisionertest.Refused(instance.Never, "OptInRequired")},
		"throttled long": {Took: 30 * time.Second, Err: &machines.CallError{Verdict: instance.Again, Code: "c", Reason: "R.", RetryAfter: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.Answers("launch", f)
				s.Start()
				id := s.Create()
				s.Sleep(10 * time.Second) // the call is under way
				s.Do("terminate", id)
				s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
				s.agreed()
			})
		})
	}
}

// An accepted call without an effect is repeated.
func TestSagaRepeatsWhatHasNoEffect(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"stop", "start", "terminate"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.Answers(call, provisionertest.Fate{Without: true, Effect: true}, provisionertest.Fate{Without: true, Effect: true})
				s.Start()
				id := s.Create()
				s.Until("ready", id, provisionertest.Ready)
				if call == "start" {
					s.Do("stop", id)
					s.Until("stopped", id, provisionertest.Status(instance.Stopped))
				}
				s.Do(call, id)
				s.Until("done", id, func(st instance.State) bool {
					return map[string]bool{"stop": st.Status == instance.Stopped, "start": st.Ready(), "terminate": st.Final()}[call]
				})
				if got := s.cloud.Calls(call); got != 3 {
					s.t.Errorf("got %d calls, want 3", got)
				}
				s.agreed()
			})
		})
	}
}

// A control plane that was moved to another region makes no calls for machines in the old one.
func TestSagaOtherRegion(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Stop()
		s.cloud.Elsewhere = "elsewhere"
		s.Start()
		s.Sleep(2 * instance.MissingFor)
		if st := s.State(id); !st.Ready() || !st.Missed.IsZero() {
			s.t.Errorf("got %+v, want st.Ready() and st.Missed.IsZero()", st)
		}
		s.Do("terminate", id)
		s.Sleep(time.Hour)
		if st := s.State(id); st.Status != instance.Terminating || st.Code != "other_region" || s.cloud.Calls("terminate") > 0 {
			s.t.Errorf("got %d calls, %+v, want st.Status == %v, st.Code == \"other_region\" and s.cloud.Calls(\"terminate\") == 0", s.cloud.Calls("terminate"), st, instance.Terminating)
		}
		s.Stop()
		s.cloud.Elsewhere = ""
		s.Start()
		s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
		s.agreed()
	})
}

// A connected guest ends the time that its machine was missing. A short silence later does not end the instance.
func TestSagaBelievesGuestsThatComeAndGo(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		var speaks atomic.Bool
		s.connected = func(context.Context, string) (bool, error) { return speaks.Load(), nil }
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.cloud.Blind.Store(true)
		for _, phase := range []struct {
			speaks bool
			lasts  time.Duration
		}{{false, 10 * time.Minute}, {true, 3 * time.Hour}, {false, 10 * time.Minute}, {true, time.Hour}} {
			speaks.Store(phase.speaks)
			s.Sleep(phase.lasts)
			if st := s.State(id); st.Final() || st.Missed.IsZero() != phase.speaks {
				s.t.Fatalf("speaks %v: got %+v, want !st.Final() and st.Missed.IsZero() == %v", phase.speaks, st, phase.speaks)
			}
		}
	})
}

// A machine with a connected guest exists, whatever the cloud says. It may also exist if the connection is unknown.
func TestSagaBelievesGuests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connected bool
		err       error
		lost      bool
	}{
		"connected":     {connected: true},
		"unknown":       {err: errors.New("NATS is unreachable")},
		"not connected": {lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.connected = func(context.Context, string) (bool, error) { return c.connected, c.err }
				s.Start()
				id := s.Create()
				s.Until("ready", id, provisionertest.Ready)
				s.cloud.Blind.Store(true)
				s.Sleep(2 * instance.MissingFor)
				if st := s.State(id); (st.Status == instance.StatusFailed) != c.lost {
					s.t.Errorf("got %+v, want (st.Status == instance.StatusFailed) == %v", st, c.lost)
				}
			})
		})
	}
}

// Stop and terminate calls are never given up, whatever the cloud says: a forgotten machine costs money.
func TestSagaNeverGivesUpTakingDown(t *testing.T) {
	t.Parallel()
	for _, v := range []instance.Verdict{instance.Again, instance.Another, instance.Never} {
		t.Run(string(v), func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				const lasting = 120
				for range lasting {
					s.cloud.Answers("terminate", provisionertest.Fate{Err: provisionertest.Refused(v, "UnauthorizedOperation")})
				}
				s.Start()
				id := s.Create()
				s.Until("ready", id, provisionertest.Ready)
				s.Do("terminate", id)
				s.Sleep(12 * time.Hour)
				if n := s.cloud.Calls("terminate"); n < 50 || n >= lasting {
					s.t.Errorf("got %d calls in half a day of refusals, want n >= 50 and n < %v", n, lasting)
				}
				s.Sleep(12 * time.Hour)
				s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
				s.agreed()
			})
		})
	}
}

// The cloud does not list a new machine for a while, even if its attempt was recorded long ago. The machine must not be
// given up.
func TestSagaLaunchesLate(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.CrashAt(func(point string) bool { return point == "call.call.launch.before" })
		s.Start()
		id := s.Create()
		s.Sleep(2 * time.Hour) // no saga runs
		s.CrashAt(nil)
		if !s.Dead() {
			s.t.Fatalf("got a saga that runs, want it dead")
		}
		s.Start()
		st := s.Until("ready", id, provisionertest.Ready)
		if st.Attempts != 1 || st.Enrolled != 1 {
			s.t.Errorf("got %+v, want st.Attempts == 1 and st.Enrolled == 1", st)
		}
		s.agreed()
	})
}

var noCapacity = provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "InsufficientInstanceCapacity")}

// A saga is frozen before its call, and wakes up while another continues its attempt. While that call may be under way,
// no refusal of the other's calls ends the attempt, so there is one machine.
func TestSagaReckonsWithAnother(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		thaw := s.Freeze("call.call.launch.before")
		s.Start()
		id := s.Create()
		s.Sleep(time.Second)
		s.cloud.Answers("launch", noCapacity, noCapacity, noCapacity)
		s.Start()
		s.Sleep(3 * time.Minute)
		if st := s.State(id); !st.Open || st.Attempts != 1 || st.Tries != 2 {
			s.t.Errorf("after two refusals: got %+v, want st.Open, st.Attempts == 1 and st.Tries == 2", st)
		}
		thaw()
		s.Until("ready", id, provisionertest.Ready)
		if got := s.cloud.Launches(); got != 1 || s.State(id).Attempts != 1 {
			s.t.Errorf("got %d machines and %d attempts, want 1 and 1", got, s.State(id).Attempts)
		}
		s.agreed()
	})
}

// A saga that could not record the outcome of its call treats that call like another saga's.
func TestSagaReckonsWithWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		var once sync.Once
		s.CrashAt(func(point string) bool {
			if point == "append.call.launch.before" {
				once.Do(func() { s.Refuse.Store(true) })
			}
			return false
		})
		s.cloud.Answers("launch", provisionertest.Fate{Err: errors.New("connection reset by peer")}, noCapacity)
		s.Start()
		id := s.Create()
		s.Sleep(time.Second)
		s.Refuse.Store(false)
		s.Sleep(time.Minute)
		if st := s.State(id); !st.Open || st.Attempts != 1 || st.Tries != 1 || st.Unsure.IsZero() {
			s.t.Errorf("got %+v, want st.Open, st.Attempts == 1, st.Tries == 1 and !st.Unsure.IsZero()", st)
		}
	})
}

// If the clock jumps over that time, the attempt ends too early. The log refuses the frozen saga's outcome, and its
// machine is terminated, however often that call is refused.
func TestSagaZombie(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		var jump atomic.Int64
		s.Log.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(jump.Load())) }
		thaw := s.Freeze("call.call.launch.before")
		s.CrashAt(func(point string) bool {
			if point == "call.call.launch.after" {
				jump.Store(int64(instance.DoubtFor))
			}
			return false
		})
		s.Start()
		id := s.Create()
		s.Sleep(time.Second)
		s.cloud.Answers("launch", noCapacity)
		s.Start()
		s.Until("launched", id, func(st instance.State) bool { return st.Attempts == 2 && st.Machine != "" })
		s.cloud.Answers("terminate", provisionertest.Fate{Err: errors.New("reset")}, provisionertest.Fate{Err: provisionertest.Refused(instance.Again, "RequestLimitExceeded")})
		thaw()
		s.Until("ready", id, provisionertest.Ready)
		s.Sleep(10 * time.Minute)
		if got := s.cloud.Launches(); got != 2 {
			s.t.Errorf("got %d machines, want 2, one of the zombie", got)
		}
		s.cloud.Wrongs() // for a short time there were two
		s.agreed()
	})
}

// The saga notices an event that comes between reading an instance and the end of its step.
func TestSagaHearsWhatHappensWhileItLooks(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Sleep(time.Hour)
		var stopped atomic.Bool
		s.Looked = func(stream eventstore.StreamID) {
			if stream.Aggregate != "instance" || stopped.Swap(true) {
				return
			}
			if _, err := s.Log.ExecuteInstance(context.Background(), id, instance.Stop{At: time.Now()}); err != nil {
				s.t.Error(err)
			}
			_ = retry.Sleep(context.Background(), time.Millisecond) // the event is delivered before the read ends
		}
		if _, err := s.store().Append(context.Background(), s.renamed(id)); err != nil {
			s.t.Fatal(err)
		}
		synctest.Wait()
		s.Sleep(2 * time.Second)
		if n := s.cloud.Calls("stop"); n != 1 || !stopped.Load() {
			s.t.Errorf("got %d stop calls at once, want n == 1 and stopped.Load()", n)
		}
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
	})
}

// renamed returns an event that wakes the saga but needs no step.
func (s *stage) renamed(id string) eventstore.Append {
	stream := eventstore.StreamID{Aggregate: "instance", ID: id}
	var version int64
	for e, err := range s.store().ReadStream(context.Background(), stream, 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		version = e.Version
	}
	typ, schema, data, err := instance.Codec.Encode(instance.Renamed{Name: []byte("sealed")})
	if err != nil {
		s.t.Fatal(err)
	}
	e := eventstore.NewEvent{ID: s.Log.NewID(), Type: typ, Schema: schema, Time: time.Now(), Data: data}
	return eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: version, Events: []eventstore.NewEvent{e}}}}
}

// store returns the log below the Recorder.
func (s *stage) store() eventstore.Store { return s.Recorder.Store }

// A log that cannot be written for a while only delays the saga, although no event will wake it.
func TestSagaOutlivesTheStore(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Refuse.Store(true)
		s.Sleep(30 * time.Minute)
		s.Refuse.Store(false)
		began := time.Now()
		s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		if d := time.Since(began); d > 2*time.Minute {
			s.t.Errorf("got a launch after %v, want it within %v", d, 2*time.Minute)
		}
		s.Until("ready", id, provisionertest.Ready)
		s.agreed()
	})
}

func TestSagaGivesUpAMachineThatNeverRuns(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		s.Until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		s.cloud.Delay(24 * time.Hour)
		st := s.Until("failed", id, provisionertest.Status(instance.StatusFailed))
		if st.Abandoned.Code != "launch_timeout" {
			s.t.Errorf("got %+v, want st.Abandoned.Code == \"launch_timeout\"", st)
		}
		s.agreed()
	})
}

// A slow boot is recorded once, and once more only after the next boot.
func TestSagaSaysThatABootStalls(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.Start()
		id := s.Create()
		for range 100 {
			s.Sleep(time.Minute)
		}
		st := s.State(id)
		if !st.Stalled || st.Status != instance.Running || s.Count("instance.boot_stalled") != 1 {
			s.t.Errorf("got %d times, %+v, want st.Stalled, st.Status == %v and s.Count(\"instance.boot_stalled\") == 1", s.Count("instance.boot_stalled"), st, instance.Running)
		}
		st = s.Until("ready", id, provisionertest.Ready)
		if n := s.Count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("while the boot continues: got %d events, want 1", n)
		}
		if err := s.Guests.Reached(context.Background(), id, "boot-x", instance.PhaseBooting, ""); err != nil {
			s.t.Error(err)
		}
		s.Sleep(time.Minute)
		if n := s.Count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("a minute after a restart from within: got %d events, want 1", n)
		}
		s.Sleep(20 * time.Minute)
		if n := s.Count("instance.boot_stalled"); n != 2 {
			s.t.Errorf("long after a restart from within: got %d events, want 2", n)
		}
	})
}

// A run that passes every point crashes at each of them, and a new saga continues.
func TestSagaCrashesEverywhere(t *testing.T) {
	t.Parallel()
	full := func(s *stage) {
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "InsufficientInstanceCapacity")}, provisionertest.Fate{Err: errors.New("reset"), Effect: true})
		s.Start()
		id := s.Create()
		s.Until("ready", id, provisionertest.Ready)
		s.Do("stop", id)
		s.Until("stopped", id, provisionertest.Status(instance.Stopped))
		s.Do("start", id)
		s.Until("ready", id, provisionertest.Ready)
		s.Do("terminate", id)
		s.Until("terminated", id, provisionertest.Status(instance.StatusTerminated))
		cancelled := s.Create()
		s.Until("open", cancelled, func(st instance.State) bool { return st.Attempts > 0 })
		s.Do("terminate", cancelled)
		s.Until("terminated", cancelled, provisionertest.Status(instance.StatusTerminated))
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Never, "OptInRequired")}) // before Create: the saga may be fast
		refusedOne := s.Create()
		s.Until("failed", refusedOne, provisionertest.Status(instance.StatusFailed))
		s.agreed()
	}
	var points map[string]int
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, 1)
		full(s)
		s.Stop()
		points = s.Points()
	})
	crashes := 0
	for _, point := range slices.Sorted(maps.Keys(points)) {
		for nth := 1; nth <= min(points[point], 3); nth++ {
			crashes++
			t.Run(fmt.Sprint(point, " ", nth), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newStage(t, 1)
					crashed := s.CrashOnce(point, nth)
					full(s)
					s.Stop()
					if !crashed() {
						t.Errorf("got no crash, want one at %s", point)
					}
				})
			})
		}
	}
	t.Logf("%d points, %d crashes: %v", len(points), crashes, points)
	for _, want := range []string{"call.call.launch.after", "append.attempt.before", "append.call.terminate.after", "append.conclude.after"} {
		if points[want] == 0 {
			t.Errorf("the run never came to %s", want)
		}
	}
}

func TestSagaEndsCleanly(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		broken := errors.New("feed broken")
		saga := &provisioner.Saga{
			Log: s.Log, Cloud: s.cloud, Tokens: s.Tokens, Live: s.Live, Logger: slog.New(slog.DiscardHandler),
			Feed: failing{broken},
		}
		if err := saga.Run(context.Background()); !errors.Is(err, broken) {
			s.t.Errorf("a broken feed: got %v, want error %v", err, broken)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		saga.Feed = wrapping{provisionertest.Feed{Store: s.Recorder}}
		if err := saga.Run(ctx); err != nil {
			s.t.Errorf("its time was over: got %v, want no error", err)
		}
		saga.Live = func(context.Context) ([]string, int64, error) { return nil, 0, broken }
		if err := saga.Run(context.Background()); !errors.Is(err, broken) {
			s.t.Errorf("no list: got %v, want error %v", err, broken)
		}
	})
}

type failing struct{ err error }

func (f failing) Follow(context.Context, int64, func(context.Context, []eventstore.Event) error) error {
	return f.err
}

// wrapping returns an error that wraps the context's.
type wrapping struct{ provisionertest.Feed }

func (w wrapping) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	return fmt.Errorf("follow the log: %w", w.Feed.Follow(ctx, after, fn))
}

// The saga passes its Policy to provisioning.Next.
func TestSagaPolicy(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "X")})
		s.policy.Attempts = 1
		s.Start()
		id := s.Create()
		if st := s.Until("failed", id, provisionertest.Status(instance.StatusFailed)); st.Attempts != 1 {
			s.t.Errorf("got %+v, want st.Attempts == 1", st)
		}
	})
}
