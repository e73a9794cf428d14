package activity_test

import (
	"math/rand/v2"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// step is how often the world changes.
const step = 5 * time.Second

// span is something that begins now and then and lasts for a while.
type span struct {
	every, lasts time.Duration // about
	on           bool
	since, next  time.Time
}

// pass lets time pass, and reports whether it has begun at this moment.
func (s *span) pass(r *rand.Rand, now time.Time) (began bool) {
	if s.next.IsZero() {
		s.next = now.Add(spread(r, s.every))
	}
	if now.Before(s.next) {
		return false
	}
	if s.on = !s.on; s.on {
		s.since, s.next = now, now.Add(spread(r, s.lasts))
		return true
	}
	s.next = now.Add(spread(r, s.every))
	return false
}

func (s *span) end() { s.on, s.next = false, time.Time{} }

// spread returns a duration from a tenth of d to almost twice of it.
func spread(r *rand.Rand, d time.Duration) time.Duration {
	return d/10 + time.Duration(r.Int64N(int64(d)*18/10))
}

// desk is a desktop as it really is: its machine, its guest, its user and its agent.
type desk struct {
	id     string
	status instance.Status // of its log, at the beginning of the step
	up     bool            // its machine runs
	due    time.Time       // when the cloud has done what it was asked for
	boots  time.Time       // when its guest is up

	user, agent, question, shell, blind span
	cron                                time.Duration // between two jobs of its agent; 0: none
	nextJob                             time.Time

	guest   remembered
	tunnel  *replica // nil: lost
	joined  time.Time
	back    time.Time // when the tunnel is connected again
	silent  bool      // its guest reports nothing
	sent    time.Time // the latest report
	usedAt  time.Time // what that said
	ran     time.Time // when the current run began
	noted   time.Time // when a keeper first saw that run
	used    time.Time // when it was last used, in any way
	byUser  time.Time // when its user last used it
	asked   time.Time // when its user last asked for more time
	loose   time.Time // idleness is counted from here: it was not known before
	changed time.Time // when its policy, or its next job, last changed
	warned  time.Time
	stopped time.Time
}

// remembered is what a guest remembers: it begins with its start.
type remembered struct{ input, chat, agent, question, shell time.Time }

func (d *desk) busy() (since time.Time, busy bool) {
	for _, s := range []*span{&d.agent, &d.question, &d.shell} {
		if s.on && (!busy || s.since.Before(since)) {
			since, busy = s.since, true
		}
	}
	return since, busy
}

// live lets a step pass on a running machine.
func (d *desk) live(r *rand.Rand, now time.Time) {
	if now.Before(d.boots) {
		return
	}
	g := &d.guest
	reachable := d.tunnel != nil
	d.user.pass(r, now)
	if d.user.on && reachable && r.IntN(4) > 0 {
		g.input = now
		if r.IntN(20) == 0 {
			g.chat = now
			if !d.agent.on {
				d.agent.on, d.agent.since, d.agent.next = true, now, now.Add(spread(r, d.agent.lasts))
			}
		}
		d.used, d.byUser = now, now
	}
	if d.cron > 0 && !now.Before(d.nextJob) {
		if !d.agent.on {
			d.agent.on, d.agent.since, d.agent.next = true, now, now.Add(spread(r, 8*time.Minute))
		}
		d.nextJob, d.changed = now.Add(d.cron), now
	}
	before := d.agent.on
	d.agent.pass(r, now)
	if before && !d.agent.on && r.IntN(3) == 0 {
		d.question.on, d.question.since, d.question.next = true, now, now.Add(spread(r, d.question.lasts))
	}
	if d.question.on && !now.Before(d.question.next) {
		d.question.end()
	}
	d.shell.pass(r, now)
	for _, s := range []struct {
		on *span
		at *time.Time
	}{{&d.agent, &g.agent}, {&d.question, &g.question}, {&d.shell, &g.shell}} {
		if s.on.on {
			*s.at, d.used = now, now
		}
	}
	before = d.blind.on
	if d.blind.pass(r, now); before && !d.blind.on {
		d.loose = now
	}
}

// report sends what the guest would report now, if it is due.
func (d *desk) report(now time.Time) {
	if d.tunnel == nil || d.silent || now.Before(d.boots) {
		return
	}
	last := latest(d.guest.input, d.guest.chat, d.guest.agent, d.guest.question, d.guest.shell)
	resumed := last.Sub(d.usedAt) >= wire.ActivityEvery
	if now.Sub(d.sent) < wire.ActivityEvery && !resumed {
		return
	}
	age := func(t time.Time) *int64 {
		if t.IsZero() {
			return nil
		}
		ms := now.Sub(t).Milliseconds()
		return &ms
	}
	a := wire.Activity{Input: age(d.guest.input), Chat: age(d.guest.chat), Agent: age(d.guest.agent), Question: age(d.guest.question), Shell: age(d.guest.shell), Blind: d.blind.on}
	if d.blind.on { // it sees neither
		a.Agent, a.Question = nil, nil
	}
	if d.cron > 0 {
		in := d.nextJob.Sub(now).Milliseconds()
		a.NextJob = &in
	}
	d.sent, d.usedAt = now, last
	d.tunnel.reports.Report(account, d.id, d.joined, a)
}

// boot starts the machine's guest.
func (d *desk) boot(r *rand.Rand, now time.Time) {
	d.up, d.ran, d.noted, d.guest, d.warned = true, now, time.Time{}, remembered{}, time.Time{}
	d.boots = now.Add(time.Duration(30+r.IntN(90)) * time.Second)
	d.used, d.byUser, d.asked = now, now, time.Time{}
	d.lose(d.boots)
	if d.cron > 0 && d.nextJob.Before(d.boots) { // it was missed: the agent runs it two minutes after its gateway is back
		d.nextJob = d.boots.Add(2 * time.Minute)
	}
}

// lose takes the tunnel away until a time.
func (d *desk) lose(until time.Time) {
	d.tunnel, d.back, d.loose = nil, until, until
}

// halt ends all that runs on the machine.
func (d *desk) halt(now time.Time) {
	d.up, d.stopped = false, now
	d.agent.end()
	d.question.end()
	d.shell.end()
	d.tunnel = nil
}

// forJob is what idle.Decide does with a stop that leaves too little sleep before a job.
func (d *desk) forJob(p idle.Policy, stop time.Time) time.Time {
	if d.cron == 0 || p.Jobs != idle.Wake || stop.Before(d.nextJob.Add(-idle.WakeLead-idle.MinSleep)) {
		return stop
	}
	return latest(stop, d.nextJob.Add(idle.JobGrace))
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
