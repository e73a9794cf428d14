package operator

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// waitsFor is how long after it was first seen an approval or a question counts as waiting for its user.
const waitsFor = time.Hour

// Work is what is known of the agent's work. Its times have the monotonic clock; zero: not since the guest started.
type Work struct {
	Known   bool          // it is known at present which runs are in progress and what waits
	Worked  time.Time     // when a run was last in progress
	Waited  time.Time     // when an approval or a question last waited: within its own deadline, and at most an hour
	HasNext bool          // Next is known
	Next    time.Duration // until the next job of the agent's schedule is due; negative: it is late
	Cost    int64         // what its models cost since the guest started, as the gateway estimates, in micro-dollars
}

// work is what Work is made of; Operator.mu guards it.
type work struct {
	counted  bool      // the runs are those of the present connection
	worked   time.Time // see Work
	moved    time.Time // when the latest event of a run came
	waited   time.Time // see Work, for the prompts that have ended
	job      bool      // a job of the schedule is in progress
	due      []int64   // when the jobs are due, in milliseconds of Unix time, the first one first
	expenses expenses
}

// Work returns what is known at present.
func (o *Operator) Work() Work {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	w := Work{Known: o.listening && o.work.counted, Worked: o.work.worked, Waited: o.work.waited, Cost: o.work.expenses.total}
	if o.working(now) {
		o.work.worked, w.Worked = now, now
	}
	for _, p := range o.prompts {
		w.Waited = later(w.Waited, p.waited(now))
	}
	w.Next, w.HasNext = o.work.nextJob(now)
	return w
}

// lateJob is how long after it is due a job may still begin. One that is later does not run, such as of a schedule that is
// turned off; if it counted, its desktop would wait for it without end.
const lateJob = 2 * time.Minute

// nextJob returns in how long the next job is due, if there is one.
func (w *work) nextJob(now time.Time) (in time.Duration, ok bool) {
	for _, at := range w.due {
		if in = time.Duration(at-now.UnixMilli()) * time.Millisecond; in > -lateJob {
			return in, true
		}
	}
	return 0, false
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// waited returns when the prompt last counted as waiting.
func (p *prompt) waited(now time.Time) time.Time {
	if now.Before(p.ends) {
		return now
	}
	return p.ends
}

// quiet is how long after a prompt came an event of the run that waits for its answer may follow.
const quiet = 5 * time.Second

// working reports whether the agent works: a job is in progress, or a run that does more than wait. A run whose prompt has
// waited for as long as that counts, and that has shown no sign of life since it asked, waits; o.mu is held.
func (o *Operator) working(now time.Time) bool {
	stuck := map[string]bool{}
	for _, p := range o.prompts {
		if !now.Before(p.ends) && o.work.moved.Before(p.came.Add(quiet)) {
			stuck[p.session] = true
		}
	}
	return o.work.job || o.runs > len(stuck)
}

// begin sets from when and until when the prompt counts as waiting. The gateway's deadline is by the clock of this machine,
// which may be set later.
func (p *prompt) begin(now time.Time) {
	p.came, p.ends = now, now.Add(waitsFor)
	if left := time.Duration(p.until-now.UnixMilli()) * time.Millisecond; p.until > 0 && left < waitsFor {
		p.ends = now.Add(max(left, 0))
	}
}

// works notes that a run is in progress.
func (o *Operator) works() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.work.moved = time.Now()
	o.work.worked = o.work.moved
}

// known notes whether the runs in progress are known.
func (o *Operator) known(known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.work.counted = known
}

const (
	maxJobs  = 50     // that are looked at, the next first
	jobLooks = 6      // looks at the runs for one at the schedule
	cronName = "cron" // the event that says that the schedule, or what it runs, has changed
	schedule = "cron.list"
)

// planned notes that the agent's schedule may have changed.
func (c *conn) planned() {
	select {
	case c.jobs <- struct{}{}:
	default:
	}
}

// watchJobs follows the agent's schedule until ctx ends. What is known of it outlives the connection: a gateway that restarts
// keeps its jobs.
func (o *Operator) watchJobs(ctx context.Context, c *conn) {
	defer o.setJobs(nil)
	tick := time.NewTicker(jobLooks * o.c.Look)
	defer tick.Stop()
	// Some versions know only the first of these parameters.
	params := map[string]any{"enabled": "enabled", "sortBy": "nextRunAtMs", "sortDir": "asc", "limit": maxJobs}
	failed := false
	for {
		payload, err := ask(ctx, c, schedule, params)
		if err != nil && ctx.Err() == nil {
			payload, err = ask(ctx, c, schedule, map[string]any{})
		}
		if err == nil {
			o.setJobs(payload)
		} else if ctx.Err() == nil && !failed {
			failed = true
			o.log.Info("the agent did not list its schedule", "err", err)
		}
		if retry.Sleep(ctx, min(runsEvery, o.c.Look)) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.jobs:
		case <-tick.C:
		}
	}
}

// setJobs takes a list of jobs; nil: it is not known any more whether one is in progress.
func (o *Operator) setJobs(payload json.RawMessage) {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.work.job
	if before {
		o.work.worked = time.Now()
	}
	o.work.job = false
	if payload != nil {
		o.work.due, o.work.job = jobsIn(payload)
	}
	if o.work.job != before {
		o.stirred()
	}
}

// jobsIn returns when the enabled jobs are due, in milliseconds of Unix time, the first one first, and whether a job is in
// progress.
func jobsIn(payload json.RawMessage) (due []int64, running bool) {
	var list struct {
		Jobs []struct {
			Enabled *bool // nil: the gateway lists only those that are
			// DeclarationKey names a job that the gateway planned for itself, such as a weekly review of its skills. Its
			// user did not ask for it, so no desktop is started or kept running for it.
			DeclarationKey string
			State          struct {
				NextRunAtMs, RunningAtMs json.RawMessage
			}
		}
	}
	if json.Unmarshal(payload, &list) != nil {
		return nil, false
	}
	for _, j := range list.Jobs {
		if at := millis(j.State.RunningAtMs); at > 0 {
			running = true
		}
		if j.Enabled != nil && !*j.Enabled || j.DeclarationKey != "" {
			continue
		}
		if at := millis(j.State.NextRunAtMs); at > 0 {
			due = append(due, at)
		}
	}
	slices.Sort(due)
	return due[:min(len(due), maxJobs)], running
}

// millis reads a time in milliseconds of Unix time; 0: there is none, or it is odd.
func millis(raw json.RawMessage) int64 {
	var at float64
	if json.Unmarshal(raw, &at) != nil || at < 0 || at > maxTime {
		return 0
	}
	return int64(at)
}
