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

// agenda says which instance the saga looks at, and when. One goroutine owns its maps; the others
// talk to it over channels. It can be lost at any time: the log has everything in it.
type agenda struct {
	saga   *Saga
	wakes  chan string
	jobs   chan string
	done   chan advanced
	polled chan polled

	mine    sync.Map // see Saga.advance; the workers'
	entries map[string]*entry
	queue   []string // due and not yet given to a worker
	timers  timers
	polling bool
	urgent  bool // a machine is to be looked at as soon as the present poll is over
	polls   sync.WaitGroup
	swept   time.Time
	misses  int       // polls in a row that did not work
	quiet   time.Time // no poll before
}

type entry struct {
	queued, running, again bool
	due                    time.Time // zero: nothing planned
	fails                  int
	machine                string
	launched               time.Time
	changing               bool
	status                 instance.Status
	since, looked          time.Time // since when it is changing in this status, and the last look at it
	boot                   string    // whose guest's word led to a look
}

// lookEvery bounds the wait between two looks at a machine that takes long to change.
const lookEvery = 15 * time.Second

// overdue tells whether to look at a changing machine: often at first, then less and less.
func (e *entry) overdue(now time.Time) bool {
	wait := now.Sub(e.looked)
	return e.changing && (wait < 0 || wait >= min(now.Sub(e.since)/20, lookEvery))
}

// polled is what came of a poll.
type polled struct {
	changed []string
	err     error
}

// advanced is what came of a look at an instance.
type advanced struct {
	id    string
	state instance.State
	step  provisioning.Step
	err   error
}

func newAgenda(s *Saga) *agenda {
	return &agenda{
		saga: s, entries: map[string]*entry{},
		wakes: make(chan string), jobs: make(chan string), done: make(chan advanced), polled: make(chan polled),
	}
}

// wake has the instance looked at soon.
func (a *agenda) wake(ctx context.Context, id string) error {
	select {
	case a.wakes <- id:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// work is one worker.
func (a *agenda) work(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case id := <-a.jobs:
			state, step, err := a.saga.advance(ctx, id, &a.mine)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case a.done <- advanced{id, state, step, err}:
			}
		}
	}
}

func (a *agenda) run(ctx context.Context, ids []string) error {
	for _, id := range ids {
		a.enqueue(id)
	}
	poll := time.NewTicker(cmp.Or(a.saga.PollEvery, time.Second))
	defer poll.Stop()
	defer a.polls.Wait()
	for {
		var jobs chan string
		var next string
		if len(a.queue) > 0 {
			jobs, next = a.jobs, a.queue[0]
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case jobs <- next:
			a.queue = a.queue[1:]
			a.entries[next].queued, a.entries[next].running = false, true
		case id := <-a.wakes:
			a.enqueue(id)
		case r := <-a.done:
			a.settle(ctx, r)
		case <-a.nextTimer():
			a.ring()
		case <-poll.C:
			a.poll(ctx)
		case p := <-a.polled:
			a.polling = false
			if crash.Of(p.err) != nil {
				return p.err
			}
			if a.misses++; p.err == nil {
				a.misses = 0
			} else {
				a.quiet = a.saga.Now().Add(a.saga.backOff(a.misses))
			}
			for _, id := range p.changed {
				a.enqueue(id)
			}
			if a.urgent {
				a.poll(ctx)
			}
		}
	}
}

func (a *agenda) enqueue(id string) {
	e := a.entries[id]
	if e == nil {
		e = &entry{}
		a.entries[id] = e
	}
	switch {
	case e.running:
		e.again = true
	case !e.queued:
		e.queued = true
		a.queue = append(a.queue, id)
	}
}

// settle plans what follows a look at an instance.
func (a *agenda) settle(ctx context.Context, r advanced) {
	e := a.entries[r.id]
	e.running = false
	switch {
	case r.err != nil:
		e.fails++
		a.plan(r.id, e, a.saga.Now().Add(a.saga.backOff(e.fails)))
		a.saga.Logger.ErrorContext(ctx, "saga step did not work, will retry", "instance", r.id, "fails", e.fails, "err", r.err)
	case r.step.Do == provisioning.Nothing && !e.again:
		delete(a.entries, r.id)
		a.mine.Delete(r.id)
		return
	default:
		e.fails, e.machine, e.launched, e.changing = 0, r.state.Machine, r.state.LaunchedAt, changing(r.state, r.step)
		if !ours(a.saga.Cloud, r.state) {
			e.machine, e.changing = "", false // this cloud has no news of it
		}
		if e.status != r.state.Status || !e.changing {
			e.status, e.since = r.state.Status, a.saga.Now()
		}
		a.plan(r.id, e, r.step.At)
		if e.changing && e.boot != r.state.Boot {
			// A guest that speaks is on a machine that runs: the cloud has its news by now, and one look a boot is cheap.
			e.boot, e.looked = r.state.Boot, time.Time{}
			a.poll(ctx)
		}
	}
	if e.again {
		e.again = false
		a.enqueue(r.id)
	}
}

func (a *agenda) plan(id string, e *entry, due time.Time) {
	if e.due = due; !due.IsZero() {
		heap.Push(&a.timers, timer{due, id})
	}
}

// nextTimer fires when the earliest planned look is due; nil, which blocks, when there is none.
func (a *agenda) nextTimer() <-chan time.Time {
	if len(a.timers) == 0 {
		return nil
	}
	return time.After(max(0, a.timers[0].due.Sub(a.saga.Now())))
}

func (a *agenda) ring() {
	now := a.saga.Now()
	for len(a.timers) > 0 && !a.timers[0].due.After(now) {
		t := heap.Pop(&a.timers).(timer)
		if e := a.entries[t.id]; e != nil && e.due.Equal(t.due) {
			e.due = time.Time{}
			a.enqueue(t.id)
		}
	}
}

// poll looks at the machines that should be changing, and now and then at all of them. Polls never
// overlap, so an older report cannot overtake a newer one.
func (a *agenda) poll(ctx context.Context) {
	if a.urgent = a.polling; a.polling {
		return
	}
	now := a.saga.Now()
	if now.Before(a.quiet) && a.quiet.Sub(now) <= 2*time.Minute { // further away, the clock was set back
		return
	}
	sweep := now.Sub(a.swept) >= cmp.Or(a.saga.SweepEvery, time.Minute) || now.Before(a.swept)
	if sweep {
		a.swept = now
	}
	var targets []target
	for id, e := range a.entries {
		if e.machine != "" && (sweep || e.overdue(now)) {
			e.looked = now
			targets = append(targets, target{id, e.machine, e.launched})
		}
	}
	if len(targets) == 0 {
		return
	}
	slices.SortFunc(targets, func(x, y target) int { return strings.Compare(x.instance, y.instance) })
	a.polling = true
	a.polls.Go(func() {
		var changed []string
		err := crash.Guard(func() (err error) {
			changed, err = a.saga.observe(ctx, targets)
			return err
		})()
		if err != nil && ctx.Err() == nil {
			a.saga.Logger.WarnContext(ctx, "looking at machines did not work, will retry", "machines", len(targets), "err", err)
		}
		select {
		case a.polled <- polled{changed, err}:
		case <-ctx.Done():
		}
	})
}

type timer struct {
	due time.Time
	id  string
}

// timers is a heap, earliest first.
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
