package provisioner_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// stage is a world with a saga in it that can crash and come back, all on synctest's clock.
type stage struct {
	*commandstest.World
	t      testing.TB
	cloud  *provisionertest.Cloud
	origin commands.Origin
	lag    int64 // how far Live is behind the log
	crash  func(point string) bool
	sagas  []*running
	points map[string]int
	mu     sync.Mutex

	workers   int
	connected func(context.Context, string) (bool, error)
	read      int64 // how far the log is folded
	states    map[string]instance.State
	slots     map[string]int // held, by instance
}

type running struct {
	cancel context.CancelFunc
	done   chan error
}

// newStage must be called in a synctest bubble. Its end stops the sagas.
func newStage(t *testing.T, seed uint64, limit int) *stage {
	w := commandstest.NewWorld(limit)
	now := func() time.Time { return time.Now().UTC() }
	w.Log.Now, w.Accounts.Now, w.Instances.Now, w.Keys.Now, w.Guests.Now = now, now, now, now, now
	s := &stage{World: w, t: t, cloud: provisionertest.NewCloud(seed), points: map[string]int{}, workers: 2, states: map[string]instance.State{}, slots: map[string]int{}}
	w.Instances.Cloud = s.cloud
	s.origin, _ = w.SignUp(t, "ada@example.org")
	t.Cleanup(s.stop)
	return s
}

// start lets a saga run; crash may end it at a point.
func (s *stage) start() *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	jitter := rand.New(rand.NewPCG(s.cloud.Seed, uint64(len(s.sagas))))
	var jitters sync.Mutex
	saga := &provisioner.Saga{
		Log: s.Log, Cloud: s.cloud, Tokens: s.Tokens, Live: s.live, Feed: feed{s.Recorder}, Connected: s.connected,
		Logger: slog.New(slog.DiscardHandler), PollEvery: 5 * time.Second, SweepEvery: 3 * time.Minute, Workers: s.workers,
		Jitter: func(d time.Duration) time.Duration {
			jitters.Lock()
			defer jitters.Unlock()
			return time.Duration(jitter.Int64N(int64(d)))
		},
		At: func(point string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.points[point]++
			if s.crash != nil && s.crash(point) {
				cancel() // whatever comes after sees it and has no effect: as dead as a process gets
			}
		},
	}
	go func() { r.done <- saga.Run(ctx) }()
	s.sagas = append(s.sagas, r)
	return r
}

// crashes says at which points a saga dies from now on.
func (s *stage) crashes(at func(point string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crash = at
}

func (s *stage) stop() {
	for _, r := range s.sagas {
		r.cancel()
		if err, open := <-r.done; open && err != nil {
			s.t.Errorf("saga ended with %v", err)
		}
	}
	s.sagas = nil
}

// dead tells whether a saga has ended, and forgets it.
func (s *stage) dead() bool {
	for i, r := range s.sagas {
		select {
		case err := <-r.done:
			if err != nil {
				s.t.Errorf("saga ended with %v", err)
			}
			s.sagas = append(s.sagas[:i:i], s.sagas[i+1:]...)
			return true
		default:
		}
	}
	return false
}

// live lists the instances that are not final as of lag events ago, as a read model would.
func (s *stage) live(ctx context.Context) (ids []string, position int64, err error) {
	head, err := s.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	position = max(0, head-s.lag)
	final := map[string]bool{}
	for e, err := range s.ReadAll(ctx, 0) {
		if err != nil {
			return nil, 0, err
		}
		if e.Stream.Aggregate == "instance" && e.Position <= position {
			final[e.Stream.ID] = e.Type == "instance.terminated" || e.Type == "instance.failed"
		}
	}
	for id, is := range final {
		if !is {
			ids = append(ids, id)
		}
	}
	return sorted(ids), position, nil
}

// fold brings the states up to the log and returns them.
func (s *stage) fold() map[string]instance.State {
	for e, err := range s.ReadAll(context.Background(), s.read) {
		if err != nil {
			s.t.Fatal(err)
		}
		s.read = e.Position
		switch e.Stream.Aggregate {
		case "quota":
			ev, err := quota.Codec.Decode(e.Type, e.Schema, e.Data)
			if err != nil {
				s.t.Fatal(err)
			}
			switch ev := ev.(type) {
			case quota.SlotTaken:
				s.slots[ev.Instance]++
			case quota.SlotReleased:
				s.slots[ev.Instance]--
			}
		case "instance":
			ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
			if err != nil {
				s.t.Fatal(err)
			}
			s.states[e.Stream.ID] = instance.Evolve(s.states[e.Stream.ID], ev)
			if f, ok := ev.(instance.Failed); ok && (f.Code == "" || !strings.HasSuffix(f.Reason, ".")) {
				s.t.Errorf("%s failed because %q %q", e.Stream, f.Code, f.Reason)
			}
		}
	}
	return s.states
}

func (s *stage) state(id string) instance.State { return s.fold()[id] }

// feed is a Feed over any store.
type feed struct{ store eventstore.Store }

func (f feed) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	hints := f.store.Notifications(ctx)
	for {
		var batch []eventstore.Event
		for e, err := range f.store.ReadAll(ctx, after) {
			if err != nil {
				return err
			}
			batch = append(batch, e)
		}
		if len(batch) > 0 {
			if err := fn(ctx, batch); err != nil {
				return err
			}
			after = batch[len(batch)-1].Position
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hints:
		}
	}
}

func (s *stage) create() string {
	s.t.Helper()
	out, err := s.Instances.Create(context.Background(), s.origin, "desk", "")
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Answer.ID
}

// until lets time pass, and guests speak, until the instance is as wanted.
func (s *stage) until(what string, id string, wanted func(instance.State) bool) instance.State {
	s.t.Helper()
	for range 3 * 3600 {
		if st := s.state(id); wanted(st) {
			return st
		}
		_ = provisionertest.Pause(context.Background(), time.Second)
		s.speak(nil)
		if s.dead() {
			s.start()
		}
	}
	s.t.Fatalf("%s: never %s; state %+v\n%s", id, what, s.state(id), strings.Join(s.cloud.Trace, "\n"))
	return instance.State{}
}

func status(want instance.Status) func(instance.State) bool {
	return func(s instance.State) bool { return s.Status == want }
}

func ready(s instance.State) bool { return s.Ready() }

// speak lets the guests of the running machines enrol and report; some gives each a chance of silence.
func (s *stage) speak(silent func() bool) {
	for _, m := range s.cloud.Running() {
		if silent != nil && silent() {
			continue
		}
		token := strings.TrimPrefix(m.UserData, "token=")
		key := []byte(fmt.Sprintf("%-32.32s", m.ID))
		st := s.state(m.Instance)
		if st.Enrolled != st.Attempts {
			if _, err := s.Guests.Enroll(context.Background(), token, key); err != nil && commandstest.Code(err) == "" {
				s.t.Errorf("enrol: %v", err)
			}
		}
		next := instance.PhaseBooting.Rank()
		if boot := fmt.Sprint("boot-", m.Boots); st.Boot == boot {
			next = st.Phase.Rank() + 1
		}
		if next >= len(instance.Phases) {
			continue
		}
		if err := s.Guests.Reached(context.Background(), m.Instance, fmt.Sprint("boot-", m.Boots), instance.Phases[next], "detail"); err != nil {
			s.t.Errorf("reached: %v", err)
		}
	}
}

// agree compares the cloud's ledger with the log when all is quiet.
func (s *stage) agree() error {
	alive := s.cloud.Alive()
	for id, st := range s.fold() {
		if held := s.slots[id]; st.Final() && held != 0 || !st.Final() && held != 1 {
			return fmt.Errorf("%s is %s and holds %d slots", id, st.Status, held)
		}
		held := alive[id]
		delete(alive, id)
		switch {
		case st.Final():
			if len(held) > 0 {
				return fmt.Errorf("%s is %s, and its machine %s (%s) lives", id, st.Status, held[0].ID, held[0].State)
			}
		case st.Status != instance.Running && st.Status != instance.Stopped:
			return fmt.Errorf("%s is still %s: %+v", id, st.Status, st)
		case len(held) != 1 || held[0].ID != st.Machine:
			return fmt.Errorf("%s is %s with machine %q, and the ledger has %+v", id, st.Status, st.Machine, held)
		case string(held[0].State) != string(st.Status) || held[0].Next != "":
			return fmt.Errorf("%s is %s, and its machine %s", id, st.Status, held[0].State)
		case st.Status == instance.Running && !st.Ready() && !st.Stalled:
			return fmt.Errorf("%s runs, is not ready and says no reason: %+v", id, st)
		}
	}
	if len(alive) > 0 {
		return fmt.Errorf("orphans: %v", alive)
	}
	if len(s.cloud.Wrongs) > 0 {
		return fmt.Errorf("the cloud saw: %s", strings.Join(s.cloud.Wrongs, "; "))
	}
	return nil
}

func (s *stage) agreed() {
	s.t.Helper()
	if err := s.agree(); err != nil {
		s.t.Errorf("%v\n%s", err, strings.Join(s.cloud.Trace, "\n"))
	}
}

// play runs one scene in a bubble of its own.
func play(t *testing.T, scene func(s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { scene(newStage(t, 1, 3)) })
}

func TestSagaHappyPath(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		st := s.until("ready", id, ready)
		if st.Address == "" || st.Enrolled != 1 || st.Attempts != 1 || s.cloud.Calls("launch") != 1 {
			s.t.Errorf("%+v after %d launches", st, s.cloud.Calls("launch"))
		}
		s.agreed()
		s.do("stop", id)
		s.until("stopped", id, status(instance.Stopped))
		s.agreed()
		s.do("start", id)
		st = s.until("ready again", id, ready)
		if st.Boot != "boot-2" {
			s.t.Errorf("%+v", st)
		}
		s.do("terminate", id)
		s.until("terminated", id, status(instance.StatusTerminated))
		s.agreed()
		for call, want := range map[string]int{"launch": 1, "stop": 1, "start": 1, "terminate": 1} {
			if got := s.cloud.Calls(call); got != want {
				s.t.Errorf("%d %s calls", got, call)
			}
		}
	})
}

// do is a user's command; refusals are the user's own business.
func (s *stage) do(command, id string) {
	ctx := context.Background()
	var err error
	switch command {
	case "stop":
		_, err = s.Instances.Stop(ctx, s.origin, id)
	case "start":
		_, err = s.Instances.Start(ctx, s.origin, id)
	case "terminate":
		_, err = s.Instances.Terminate(ctx, s.origin, id)
	}
	var refusal *domain.Error
	if err != nil && !errors.As(err, &refusal) {
		s.t.Errorf("%s %s: %v", command, id, err)
	}
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
		{"again for ever", many(10, no(instance.Again)), instance.StatusFailed, "launch_refused", 0, 1},
		{"replies lost, then again for ever", append(many(1, lost), many(9, no(instance.Again))...), instance.StatusFailed, "launch_refused", 1, 1},
		{"another for ever", many(6, no(instance.Another)), instance.StatusFailed, "no_capacity", 0, 6},
		{"reply lost", []provisionertest.Fate{lost}, instance.Running, "", 1, 1},
		{"replies lost for ever", many(10, lost), instance.StatusFailed, "launch_refused", 1, 1},
		{"reply never comes", []provisionertest.Fate{{Effect: true, Hangs: true}}, instance.Running, "", 1, 1},
		{"request never arrives", []provisionertest.Fate{{Hangs: true}}, instance.Running, "", 1, 1},
		{"wrapped refusal", []provisionertest.Fate{{Err: fmt.Errorf("launch: %w", provisionertest.Refused(instance.Never, "Quota"))}}, instance.StatusFailed, "Quota", 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.Answers("launch", c.fates...)
				s.start()
				id := s.create()
				st := s.until(string(c.want), id, func(st instance.State) bool {
					return st.Status == c.want && (st.Status != instance.Running || st.Ready())
				})
				if s.cloud.Launches() != c.machines || st.Attempts != c.attempts || c.code != "" && st.Abandoned.Code != c.code {
					s.t.Errorf("%d machines, %+v", s.cloud.Launches(), st)
				}
				s.agreed()
			})
		})
	}
}

// A cloud that says when to come back is not asked before.
func TestSagaHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		err := &machines.CallError{Verdict: instance.Again, Code: "RequestLimitExceeded", Reason: "Slow down.", RetryAfter: 5 * time.Minute}
		s.cloud.Answers("launch", provisionertest.Fate{Err: err})
		s.start()
		id := s.create()
		began := time.Now()
		s.until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		if d := time.Since(began); d < 5*time.Minute || d > 8*time.Minute {
			s.t.Errorf("asked again after %v", d)
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
				s.start()
				id := s.create()
				s.until("ready", id, ready)
				s.do("stop", id)
				s.until("stopped", id, status(instance.Stopped))
				for range c.n {
					s.cloud.Answers("start", provisionertest.Fate{Err: provisionertest.Refused(c.verdict, "InsufficientInstanceCapacity")})
				}
				s.do("start", id)
				began := time.Now()
				st := s.until(string(c.want), id, status(c.want))
				if got := s.cloud.Calls("start"); got != c.calls {
					s.t.Errorf("%d calls in %v", got, time.Since(began))
				}
				if c.want == instance.Stopped && st.Refusal == "" {
					s.t.Errorf("no reason: %+v", st)
				}
				if c.n > 10 && time.Since(began) < time.Minute {
					s.t.Errorf("%d calls within %v", c.calls, time.Since(began))
				}
			})
		})
	}
}

// A launch that was cancelled may have made a machine although nobody heard of it.
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
				s.start()
				id := s.create()
				_ = provisionertest.Pause(context.Background(), 10*time.Second) // the call is on its way
				s.do("terminate", id)
				s.until("terminated", id, status(instance.StatusTerminated))
				s.agreed()
			})
		})
	}
}

// What takes no effect although it was accepted is asked for again.
func TestSagaRepeatsWhatHasNoEffect(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"stop", "start", "terminate"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.Answers(call, provisionertest.Fate{Without: true, Effect: true}, provisionertest.Fate{Without: true, Effect: true})
				s.start()
				id := s.create()
				s.until("ready", id, ready)
				if call == "start" {
					s.do("stop", id)
					s.until("stopped", id, status(instance.Stopped))
				}
				s.do(call, id)
				s.until("done", id, func(st instance.State) bool {
					return map[string]bool{"stop": st.Status == instance.Stopped, "start": st.Ready(), "terminate": st.Final()}[call]
				})
				if got := s.cloud.Calls(call); got != 3 {
					s.t.Errorf("%d calls", got)
				}
				s.agreed()
			})
		})
	}
}

// A control plane that was moved to another region makes no calls for what it launched in the old one.
func TestSagaOtherRegion(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		s.until("ready", id, ready)
		s.stop()
		s.cloud.Area = "elsewhere"
		s.start()
		_ = provisionertest.Pause(context.Background(), 2*instance.MissingFor)
		if st := s.state(id); !st.Ready() || !st.Missed.IsZero() {
			s.t.Errorf("%+v", st)
		}
		s.do("terminate", id)
		_ = provisionertest.Pause(context.Background(), time.Hour)
		if st := s.state(id); st.Status != instance.Terminating || st.Code != "other_region" || s.cloud.Calls("terminate") > 0 {
			s.t.Errorf("%d calls, %+v", s.cloud.Calls("terminate"), st)
		}
		s.stop()
		s.cloud.Area = ""
		s.start()
		s.until("terminated", id, status(instance.StatusTerminated))
		s.agreed()
	})
}

// A guest that speaks ends the time that its machine was missed: a moment of silence later ends nothing.
func TestSagaBelievesGuestsThatComeAndGo(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		var speaks atomic.Bool
		s.connected = func(context.Context, string) (bool, error) { return speaks.Load(), nil }
		s.start()
		id := s.create()
		s.until("ready", id, ready)
		s.cloud.Blind.Store(true)
		for _, phase := range []struct {
			speaks bool
			lasts  time.Duration
		}{{false, 10 * time.Minute}, {true, 3 * time.Hour}, {false, 10 * time.Minute}, {true, time.Hour}} {
			speaks.Store(phase.speaks)
			_ = provisionertest.Pause(context.Background(), phase.lasts)
			if st := s.state(id); st.Final() || st.Missed.IsZero() != phase.speaks {
				s.t.Fatalf("speaks %v: %+v", phase.speaks, st)
			}
		}
	})
}

// A machine whose guest is connected exists, whatever the cloud says, and so it may where nobody can tell.
func TestSagaBelievesGuests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connected bool
		err       error
		lost      bool
	}{
		"connected":     {connected: true},
		"nobody knows":  {err: errors.New("NATS is away")},
		"not connected": {lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.connected = func(context.Context, string) (bool, error) { return c.connected, c.err }
				s.start()
				id := s.create()
				s.until("ready", id, ready)
				s.cloud.Blind.Store(true)
				_ = provisionertest.Pause(context.Background(), 2*instance.MissingFor)
				if st := s.state(id); (st.Status == instance.StatusFailed) != c.lost {
					s.t.Errorf("%+v", st)
				}
			})
		})
	}
}

// Stop and terminate are never given up, whatever the cloud says: a forgotten machine costs money.
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
				s.start()
				id := s.create()
				s.until("ready", id, ready)
				s.do("terminate", id)
				_ = provisionertest.Pause(context.Background(), 12*time.Hour)
				if n := s.cloud.Calls("terminate"); n < 50 || n >= lasting {
					s.t.Errorf("%d calls in half a day of refusals", n)
				}
				_ = provisionertest.Pause(context.Background(), 12*time.Hour)
				s.until("terminated", id, status(instance.StatusTerminated))
				s.agreed()
			})
		})
	}
}

// A machine launched long after its attempt was written is unknown to the cloud for a while, as
// any new one: it must not be taken for gone.
func TestSagaLaunchesLate(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.crash = func(point string) bool { return point == "call.call.launch.before" }
		s.start()
		id := s.create()
		_ = provisionertest.Pause(context.Background(), 2*time.Hour) // nobody is there
		s.crashes(nil)
		if !s.dead() {
			s.t.Fatal("the saga lives")
		}
		s.start()
		st := s.until("ready", id, ready)
		if st.Attempts != 1 || st.Enrolled != 1 {
			s.t.Errorf("%+v", st)
		}
		s.agreed()
	})
}

// freeze freezes the first saga that is about to launch, until the channel is closed.
func (s *stage) freeze() (thaw chan struct{}) {
	thaw = make(chan struct{})
	frozen := false
	s.crashes(func(point string) bool {
		if point != "call.call.launch.before" || frozen {
			return false
		}
		frozen = true
		s.mu.Unlock()
		<-thaw
		s.mu.Lock()
		return false
	})
	return thaw
}

var noCapacity = provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "InsufficientInstanceCapacity")}

// A saga that was frozen before its call wakes up while another goes on with its attempt: no refusal that
// the other hears ends the attempt as long as that call may be under way, so there is one machine.
func TestSagaReckonsWithAnother(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		thaw := s.freeze()
		s.start()
		id := s.create()
		_ = provisionertest.Pause(context.Background(), time.Second)
		s.cloud.Answers("launch", noCapacity, noCapacity, noCapacity)
		s.start()
		_ = provisionertest.Pause(context.Background(), 3*time.Minute)
		if st := s.state(id); !st.Open || st.Attempts != 1 || st.Tries != 2 {
			s.t.Errorf("after two refusals: %+v", st)
		}
		close(thaw)
		s.until("ready", id, ready)
		if got := s.cloud.Launches(); got != 1 || s.state(id).Attempts != 1 {
			s.t.Errorf("%d machines were launched", got)
		}
		s.agreed()
	})
}

// A saga that could not write down what came of its call reckons with that as with another's.
func TestSagaReckonsWithWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.crashes(func(point string) bool {
			if point == "append.call.launch.before" && s.points[point] == 1 {
				s.Refuse.Store(true)
			}
			return false
		})
		s.cloud.Answers("launch", provisionertest.Fate{Err: errors.New("connection reset by peer")}, noCapacity)
		s.start()
		id := s.create()
		_ = provisionertest.Pause(context.Background(), time.Second)
		s.Refuse.Store(false)
		_ = provisionertest.Pause(context.Background(), time.Minute)
		if st := s.state(id); !st.Open || st.Attempts != 1 || st.Tries != 1 || st.Unsure.IsZero() {
			s.t.Errorf("%+v", st)
		}
	})
}

// Where the clock jumps over that time, the attempt ends too early: the log refuses what the frozen one tells
// of it, and its machine is taken down, however often that is refused.
func TestSagaZombie(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		var jump atomic.Int64
		s.Log.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(jump.Load())) }
		thaw := s.freeze()
		freezing := s.crash
		s.crashes(func(point string) bool {
			if point == "call.call.launch.after" {
				jump.Store(int64(instance.DoubtFor))
			}
			return freezing(point)
		})
		s.start()
		id := s.create()
		_ = provisionertest.Pause(context.Background(), time.Second)
		s.cloud.Answers("launch", noCapacity)
		s.start()
		s.until("launched", id, func(st instance.State) bool { return st.Attempts == 2 && st.Machine != "" })
		s.cloud.Answers("terminate", provisionertest.Fate{Err: errors.New("reset")}, provisionertest.Fate{Err: provisionertest.Refused(instance.Again, "RequestLimitExceeded")})
		close(thaw)
		s.until("ready", id, ready)
		_ = provisionertest.Pause(context.Background(), 10*time.Minute)
		if got := s.cloud.Launches(); got != 2 {
			s.t.Errorf("%d machines were launched; the zombie should have launched one", got)
		}
		s.cloud.Mu.Lock()
		s.cloud.Wrongs = nil // for a moment there were two
		s.cloud.Mu.Unlock()
		s.agreed()
	})
}

// What happens between a look at an instance and the end of its step is not missed.
func TestSagaHearsWhatHappensWhileItLooks(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		s.until("ready", id, ready)
		_ = provisionertest.Pause(context.Background(), time.Hour)
		var told atomic.Bool
		s.Looked = func(stream eventstore.StreamID) {
			if stream.Aggregate != "instance" || told.Swap(true) {
				return
			}
			if _, err := s.Log.ExecuteInstance(context.Background(), id, instance.Stop{At: time.Now()}); err != nil {
				s.t.Error(err)
			}
			_ = provisionertest.Pause(context.Background(), time.Millisecond) // the news is there before the look ends
		}
		if _, err := s.store().Append(context.Background(), s.renamed(id)); err != nil {
			s.t.Fatal(err)
		}
		synctest.Wait()
		_ = provisionertest.Pause(context.Background(), 2*time.Second)
		if n := s.cloud.Calls("stop"); n != 1 || !told.Load() {
			s.t.Errorf("%d stop calls at once", n)
		}
		s.until("stopped", id, status(instance.Stopped))
	})
}

// renamed is an event that needs no step and wakes the saga.
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

// store is the log without what watches it.
func (s *stage) store() eventstore.Store { return s.Recorder.Store }

// A log that cannot be written for a while delays the saga and no more: no event will wake it.
func TestSagaOutlivesTheStore(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		s.Refuse.Store(true)
		_ = provisionertest.Pause(context.Background(), 30*time.Minute)
		s.Refuse.Store(false)
		began := time.Now()
		s.until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		if d := time.Since(began); d > 2*time.Minute {
			s.t.Errorf("it took %v to come back", d)
		}
		s.until("ready", id, ready)
		s.agreed()
	})
}

func TestSagaGivesUpAMachineThatNeverRuns(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		s.until("launched", id, func(st instance.State) bool { return st.Machine != "" })
		s.cloud.Mu.Lock()
		for _, m := range s.cloud.Machines {
			m.Changes = m.Changes.Add(24 * time.Hour)
			m.Reported = m.Changes
		}
		s.cloud.Mu.Unlock()
		st := s.until("failed", id, status(instance.StatusFailed))
		if st.Abandoned.Code != "launch_timeout" {
			s.t.Errorf("%+v", st)
		}
		s.agreed()
	})
}

// A boot that takes long is said so once, and once more only after the next boot.
func TestSagaSaysThatABootStalls(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		for range 100 {
			_ = provisionertest.Pause(context.Background(), time.Minute)
		}
		st := s.state(id)
		if !st.Stalled || st.Status != instance.Running || s.count("instance.boot_stalled") != 1 {
			s.t.Errorf("%d times, %+v", s.count("instance.boot_stalled"), st)
		}
		st = s.until("ready", id, ready)
		if n := s.count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("said %d times while it goes on", n)
		}
		if err := s.Guests.Reached(context.Background(), id, "boot-x", instance.PhaseBooting, ""); err != nil {
			s.t.Error(err)
		}
		_ = provisionertest.Pause(context.Background(), time.Minute)
		if n := s.count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("a minute after a restart from within: said %d times", n)
		}
		_ = provisionertest.Pause(context.Background(), 20*time.Minute)
		if n := s.count("instance.boot_stalled"); n != 2 {
			s.t.Errorf("long after a restart from within: said %d times", n)
		}
	})
}

func (s *stage) count(typ string) (n int) {
	for e, err := range s.ReadAll(context.Background(), 0) {
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Type == typ {
			n++
		}
	}
	return n
}

// A run that visits every point there is crashes at each of them, and a new saga goes on.
func TestSagaCrashesEverywhere(t *testing.T) {
	t.Parallel()
	full := func(s *stage) {
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "InsufficientInstanceCapacity")}, provisionertest.Fate{Err: errors.New("reset"), Effect: true})
		s.start()
		id := s.create()
		s.until("ready", id, ready)
		s.do("stop", id)
		s.until("stopped", id, status(instance.Stopped))
		s.do("start", id)
		s.until("ready", id, ready)
		s.do("terminate", id)
		s.until("terminated", id, status(instance.StatusTerminated))
		cancelled := s.create()
		s.until("open", cancelled, func(st instance.State) bool { return st.Attempts > 0 })
		s.do("terminate", cancelled)
		s.until("terminated", cancelled, status(instance.StatusTerminated))
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Never, "OptInRequired")}) // before: the saga may be fast
		refusedOne := s.create()
		s.until("failed", refusedOne, status(instance.StatusFailed))
		s.agreed()
	}
	var points map[string]int
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, 1, 3)
		full(s)
		s.stop()
		points = s.points
	})
	crashes := 0
	for _, point := range sorted(keysOf(points)) {
		for nth := 1; nth <= min(points[point], 3); nth++ {
			crashes++
			t.Run(fmt.Sprint(point, " ", nth), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newStage(t, 1, 3)
					seen, crashed := 0, false
					s.crash = func(p string) bool {
						if p == point {
							seen++
						}
						now := p == point && seen == nth && !crashed
						crashed = crashed || now
						return now
					}
					full(s)
					s.stop()
					if !crashed {
						t.Error("it did not crash")
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
			Log: s.Log, Cloud: s.cloud, Tokens: s.Tokens, Live: s.live, Logger: slog.New(slog.DiscardHandler),
			Feed: failing{broken},
		}
		if err := saga.Run(context.Background()); !errors.Is(err, broken) {
			s.t.Errorf("a broken feed: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		saga.Feed = wrapping{feed{s.Recorder}}
		if err := saga.Run(ctx); err != nil {
			s.t.Errorf("its time was over: %v", err)
		}
		saga.Live = func(context.Context) ([]string, int64, error) { return nil, 0, broken }
		if err := saga.Run(context.Background()); !errors.Is(err, broken) {
			s.t.Errorf("no list: %v", err)
		}
	})
}

type failing struct{ err error }

func (f failing) Follow(context.Context, int64, func(context.Context, []eventstore.Event) error) error {
	return f.err
}

// wrapping ends with an error that says more than the context's.
type wrapping struct{ feed }

func (w wrapping) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	return fmt.Errorf("follow the log: %w", w.feed.Follow(ctx, after, fn))
}

// Policy reaches the table.
func TestSagaPolicy(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.cloud.Answers("launch", provisionertest.Fate{Err: provisionertest.Refused(instance.Another, "X")})
		ctx, cancel := context.WithCancel(context.Background())
		saga := &provisioner.Saga{
			Log: s.Log, Cloud: s.cloud, Tokens: s.Tokens, Live: s.live, Feed: feed{s.Recorder}, Connected: s.connected,
			Logger: slog.New(slog.DiscardHandler), Policy: provisioning.Policy{Attempts: 1},
		}
		done := make(chan error, 1)
		go func() { done <- saga.Run(ctx) }()
		id := s.create()
		if st := s.until("failed", id, status(instance.StatusFailed)); st.Attempts != 1 {
			s.t.Errorf("%+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}
