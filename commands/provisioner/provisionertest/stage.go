// Package provisionertest has what tests of the saga share: a stage on which sagas run, crash and restart, and a small
// cloud with a ledger.
package provisionertest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Config says what a Stage is made of. Saga and Machines are required.
type Config struct {
	Seed  uint64           // of the sagas' jitter
	Limit int              // instances an account may have [3]
	Store eventstore.Store // nil: a new one in memory

	// Saga returns a new saga with its Cloud and whatever else the test sets. The stage sets its Log, Tokens,
	// Live, Feed, Logger, Jitter and At.
	Saga func() *provisioner.Saga
	// Run runs a saga until ctx ends. Nil: the saga's own Run.
	Run func(ctx context.Context, saga *provisioner.Saga) error
	// Machines returns the machines of the cloud's ledger that are not gone, in a fixed order.
	Machines func() []Machine
	// Trace returns the cloud's history, in lines that begin with a time in the layout TraceTime. Nil: none.
	Trace func() []string
}

// TraceTime is the layout of the times at the beginning of a trace's lines.
const TraceTime = "15:04:05.000000 "

// Stage is a world in which sagas crash and restart, users send commands and guests speak. It runs on synctest's clock:
// make and use it in a bubble. Only the test's goroutine calls its methods, except Wrong.
type Stage struct {
	*commandstest.World
	T      testing.TB
	Origin commands.Origin // a user's
	Mute   bool            // guests are silent in Until

	config  Config
	runs    []*run
	started int
	lag     atomic.Int64 // how many events Live is behind the log
	read    int64        // how far the log is folded
	states  map[string]instance.State
	slots   map[string]int // held, by instance

	mu     sync.Mutex
	crash  func(point string) bool
	frozen map[string]chan struct{}
	points map[string]int
	wrongs []string
}

type run struct {
	cancel context.CancelFunc
	done   chan error
}

// NewStage returns a stage without a saga. The end of the test stops its sagas.
func NewStage(t testing.TB, c Config) *Stage {
	if c.Store == nil {
		c.Store = memory.New()
	}
	s := &Stage{
		World: commandstest.NewWorldOn(c.Store, cmp.Or(c.Limit, 3)), T: t, config: c,
		states: map[string]instance.State{}, slots: map[string]int{}, frozen: map[string]chan struct{}{}, points: map[string]int{},
	}
	s.Clock.ShowTime()
	s.Origin, _ = s.SignUp(t, "ada@example.org")
	t.Cleanup(s.Stop)
	return s
}

// Start starts one more saga.
func (s *Stage) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{cancel: cancel, done: make(chan error, 1)}
	s.started++
	jitter := rand.New(rand.NewPCG(s.config.Seed, uint64(s.started)))
	var jitters sync.Mutex
	saga := s.config.Saga()
	saga.Log, saga.Tokens, saga.Live, saga.Feed = s.Log, s.Tokens, s.Live, Feed{s.Recorder}
	saga.Logger = slog.New(slog.DiscardHandler)
	saga.Jitter = func(d time.Duration) time.Duration {
		jitters.Lock()
		defer jitters.Unlock()
		return time.Duration(jitter.Int64N(int64(d)))
	}
	saga.At = func(point string) {
		if s.pass(point) {
			cancel() // everything that follows sees it and has no effect, as after the death of a process
		}
	}
	go func() {
		if s.config.Run != nil {
			r.done <- s.config.Run(ctx, saga)
			return
		}
		r.done <- saga.Run(ctx)
	}()
	s.runs = append(s.runs, r)
}

// pass reports whether the saga that passes the point dies there.
func (s *Stage) pass(point string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points[point]++
	if thaw := s.frozen[point]; thaw != nil {
		delete(s.frozen, point)
		s.mu.Unlock()
		<-thaw
		s.mu.Lock()
	}
	return s.crash != nil && s.crash(point)
}

// CrashAt makes sagas die at the points for which at returns true. Nil: nowhere. Calls of at never overlap, and at must
// not call the stage.
func (s *Stage) CrashAt(at func(point string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crash = at
}

// CrashOnce makes a saga die when the point is passed for the nth time. crashed reports whether that has happened.
func (s *Stage) CrashOnce(point string, nth int) (crashed func() bool) {
	passed := 0
	s.CrashAt(func(p string) bool {
		if p == point {
			passed++
		}
		return p == point && passed == nth
	})
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return passed >= nth
	}
}

// Freeze holds the next saga that passes the point until thaw is called.
func (s *Stage) Freeze(point string) (thaw func()) {
	frozen := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen[point] = frozen
	return func() { close(frozen) }
}

// Points returns how often each point was passed.
func (s *Stage) Points() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.points)
}

// Stop ends all sagas and waits for them.
func (s *Stage) Stop() {
	s.Kill()
	for _, r := range s.runs {
		s.ended(<-r.done)
	}
	s.runs = nil
}

// Kill ends all sagas without waiting. They count as running until Dead finds them.
func (s *Stage) Kill() {
	for _, r := range s.runs {
		r.cancel()
	}
}

// Running returns how many sagas run.
func (s *Stage) Running() int { return len(s.runs) }

// Dead reports whether a saga has ended, and removes it.
func (s *Stage) Dead() bool {
	for i, r := range s.runs {
		select {
		case err := <-r.done:
			s.ended(err)
			s.runs = slices.Delete(s.runs, i, i+1)
			return true
		default:
		}
	}
	return false
}

func (s *Stage) ended(err error) {
	if err != nil {
		s.Wrong("a saga ended with %v", err)
	}
}

// Wrong notes that something happened that never must. Agree returns it.
func (s *Stage) Wrong(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrongs = append(s.wrongs, time.Now().UTC().Format(TraceTime)+fmt.Sprintf(format, args...))
}

// Wrongs returns what was noted by Wrong.
func (s *Stage) Wrongs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.wrongs)
}

// Sleep lets time pass, and waits until everything that is due has happened.
func (s *Stage) Sleep(d time.Duration) {
	_ = retry.Sleep(context.Background(), d)
	synctest.Wait()
}
