package activity_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// tally counts what happened.
type tally struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[what]++
}

func (c *tally) String() string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(c.of)) {
		parts = append(parts, fmt.Sprintf("%d %s", c.of[what], what))
	}
	return strings.Join(parts, ", ")
}

// Margins of the assertions.
const (
	late   = time.Minute      // by which no desktop outlives its limit
	unseen = 30 * time.Second // within which a run that begins while its desktop is stopped may not have been reported
)

// decided looks at a decision, when the world still is as it was then.
func (s *sim) decided(d *desk, e appended) {
	switch ev := e.ev.(type) {
	case instance.IdleWarned:
		if d.warned.IsZero() {
			d.warned = e.at
		}
		s.tally.add("warnings")
	case instance.IdleExtended:
		d.warned, d.asked, d.byUser, d.used = time.Time{}, e.at, e.at, latest(d.used, e.at)
	case instance.IdleWithdrawn:
		d.warned = time.Time{}
		s.tally.add("warnings withdrawn")
	case instance.StartRequested:
		if ev.Cause == instance.CauseJob {
			s.tally.add("started for a job")
		}
	case instance.StopRequested:
		if ev.Cause != "" {
			s.stopped(d, ev, e.at)
		}
		d.warned = time.Time{}
	}
}

// stopped checks a stop: the agent did not work, or the ceiling was reached; its user was warned; it says why.
func (s *sim) stopped(d *desk, ev instance.StopRequested, at time.Time) {
	s.tally.add("stopped: " + string(ev.Cause))
	_, p := s.state(d)
	since, busy := d.busy()
	switch {
	case !strings.Contains(ev.Why, "(UTC)") || ev.Cause == instance.CauseIdle && !strings.HasPrefix(ev.Why, "No input since ") ||
		ev.Cause == instance.CauseCeiling && !strings.Contains(ev.Why, "ceiling of"):
		s.broken(d, "stopped because of %q, with the reason %q", ev.Cause, ev.Why)
	case ev.Cause == instance.CauseIdle && busy && at.Sub(since) > unseen:
		s.broken(d, "stopped as idle while it has been working since %s", since.UTC().Format("15:04:05"))
	case ev.Cause == instance.CauseIdle && !busy && at.Sub(d.used) < time.Duration(p.After)*time.Second-unseen-20*time.Second:
		s.broken(d, "stopped as idle %s after its last use, with a limit of %d s", at.Sub(d.used), p.After)
	case ev.Cause == instance.CauseCeiling && at.Sub(latest(d.ran, d.asked)) < time.Duration(p.Ceiling)*time.Second-late/2:
		s.broken(d, "stopped by its ceiling of %d s, %s after the beginning of its run", p.Ceiling, at.Sub(d.ran))
	case ev.Cause == instance.CauseCeiling && busy && at.Sub(d.reportedUse(at)) < time.Duration(p.Ceiling)*time.Second-unseen-20*time.Second:
		s.broken(d, "stopped by its ceiling of %d s, %s after its user's last use", p.Ceiling, at.Sub(d.byUser))
	case p.Warn > 0 && at.Sub(d.warned) < time.Duration(p.Warn)*time.Second-10*time.Second && at.Sub(s.stepped) > time.Duration(p.Warn+10)*time.Second && d.changed.Before(d.warned):
		s.broken(d, "stopped %s after a warning, want %d s", at.Sub(d.warned), p.Warn)
	case (ev.Jobs == "") != ev.NextJob.IsZero() || (ev.Jobs == idle.Wake) != !ev.WakeAt.IsZero():
		s.broken(d, "got %+v, want what becomes of the next job", ev)
	}
	if busy {
		s.tally.add("stopped while working: " + string(ev.Cause))
	}
}

// reportedUse is the user's last use, if it can have been reported.
func (d *desk) reportedUse(at time.Time) time.Time {
	if d.tunnel == nil || d.silent {
		return time.Time{}
	}
	return d.byUser
}

// check checks that a running desktop has not outlived its limits, and that a stopped one was started for its job.
func (s *sim) check(d *desk, st instance.State, p idle.Policy, now time.Time) {
	warn := time.Duration(p.Warn)*time.Second + 10*time.Second
	warned := latest(s.keeping.Add(warn), d.changed.Add(warn), st.Extended, p.KeepUntil)
	switch {
	case st.Status == instance.Stopped && !st.WakeAt.IsZero():
		if p.Jobs != idle.Wake { // its policy was changed since
			return
		}
		if limit := latest(st.WakeAt, s.keeping, s.stepped, d.stopped, d.changed).Add(2 * late); now.After(limit) {
			s.broken(d, "not started for its job, which it was to be %s ago", now.Sub(st.WakeAt))
		}
		return
	case st.Status != instance.Running:
		return
	}
	if d.noted.IsZero() { // no keeper has seen this run yet: its time counts from when one does
		if !s.table.noted(d.id, st.RunAt) {
			if limit := latest(s.keeping, d.ran).Add(2 * step); now.After(limit) {
				s.broken(d, "no keeper has seen its run, %s after it could", now.Sub(limit))
			}
			return
		}
		d.noted = now
	}
	if p.Ceiling > 0 {
		limit := latest(latest(d.byUser, d.noted, s.stepped, s.wiped).Add(time.Duration(p.Ceiling)*time.Second), warned)
		if now.After(limit.Add(late)) {
			s.broken(d, "outlives its ceiling of %d s by %s", p.Ceiling, now.Sub(limit))
		}
		s.tally.add("checks of a ceiling")
	}
	if p.After == 0 || d.tunnel == nil || d.silent || d.blind.on || now.Before(d.boots) {
		return
	}
	limit := latest(d.used, d.loose, d.joined, s.stepped, s.wiped, d.noted, s.brought).Add(time.Duration(p.After) * time.Second)
	limit = latest(d.forJob(p, latest(limit, st.Extended, p.KeepUntil)), warned)
	if now.After(limit.Add(late)) {
		s.broken(d, "outlives its idle limit of %d s by %s", p.After, now.Sub(limit))
	}
	s.tally.add("checks of an idle limit")
}

// schedules is how many schedules a run plays.
func schedules() int {
	if os.Getenv("LONG") != "" { // make faults
		return 1000
	}
	return 60
}

// TestSchedules plays seeded schedules of use and faults in virtual time. No desktop with a working agent is stopped below
// the ceiling; none whose guest reports outlives its idle limit by more than a minute, and none whose guest is silent its
// ceiling; each stop gives its reason.
func TestSchedules(t *testing.T) {
	t.Parallel()
	n, lanes := schedules(), 2
	var counts tally
	t.Run("seeds", func(t *testing.T) {
		for lane := range lanes {
			t.Run(fmt.Sprint("lane ", lane), func(t *testing.T) {
				t.Parallel()
				for seed := lane; seed < n; seed += lanes {
					for _, v := range play(t, uint64(seed), "", &counts) {
						t.Fatal(v)
					}
				}
			})
		}
	})
	t.Logf("%d schedules: %v", n, &counts)
	for _, what := range []string{
		"stopped: idle", "stopped: ceiling", "stopped while working: ceiling", "warnings", "warnings withdrawn", "started for a job", "started by their user",
		"tunnels lost", "replicas replaced", "guests silent", "guests restarted", "tables wiped", "clock steps", "outages", "keepers paused", "keepers missing",
		"policies changed", "extensions", "checks of an idle limit", "checks of a ceiling",
	} {
		if counts.of[what] == 0 && !t.Failed() {
			t.Errorf("got no %s in %d schedules, want some", what, n)
		}
	}
}

// TestSchedulesFindPlantedFaults plays the same schedules with a keeper that ignores activity, and with one that takes what is
// unknown for idle. Both must be found out.
func TestSchedulesFindPlantedFaults(t *testing.T) {
	t.Parallel()
	for _, plant := range []string{ignoresActivity, takesUnknownAsIdle} {
		t.Run(plant, func(t *testing.T) {
			t.Parallel()
			var counts tally
			found := 0
			for seed := range uint64(12) {
				v := play(t, seed, plant, &counts)
				if found += min(1, len(v)); len(v) > 0 && found == 1 {
					t.Log(v[0])
				}
				if found == 1 && len(v) > 0 && !strings.Contains(v[0], "stopped as idle while it has been working") {
					found--
				}
			}
			t.Logf("%d of 12 schedules found it", found)
			if found == 0 {
				t.Error("got no schedule that finds the fault, want some")
			}
		})
	}
}
