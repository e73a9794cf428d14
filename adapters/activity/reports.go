package activity

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// How often a desktop's row is written.
const (
	WriteEvery = 30 * time.Second // at most, if its use has changed
	BeatEvery  = time.Minute      // if it has not
	// flushEvery is how often reports are looked through. Use that resumes, and the first report of a tunnel, have that done
	// immediately, but not before flushGap has passed.
	flushEvery = time.Second
	flushGap   = flushEvery / 4
	// forgetAfter is when a machine that no longer reports is forgotten.
	forgetAfter = 10 * time.Minute
	// longestAge is the greatest age, and the furthest job, that is believed.
	longestAge = 10 * 365 * 24 * time.Hour
	// noise is how far two measurements of the same time may differ.
	noise = 2 * time.Second
)

// Report is what a machine reported, as times of this process's own clock; zero: never.
type Report struct {
	Instance, Account                   string
	At                                  time.Time // when it arrived
	Known                               time.Time // since when its guest reports without a gap
	Input, Chat, Agent, Question, Shell time.Time
	Blind                               bool
	NextJob                             time.Time
}

// used returns when the desktop was last used in any way.
func (r Report) used() (last time.Time) {
	for _, t := range []time.Time{r.Input, r.Chat, r.Agent, r.Question, r.Shell} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// differs reports whether a report says something else than another one.
func (r Report) differs(o Report) bool {
	if r.Blind != o.Blind {
		return true
	}
	for _, pair := range [][2]time.Time{{r.Input, o.Input}, {r.Chat, o.Chat}, {r.Agent, o.Agent}, {r.Question, o.Question}, {r.Shell, o.Shell},
		{r.Known, o.Known}, {r.NextJob, o.NextJob}} {
		if pair[0].IsZero() != pair[1].IsZero() || pair[0].Sub(pair[1]).Abs() >= noise {
			return true
		}
	}
	return false
}

// Reports receives what machines report about their use. It writes each desktop's latest report seldom and in batches,
// but immediately when its use resumes.
type Reports struct {
	Put    func(ctx context.Context, reports []Report) error // Table.Put
	Logger *slog.Logger                                      // nil: silent
	// Every is how long after a write a desktop whose use changes is written again, and how long its use must have rested to
	// be written immediately when it resumes [WriteEvery]. Keep it well below the least idle limit.
	Every time.Duration

	mu    sync.Mutex
	desks map[string]*desk
	wake  chan struct{} // has room for one
	once  sync.Once
}

// desk is a machine that reports.
type desk struct {
	connected time.Time // when its tunnel was connected
	latest    Report
	written   Report // zero: none
	urgent    bool
}

func (r *Reports) init() {
	r.once.Do(func() { r.desks, r.wake = map[string]*desk{}, make(chan struct{}, 1) })
}

// Report receives a report of an instance's machine, whose tunnel was connected at a time. It returns immediately.
func (r *Reports) Report(account, instanceID string, connected time.Time, a wire.Activity) {
	r.init()
	now := time.Now()
	report := Report{
		Instance: instanceID, Account: account, At: now, Known: now, Blind: a.Blind,
		Input: ago(now, a.Input), Chat: ago(now, a.Chat), Agent: ago(now, a.Agent), Question: ago(now, a.Question), Shell: ago(now, a.Shell),
	}
	if in := a.NextJob; in != nil && *in <= longestAge.Milliseconds() {
		report.NextJob = now.Add(time.Duration(max(0, *in)) * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.desks[instanceID]
	if d == nil || d.latest.Account != account {
		d = &desk{}
		r.desks[instanceID] = d
	}
	switch fresh := !d.connected.Equal(connected) || now.Sub(d.latest.At) > idle.Fresh; {
	case fresh:
		d.connected, d.urgent = connected, true
	case d.latest.Blind != report.Blind: // what it could not see is not known
		d.urgent = true
	default:
		report.Known = d.latest.Known
	}
	d.latest = report
	if report.used().Sub(d.written.used()) >= r.every() { // its use has resumed
		d.urgent = true
	}
	if d.urgent {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// ago returns the time that an age in milliseconds means; zero without one.
func ago(now time.Time, age *int64) time.Time {
	if age == nil || *age > longestAge.Milliseconds() {
		return time.Time{}
	}
	return now.Add(-time.Duration(max(0, *age)) * time.Millisecond)
}

func (r *Reports) every() time.Duration { return cmp.Or(r.Every, WriteEvery) }

// Run writes reports until ctx ends, and then once more what is due.
func (r *Reports) Run(ctx context.Context) error {
	r.init()
	for ctx.Err() == nil {
		r.flush(ctx)
		if retry.Sleep(ctx, flushGap) != nil {
			break
		}
		timer := time.NewTimer(flushEvery - flushGap)
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	r.flush(context.WithoutCancel(ctx))
	return nil
}

// flush writes the reports that are due. Those that could not be written are due again.
func (r *Reports) flush(ctx context.Context) {
	due := r.due(time.Now())
	if len(due) == 0 {
		return
	}
	err := r.Put(ctx, due)
	r.mu.Lock()
	for _, report := range due {
		d := r.desks[report.Instance]
		if d == nil {
			continue
		}
		if err != nil {
			d.urgent = true
			continue
		}
		d.written = report
	}
	r.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		if r.Logger != nil {
			r.Logger.WarnContext(ctx, "writing the desktops' use failed, will retry", "desktops", len(due), "err", err)
		}
		_ = retry.Sleep(ctx, flushEvery)
	}
}

// due returns what to write now, and forgets machines that no longer report.
func (r *Reports) due(now time.Time) (list []Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, d := range r.desks {
		newer := d.latest.At.Sub(d.written.At) // than what is written, so a row is as fresh as can be after a write
		switch {
		case now.Sub(d.latest.At) > forgetAfter:
			delete(r.desks, id)
		case d.latest.At.Equal(d.written.At): // nothing new
		case d.urgent, newer >= BeatEvery, newer >= r.every() && d.latest.differs(d.written):
			d.urgent = false
			list = append(list, d.latest)
		}
	}
	return list
}
