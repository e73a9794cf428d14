package provisioner

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
)

// schedule decides which instance the saga advances, and when. One goroutine owns its maps; the others talk to it over
// channels. It can be lost at any time and rebuilt from the log.
type schedule struct {
	saga   *Saga
	wakes  chan string
	jobs   chan string
	done   chan outcome
	polled chan pollResult

	ownAttempts  sync.Map // by instance, see Saga.advance; for the workers
	entries      map[string]*entry
	queue        []string // due and not yet given to a worker
	timers       timers
	polling      bool
	pollAgain    bool // poll once more as soon as the running poll ends
	polls        sync.WaitGroup
	sweptAt      time.Time
	failedPolls  int // in a row
	noPollBefore time.Time
}

type entry struct {
	queued, running, again bool
	due                    time.Time // zero: nothing planned
	fails                  int
	machine                string
	launched               time.Time
	changing               bool
	status                 instance.Status
	since, lookedAt        time.Time // when it began to change in this status, and when it was last polled
	boot                   string    // the boot whose first report triggered a poll
}

// lookEvery is the longest wait between two polls of a machine that takes long to change.
const lookEvery = 15 * time.Second

// overdue reports whether to poll a changing machine: often at first, then less and less often.
func (e *entry) overdue(now time.Time) bool {
	wait := now.Sub(e.lookedAt)
	return e.changing && (wait < 0 || wait >= min(now.Sub(e.since)/20, lookEvery))
}

// pollResult is the result of a poll.
type pollResult struct {
	changed []string
	err     error
}

// outcome is the result of advancing an instance.
type outcome struct {
	id    string
	state instance.State
	step  provisioning.Step
	err   error
}

func newSchedule(saga *Saga) *schedule {
	return &schedule{
		saga: saga, entries: map[string]*entry{},
		wakes: make(chan string), jobs: make(chan string), done: make(chan outcome), polled: make(chan pollResult),
	}
}

// wake advances the instance soon.
func (s *schedule) wake(ctx context.Context, id string) error {
	select {
	case s.wakes <- id:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work runs one worker.
func (s *schedule) work(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case id := <-s.jobs:
			state, step, err := s.saga.advance(ctx, id, &s.ownAttempts)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case s.done <- outcome{id, state, step, err}:
			}
		}
	}
}

func (s *schedule) run(ctx context.Context, ids []string) error {
	for _, id := range ids {
		s.enqueue(id)
	}
	poll := time.NewTicker(cmp.Or(s.saga.PollEvery, time.Second))
	defer poll.Stop()
	defer s.polls.Wait()
	for {
		var jobs chan string
		var next string
		if len(s.queue) > 0 {
			jobs, next = s.jobs, s.queue[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case jobs <- next:
			s.queue = s.queue[1:]
			s.entries[next].queued, s.entries[next].running = false, true
		case id := <-s.wakes:
			s.enqueue(id)
		case r := <-s.done:
			s.settle(ctx, r)
		case <-s.nextTimer():
			s.fireTimers()
		case <-poll.C:
			s.poll(ctx)
		case p := <-s.polled:
			s.polling = false
			if crash.Of(p.err) != nil {
				return p.err
			}
			if s.failedPolls++; p.err == nil {
				s.failedPolls = 0
			} else {
				s.noPollBefore = s.saga.Now().Add(s.saga.backOff(s.failedPolls))
			}
			for _, id := range p.changed {
				s.enqueue(id)
			}
			if s.pollAgain {
				s.poll(ctx)
			}
		}
	}
}

func (s *schedule) enqueue(id string) {
	e := s.entries[id]
	if e == nil {
		e = &entry{}
		s.entries[id] = e
	}
	switch {
	case e.running:
		e.again = true
	case !e.queued:
		e.queued = true
		s.queue = append(s.queue, id)
	}
}

// settle plans what follows after an instance was advanced.
func (s *schedule) settle(ctx context.Context, r outcome) {
	e := s.entries[r.id]
	e.running = false
	switch {
	case r.err != nil:
		e.fails++
		s.plan(r.id, e, s.saga.Now().Add(s.saga.backOff(e.fails)))
		s.saga.Logger.ErrorContext(ctx, "saga step failed, will retry", "instance", r.id, "fails", e.fails, "err", r.err)
	case r.step.Do == provisioning.Nothing && !e.again:
		delete(s.entries, r.id)
		s.ownAttempts.Delete(r.id)
		return
	default:
		e.fails, e.machine, e.launched, e.changing = 0, r.state.Machine, r.state.LaunchedAt, changing(r.state, r.step)
		if !inRegion(s.saga.Cloud, r.state) {
			e.machine, e.changing = "", false // its machine is in another region
		}
		if e.status != r.state.Status || !e.changing {
			e.status, e.since = r.state.Status, s.saga.Now()
		}
		s.plan(r.id, e, r.step.At)
		if e.changing && e.boot != r.state.Boot {
			// When a guest first reports a boot, its machine is running: poll immediately. One poll a boot is cheap.
			e.boot, e.lookedAt = r.state.Boot, time.Time{}
			s.poll(ctx)
		}
	}
	if e.again {
		e.again = false
		s.enqueue(r.id)
	}
}

func (s *schedule) plan(id string, e *entry, due time.Time) {
	if e.due = due; !due.IsZero() {
		heap.Push(&s.timers, timer{due, id})
	}
}

// nextTimer fires when the earliest planned step is due. Without one it returns nil, which blocks.
func (s *schedule) nextTimer() <-chan time.Time {
	if len(s.timers) == 0 {
		return nil
	}
	return time.After(max(0, s.timers[0].due.Sub(s.saga.Now())))
}

func (s *schedule) fireTimers() {
	now := s.saga.Now()
	for len(s.timers) > 0 && !s.timers[0].due.After(now) {
		t := heap.Pop(&s.timers).(timer)
		if e := s.entries[t.id]; e != nil && e.due.Equal(t.due) {
			e.due = time.Time{}
			s.enqueue(t.id)
		}
	}
}

// poll checks the machines that should be changing, and periodically all of them. Polls never overlap, so an older
// report cannot overtake a newer one.
func (s *schedule) poll(ctx context.Context) {
	if s.pollAgain = s.polling; s.polling {
		return
	}
	now := s.saga.Now()
	if now.Before(s.noPollBefore) && s.noPollBefore.Sub(now) <= 2*time.Minute { // if it is further away, the clock was set back
		return
	}
	sweep := now.Sub(s.sweptAt) >= cmp.Or(s.saga.SweepEvery, time.Minute) || now.Before(s.sweptAt)
	if sweep {
		s.sweptAt = now
	}
	var targets []target
	for id, e := range s.entries {
		if e.machine != "" && (sweep || e.overdue(now)) {
			e.lookedAt = now
			targets = append(targets, target{id, e.machine, e.launched})
		}
	}
	if len(targets) == 0 {
		return
	}
	slices.SortFunc(targets, func(x, y target) int { return strings.Compare(x.instance, y.instance) })
	s.polling = true
	s.polls.Go(func() {
		var changed []string
		err := crash.Guard(func() (err error) {
			changed, err = s.saga.observe(ctx, targets)
			return err
		})()
		if err != nil && ctx.Err() == nil {
			s.saga.Logger.WarnContext(ctx, "machine check failed, will retry", "machines", len(targets), "err", err)
		}
		select {
		case s.polled <- pollResult{changed, err}:
		case <-ctx.Done():
		}
	})
}

type timer struct {
	due time.Time
	id  string
}

// timers is a heap with the earliest first.
type timers []timer

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].due.Before(t[j].due) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timer)) }
func (t *timers) Pop() any {
	old := *t
	last := old[len(old)-1]
	*t = old[:len(old)-1]
	return last
}
