package commands_test

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
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// stage is a world with a saga in it that can crash and come back, all on synctest's clock.
type stage struct {
	*world
	t      testing.TB
	cloud  *cloud
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
	w := newWorld(limit)
	now := func() time.Time { return time.Now().UTC() }
	w.log.Now, w.accounts.Now, w.instances.Now, w.keys.Now, w.guests.Now = now, now, now, now, now
	s := &stage{world: w, t: t, cloud: newCloud(seed), points: map[string]int{}, workers: 2, states: map[string]instance.State{}, slots: map[string]int{}}
	w.instances.Cloud = s.cloud
	s.origin, _ = w.signUp(t, "ada@example.org")
	t.Cleanup(s.stop)
	return s
}

// start lets a saga run; crash may end it at a point.
func (s *stage) start() *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	jitter := rand.New(rand.NewPCG(s.cloud.seed, uint64(len(s.sagas))))
	var jitters sync.Mutex
	saga := &commands.Saga{
		Log: s.log, Cloud: s.cloud, Tokens: s.tokens, Live: s.live, Feed: feed{s.recorder}, Connected: s.connected,
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
	hints := f.store.Hints(ctx)
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
	out, err := s.instances.Create(context.Background(), s.origin, "desk", "")
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
		_ = pause(context.Background(), time.Second)
		s.speak(nil)
		if s.dead() {
			s.start()
		}
	}
	s.t.Fatalf("%s: never %s; state %+v\n%s", id, what, s.state(id), strings.Join(s.cloud.trace, "\n"))
	return instance.State{}
}

func status(want instance.Status) func(instance.State) bool {
	return func(s instance.State) bool { return s.Status == want }
}

func ready(s instance.State) bool { return s.Ready() }

// speak lets the guests of the running machines enrol and report; some gives each a chance of silence.
func (s *stage) speak(silent func() bool) {
	for _, m := range s.cloud.running() {
		if silent != nil && silent() {
			continue
		}
		token := strings.TrimPrefix(m.userData, "token=")
		key := []byte(fmt.Sprintf("%-32.32s", m.id))
		st := s.state(m.instance)
		if st.Enrolled != st.Attempts {
			if _, err := s.guests.Enroll(context.Background(), token, key); err != nil && code(err) == "" {
				s.t.Errorf("enrol: %v", err)
			}
		}
		next := instance.PhaseBooting.Rank()
		if boot := fmt.Sprint("boot-", m.boots); st.Boot == boot {
			next = st.Phase.Rank() + 1
		}
		if next >= len(instance.Phases) {
			continue
		}
		if err := s.guests.Reached(context.Background(), m.instance, fmt.Sprint("boot-", m.boots), instance.Phases[next], "detail"); err != nil {
			s.t.Errorf("reached: %v", err)
		}
	}
}

// agree compares the cloud's ledger with the log when all is quiet.
func (s *stage) agree() error {
	alive := s.cloud.alive()
	for id, st := range s.fold() {
		if held := s.slots[id]; st.Final() && held != 0 || !st.Final() && held != 1 {
			return fmt.Errorf("%s is %s and holds %d slots", id, st.Status, held)
		}
		machines := alive[id]
		delete(alive, id)
		switch {
		case st.Final():
			if len(machines) > 0 {
				return fmt.Errorf("%s is %s, and its machine %s (%s) lives", id, st.Status, machines[0].id, machines[0].state)
			}
		case st.Status != instance.Running && st.Status != instance.Stopped:
			return fmt.Errorf("%s is still %s: %+v", id, st.Status, st)
		case len(machines) != 1 || machines[0].id != st.Machine:
			return fmt.Errorf("%s is %s with machine %q, and the ledger has %+v", id, st.Status, st.Machine, machines)
		case string(machines[0].state) != string(st.Status) || machines[0].next != "":
			return fmt.Errorf("%s is %s, and its machine %s", id, st.Status, machines[0].state)
		case st.Status == instance.Running && !st.Ready() && !st.Stalled:
			return fmt.Errorf("%s runs, is not ready and says no reason: %+v", id, st)
		}
	}
	if len(alive) > 0 {
		return fmt.Errorf("orphans: %v", alive)
	}
	if len(s.cloud.wrongs) > 0 {
		return fmt.Errorf("the cloud saw: %s", strings.Join(s.cloud.wrongs, "; "))
	}
	return nil
}

func (s *stage) agreed() {
	s.t.Helper()
	if err := s.agree(); err != nil {
		s.t.Errorf("%v\n%s", err, strings.Join(s.cloud.trace, "\n"))
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
		if st.Address == "" || st.Enrolled != 1 || st.Attempts != 1 || s.cloud.calls("launch") != 1 {
			s.t.Errorf("%+v after %d launches", st, s.cloud.calls("launch"))
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
		s.until("terminated", id, status(instance.StatusGone))
		s.agreed()
		for call, want := range map[string]int{"launch": 1, "stop": 1, "start": 1, "terminate": 1} {
			if got := s.cloud.calls(call); got != want {
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
		_, err = s.instances.Stop(ctx, s.origin, id)
	case "start":
		_, err = s.instances.Start(ctx, s.origin, id)
	case "terminate":
		_, err = s.instances.Terminate(ctx, s.origin, id)
	}
	var refusal *domain.Error
	if err != nil && !errors.As(err, &refusal) {
		s.t.Errorf("%s %s: %v", command, id, err)
	}
}

func TestSagaRefusals(t *testing.T) {
	t.Parallel()
	no := func(v instance.Verdict) fate { return fate{err: refused(v, "Busy"), took: time.Second} }
	many := func(n int, f fate) (list []fate) {
		for range n {
			list = append(list, f)
		}
		return list
	}
	lost := fate{err: errors.New("connection reset"), effect: true, took: time.Second}
	for _, c := range []struct {
		name     string
		fates    []fate
		want     instance.Status
		code     string
		machines int
		attempts int
	}{
		{"again", many(3, no(instance.Again)), instance.Running, "", 1, 1},
		{"another", many(3, no(instance.Another)), instance.Running, "", 1, 4},
		{"never", many(1, no(instance.Never)), instance.StatusFail, "Busy", 0, 1},
		{"again for ever", many(10, no(instance.Again)), instance.StatusFail, "launch_refused", 0, 1},
		{"replies lost, then again for ever", append(many(1, lost), many(9, no(instance.Again))...), instance.StatusFail, "launch_refused", 1, 1},
		{"another for ever", many(6, no(instance.Another)), instance.StatusFail, "no_capacity", 0, 6},
		{"reply lost", []fate{lost}, instance.Running, "", 1, 1},
		{"replies lost for ever", many(10, lost), instance.StatusFail, "launch_refused", 1, 1},
		{"reply never comes", []fate{{effect: true, hangs: true}}, instance.Running, "", 1, 1},
		{"request never arrives", []fate{{hangs: true}}, instance.Running, "", 1, 1},
		{"wrapped refusal", []fate{{err: fmt.Errorf("launch: %w", refused(instance.Never, "Quota"))}}, instance.StatusFail, "Quota", 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.answers("launch", c.fates...)
				s.start()
				id := s.create()
				st := s.until(string(c.want), id, func(st instance.State) bool {
					return st.Status == c.want && (st.Status != instance.Running || st.Ready())
				})
				if s.cloud.launches() != c.machines || st.Attempts != c.attempts || c.code != "" && st.Abandoned.Code != c.code {
					s.t.Errorf("%d machines, %+v", s.cloud.launches(), st)
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
		err := &commands.CallError{Verdict: instance.Again, Code: "RequestLimitExceeded", Reason: "Slow down.", RetryAfter: 5 * time.Minute}
		s.cloud.answers("launch", fate{err: err})
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
					s.cloud.answers("start", fate{err: refused(c.verdict, "InsufficientInstanceCapacity")})
				}
				s.do("start", id)
				began := time.Now()
				st := s.until(string(c.want), id, status(c.want))
				if got := s.cloud.calls("start"); got != c.calls {
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
	for name, f := range map[string]fate{
		"slow":           {effect: true, took: 30 * time.Second},
		"reply lost":     {effect: true, took: 30 * time.Second, err: errors.New("reset")},
		"never comes":    {effect: true, hangs: true, took: 30 * time.Second},
		"no effect":      {took: 30 * time.Second, err: errors.New("reset")},
		"no capacity":    {took: 30 * time.Second, err: refused(instance.Another, "InsufficientInstanceCapacity")},
		"not for you":    {took: 30 * time.Second, err: refused(instance.Never, "OptInRequired")},
		"throttled long": {took: 30 * time.Second, err: &commands.CallError{Verdict: instance.Again, Code: "c", Reason: "R.", RetryAfter: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(s *stage) {
				s.cloud.answers("launch", f)
				s.start()
				id := s.create()
				_ = pause(context.Background(), 10*time.Second) // the call is on its way
				s.do("terminate", id)
				s.until("terminated", id, status(instance.StatusGone))
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
				s.cloud.answers(call, fate{without: true, effect: true}, fate{without: true, effect: true})
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
				if got := s.cloud.calls(call); got != 3 {
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
		s.cloud.region = "elsewhere"
		s.start()
		_ = pause(context.Background(), 2*instance.MissingFor)
		if st := s.state(id); !st.Ready() || !st.Missed.IsZero() {
			s.t.Errorf("%+v", st)
		}
		s.do("terminate", id)
		_ = pause(context.Background(), time.Hour)
		if st := s.state(id); st.Status != instance.Terminating || st.Code != "other_region" || s.cloud.calls("terminate") > 0 {
			s.t.Errorf("%d calls, %+v", s.cloud.calls("terminate"), st)
		}
		s.stop()
		s.cloud.region = ""
		s.start()
		s.until("terminated", id, status(instance.StatusGone))
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
		s.cloud.blind.Store(true)
		for _, phase := range []struct {
			speaks bool
			lasts  time.Duration
		}{{false, 10 * time.Minute}, {true, 3 * time.Hour}, {false, 10 * time.Minute}, {true, time.Hour}} {
			speaks.Store(phase.speaks)
			_ = pause(context.Background(), phase.lasts)
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
				s.cloud.blind.Store(true)
				_ = pause(context.Background(), 2*instance.MissingFor)
				if st := s.state(id); (st.Status == instance.StatusFail) != c.lost {
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
					s.cloud.answers("terminate", fate{err: refused(v, "UnauthorizedOperation")})
				}
				s.start()
				id := s.create()
				s.until("ready", id, ready)
				s.do("terminate", id)
				_ = pause(context.Background(), 12*time.Hour)
				if n := s.cloud.calls("terminate"); n < 50 || n >= lasting {
					s.t.Errorf("%d calls in half a day of refusals", n)
				}
				_ = pause(context.Background(), 12*time.Hour)
				s.until("terminated", id, status(instance.StatusGone))
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
		_ = pause(context.Background(), 2*time.Hour) // nobody is there
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

var noCapacity = fate{err: refused(instance.Another, "InsufficientInstanceCapacity")}

// A saga that was frozen before its call wakes up while another goes on with its attempt: no refusal that
// the other hears ends the attempt as long as that call may be under way, so there is one machine.
func TestSagaReckonsWithAnother(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		thaw := s.freeze()
		s.start()
		id := s.create()
		_ = pause(context.Background(), time.Second)
		s.cloud.answers("launch", noCapacity, noCapacity, noCapacity)
		s.start()
		_ = pause(context.Background(), 3*time.Minute)
		if st := s.state(id); !st.Open || st.Attempts != 1 || st.Tries != 2 {
			s.t.Errorf("after two refusals: %+v", st)
		}
		close(thaw)
		s.until("ready", id, ready)
		if got := s.cloud.launches(); got != 1 || s.state(id).Attempts != 1 {
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
				s.refuse.Store(true)
			}
			return false
		})
		s.cloud.answers("launch", fate{err: errors.New("connection reset by peer")}, noCapacity)
		s.start()
		id := s.create()
		_ = pause(context.Background(), time.Second)
		s.refuse.Store(false)
		_ = pause(context.Background(), time.Minute)
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
		s.log.Now = func() time.Time { return time.Now().UTC().Add(time.Duration(jump.Load())) }
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
		_ = pause(context.Background(), time.Second)
		s.cloud.answers("launch", noCapacity)
		s.start()
		s.until("launched", id, func(st instance.State) bool { return st.Attempts == 2 && st.Machine != "" })
		s.cloud.answers("terminate", fate{err: errors.New("reset")}, fate{err: refused(instance.Again, "RequestLimitExceeded")})
		close(thaw)
		s.until("ready", id, ready)
		_ = pause(context.Background(), 10*time.Minute)
		if got := s.cloud.launches(); got != 2 {
			s.t.Errorf("%d machines were launched; the zombie should have launched one", got)
		}
		s.cloud.mu.Lock()
		s.cloud.wrongs = nil // for a moment there were two
		s.cloud.mu.Unlock()
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
		_ = pause(context.Background(), time.Hour)
		var told atomic.Bool
		s.looked = func(stream eventstore.StreamID) {
			if stream.Aggregate != "instance" || told.Swap(true) {
				return
			}
			if _, err := commands.Tell(context.Background(), s.log, id, instance.Stop{At: time.Now()}); err != nil {
				s.t.Error(err)
			}
			_ = pause(context.Background(), time.Millisecond) // the news is there before the look ends
		}
		if _, err := s.store().Append(context.Background(), s.renamed(id)); err != nil {
			s.t.Fatal(err)
		}
		synctest.Wait()
		_ = pause(context.Background(), 2*time.Second)
		if n := s.cloud.calls("stop"); n != 1 || !told.Load() {
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
	e := eventstore.NewEvent{ID: s.log.NewID(), Type: typ, Schema: schema, Time: time.Now(), Data: data}
	return eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: version, Events: []eventstore.NewEvent{e}}}}
}

// store is the log without what watches it.
func (s *stage) store() eventstore.Store { return s.recorder.Store }

// A log that cannot be written for a while delays the saga and no more: no event will wake it.
func TestSagaOutlivesTheStore(t *testing.T) {
	t.Parallel()
	play(t, func(s *stage) {
		s.start()
		id := s.create()
		s.refuse.Store(true)
		_ = pause(context.Background(), 30*time.Minute)
		s.refuse.Store(false)
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
		s.cloud.mu.Lock()
		for _, m := range s.cloud.machines {
			m.changes = m.changes.Add(24 * time.Hour)
			m.reported = m.changes
		}
		s.cloud.mu.Unlock()
		st := s.until("failed", id, status(instance.StatusFail))
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
			_ = pause(context.Background(), time.Minute)
		}
		st := s.state(id)
		if !st.Stalled || st.Status != instance.Running || s.count("instance.boot_stalled") != 1 {
			s.t.Errorf("%d times, %+v", s.count("instance.boot_stalled"), st)
		}
		st = s.until("ready", id, ready)
		if n := s.count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("said %d times while it goes on", n)
		}
		if err := s.guests.Reached(context.Background(), id, "boot-x", instance.PhaseBooting, ""); err != nil {
			s.t.Error(err)
		}
		_ = pause(context.Background(), time.Minute)
		if n := s.count("instance.boot_stalled"); n != 1 {
			s.t.Errorf("a minute after a restart from within: said %d times", n)
		}
		_ = pause(context.Background(), 20*time.Minute)
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
		s.cloud.answers("launch", fate{err: refused(instance.Another, "InsufficientInstanceCapacity")}, fate{err: errors.New("reset"), effect: true})
		s.start()
		id := s.create()
		s.until("ready", id, ready)
		s.do("stop", id)
		s.until("stopped", id, status(instance.Stopped))
		s.do("start", id)
		s.until("ready", id, ready)
		s.do("terminate", id)
		s.until("terminated", id, status(instance.StatusGone))
		cancelled := s.create()
		s.until("open", cancelled, func(st instance.State) bool { return st.Attempts > 0 })
		s.do("terminate", cancelled)
		s.until("terminated", cancelled, status(instance.StatusGone))
		s.cloud.answers("launch", fate{err: refused(instance.Never, "OptInRequired")}) // before: the saga may be fast
		refusedOne := s.create()
		s.until("failed", refusedOne, status(instance.StatusFail))
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
		saga := &commands.Saga{
			Log: s.log, Cloud: s.cloud, Tokens: s.tokens, Live: s.live, Logger: slog.New(slog.DiscardHandler),
			Feed: failing{broken},
		}
		if err := saga.Run(context.Background()); !errors.Is(err, broken) {
			s.t.Errorf("a broken feed: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		saga.Feed = wrapping{feed{s.recorder}}
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
		s.cloud.answers("launch", fate{err: refused(instance.Another, "X")})
		ctx, cancel := context.WithCancel(context.Background())
		saga := &commands.Saga{
			Log: s.log, Cloud: s.cloud, Tokens: s.tokens, Live: s.live, Feed: feed{s.recorder}, Connected: s.connected,
			Logger: slog.New(slog.DiscardHandler), Policy: provisioning.Policy{Attempts: 1},
		}
		done := make(chan error, 1)
		go func() { done <- saga.Run(ctx) }()
		id := s.create()
		if st := s.until("failed", id, status(instance.StatusFail)); st.Attempts != 1 {
			s.t.Errorf("%+v", st)
		}
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
}
