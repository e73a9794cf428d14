package idle_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// drawn draws a policy that Check allows, and a use.
func drawn(t *rapid.T) (idle.Policy, idle.Use) {
	now := at("20:00")
	some := func(what string, within int) time.Time {
		if rapid.IntRange(0, 3).Draw(t, what) == 0 {
			return time.Time{}
		}
		return now.Add(-time.Duration(rapid.IntRange(-20, within).Draw(t, what+" was")) * time.Second)
	}
	p := idle.Policy{After: int64(rapid.IntRange(0, 3).Draw(t, "after")) * 1200, Ceiling: int64(rapid.IntRange(0, 3).Draw(t, "ceiling")) * 3600,
		Jobs: rapid.SampledFrom([]idle.Jobs{idle.Wake, idle.Sleep}).Draw(t, "jobs")}
	if p.After+p.Ceiling > 0 {
		p.Warn = int64(rapid.SampledFrom([]int{0, 60, 600}).Draw(t, "warn"))
	}
	if rapid.IntRange(0, 5).Draw(t, "kept") == 0 {
		p.KeepUntil = now.Add(time.Duration(rapid.IntRange(-7200, 7200).Draw(t, "until")) * time.Second)
	}
	if p.Check(time.Minute, now) != nil { // a ceiling below the idle limit
		p.Ceiling = 0
	}
	u := idle.Use{
		Now: now, Running: rapid.IntRange(0, 9).Draw(t, "running") > 0, Guest: rapid.IntRange(0, 9).Draw(t, "guest") > 0, Blind: rapid.IntRange(0, 5).Draw(t, "blind") == 0,
		Began: some("began", 20000), Since: some("since", 20000), Extended: some("extended", 9000), Until: some("until", 9000).Add(time.Hour),
		Input: some("input", 9000), Chat: some("chat", 9000), Shell: some("shell", 9000), Agent: some("agent", 9000), Question: some("question", 9000),
		Known: some("known", 9000), Reported: some("reported", 300), NextJob: some("job", 600),
	}
	if rapid.IntRange(0, 2).Draw(t, "near") > 0 { // its idle limit
		u = idle.Use{Now: now, Running: true, Guest: true, Began: at("14:00"), Since: at("14:00"), Known: at("15:00"), Reported: u.Reported, NextJob: u.NextJob,
			Agent: now.Add(time.Duration(rapid.IntRange(-100, 700).Draw(t, "left")-int(p.After)) * time.Second)}
	}
	if u.Until.Year() < 2000 {
		u.Until = time.Time{}
	}
	if rapid.IntRange(0, 3).Draw(t, "works") == 3 {
		u.Agent = u.Reported
	}
	if !u.NextJob.IsZero() {
		u.NextJob = u.NextJob.Add(time.Duration(rapid.IntRange(0, 7200).Draw(t, "job in")) * time.Second)
	}
	if rapid.IntRange(0, 2).Draw(t, "warned") == 2 {
		u.Warned = &idle.Warning{StopAt: now.Add(time.Duration(rapid.IntRange(-700, 700).Draw(t, "stop")) * time.Second), Cause: idle.ByIdle}
	}
	return p, u
}

func TestLaws(t *testing.T) {
	t.Parallel()
	seen := map[idle.Action]int{}
	rapid.Check(t, func(t *rapid.T) {
		for range 40 {
			obeys(t, seen)
		}
	})
	t.Logf("%v", seen)
	for _, do := range []idle.Action{idle.Keep, idle.Warn, idle.Withdraw, idle.Stop} {
		if seen[do] == 0 {
			t.Errorf("got no verdict %s, want some", do)
		}
	}
}

// obeys draws a use, and checks the verdict about it.
func obeys(t *rapid.T, seen map[idle.Action]int) {
	p, u := drawn(t)
	v := idle.Decide(p, u)
	seen[v.Do]++
	fail := func(law string) { t.Fatalf("%s: got %+v\nof %+v\nand %+v", law, v, p, u) }
	known := u.Guest && !u.Blind && !u.Known.IsZero() && !u.Reported.IsZero() && u.Now.Sub(u.Reported) <= idle.Fresh
	works := known && !u.Agent.IsZero() && u.Agent.Equal(u.Reported)
	switch {
	case v.Do == idle.Stop && v.Cause == idle.ByIdle && (!known || works):
		fail("only what is known to be idle is stopped as idle")
	case v.Do == idle.Stop && v.Cause == idle.ByIdle && p.After == 0, v.Do == idle.Stop && v.Cause == idle.ByCeiling && p.Ceiling == 0:
		fail("a limit that is not set stops nothing")
	case v.Do == idle.Stop && (u.Now.Before(u.Until) || u.Now.Before(p.KeepUntil)):
		fail("a desktop that is kept is not stopped")
	case v.Do == idle.Stop && p.Warn > 0 && (u.Warned == nil || u.Now.Before(u.Warned.StopAt)):
		fail("a stop comes after its warning")
	case v.Do == idle.Warn && (p.Warn == 0 || v.StopAt.Before(u.Now)):
		fail("a warning is of the future")
	case (v.Do == idle.Stop || v.Do == idle.Warn) && (v.Why == "" || v.Cause == ""):
		fail("a decision says why")
	case v.Do == idle.Withdraw && u.Warned == nil:
		fail("only a warning that stands is withdrawn")
	case !u.Running && v != (idle.Verdict{Do: idle.Keep, State: idle.NotRunning}):
		fail("a desktop that does not run is left alone")
	case !v.WakeAt.IsZero() && (v.Jobs != idle.Wake || !v.WakeAt.Equal(v.NextJob.Add(-idle.WakeLead))):
		fail("a desktop is started for a job only")
	}
	// Deciding twice adds nothing.
	again := u
	switch v.Do {
	case idle.Warn:
		again.Warned = &idle.Warning{StopAt: v.StopAt, Cause: v.Cause}
	case idle.Withdraw:
		again.Warned = nil
	case idle.Stop:
		again.Running = false
	}
	if w := idle.Decide(p, again); v.Do != idle.Keep && w.Do == v.Do || v.Do == idle.Warn && w.Do != idle.Keep && w.StopAt.After(u.Now) {
		t.Fatalf("deciding twice adds nothing: got %+v and then %+v\nof %+v\nand %+v", v, w, p, u)
	}
	// Use never brings a stop forward.
	used := u
	used.Input, used.Chat = u.Now, u.Now
	if w := idle.Decide(p, used); u.Running && v.Do != idle.Stop && !v.StopAt.IsZero() && w.StopAt.Before(v.StopAt.Add(-20*time.Second)) && (u.Warned == nil || w.StopAt.Before(u.Now.Add(time.Duration(p.Warn)*time.Second))) {
		t.Fatalf("use brings the stop forward: got %+v and then %+v\nof %+v\nand %+v", v, w, p, u)
	}
}
