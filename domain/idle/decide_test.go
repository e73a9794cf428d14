package idle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// at returns a time of one day, "18:02" or "18:02:30".
func at(clock string) time.Time {
	for _, layout := range []string{"15:04", "15:04:05"} {
		if t, err := time.Parse(layout, clock); err == nil {
			return time.Date(2030, 1, 2, t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
		}
	}
	panic(clock)
}

// used is the use at a time of a desktop that runs since 09:00 and whose guest has reported since 09:05 and at this moment.
func used(now string, change func(*idle.Use)) idle.Use {
	u := idle.Use{Now: at(now), Running: true, Guest: true, Began: at("09:00"), Since: at("09:00"), Known: at("09:05"), Reported: at(now)}
	if change != nil {
		change(&u)
	}
	return u
}

func TestDecide(t *testing.T) {
	t.Parallel()
	standard := idle.Policy{After: 3600, Warn: 300, Ceiling: 24 * 3600, Jobs: idle.Wake}
	with := func(change func(*idle.Policy)) idle.Policy { p := standard; change(&p); return p }
	warned := func(at time.Time) *idle.Warning { return &idle.Warning{StopAt: at, Cause: idle.ByIdle} }
	for name, c := range map[string]struct {
		policy idle.Policy
		use    idle.Use
		do     idle.Action
		state  idle.State
		stop   string // "": none
		cause  idle.Cause
		why    string // a part of it
	}{
		"used a moment ago": {standard, used("10:00", func(u *idle.Use) { u.Input = at("09:59") }),
			idle.Keep, idle.InUse, "10:59", idle.ByIdle, "No input since 09:59 and the agent idle since 09:05 (UTC)."},
		"idle for a while": {standard, used("10:00", func(u *idle.Use) { u.Input, u.Agent = at("09:20"), at("09:30") }),
			idle.Keep, idle.Idle, "10:30", idle.ByIdle, "No input since 09:20 and the agent idle since 09:30 (UTC)."},
		"a warning is due": {standard, used("10:25", func(u *idle.Use) { u.Input, u.Agent = at("09:20"), at("09:30") }),
			idle.Warn, idle.Idle, "10:30", idle.ByIdle, "09:20"},
		"a late warning still comes in time": {standard, used("10:29", func(u *idle.Use) { u.Agent = at("09:30") }),
			idle.Warn, idle.Idle, "10:34", idle.ByIdle, "09:30"},
		"warned already": {standard, used("10:29", func(u *idle.Use) { u.Agent, u.Warned = at("09:30"), warned(at("10:30")) }),
			idle.Keep, idle.Idle, "10:30", idle.ByIdle, ""},
		"the warning was late": {standard, used("10:31", func(u *idle.Use) { u.Agent, u.Warned = at("09:30"), warned(at("10:34")) }),
			idle.Keep, idle.Idle, "10:34", idle.ByIdle, ""},
		"stop": {standard, used("10:30", func(u *idle.Use) { u.Agent, u.Warned = at("09:30"), warned(at("10:30")) }),
			idle.Stop, idle.Idle, "10:30", idle.ByIdle, "the agent idle since 09:30"},
		"stop without a warning": {with(func(p *idle.Policy) { p.Warn = 0 }), used("10:30", func(u *idle.Use) { u.Agent = at("09:30") }),
			idle.Stop, idle.Idle, "10:30", idle.ByIdle, "09:30"},
		"the latest report is too old for a stop": {standard, used("10:30", func(u *idle.Use) {
			u.Agent, u.Warned, u.Reported = at("09:30"), warned(at("10:30")), at("10:29:44")
		}), idle.Keep, idle.Idle, "10:30", idle.ByIdle, ""},
		"the latest report is fresh enough for a stop": {standard, used("10:30:20", func(u *idle.Use) {
			u.Agent, u.Warned, u.Reported = at("09:30"), warned(at("10:30")), at("10:29:45")
		}), idle.Stop, idle.Idle, "10:30:20", idle.ByIdle, ""},
		"used after the warning": {standard, used("10:29", func(u *idle.Use) { u.Input, u.Warned = at("10:28"), warned(at("10:30")) }),
			idle.Withdraw, idle.InUse, "11:28", idle.ByIdle, "10:28"},
		"the agent works": {standard, used("12:00", func(u *idle.Use) { u.Agent = at("12:00") }),
			idle.Keep, idle.InUse, "13:00", idle.ByIdle, ""},
		"the agent worked when the guest last reported": {with(func(p *idle.Policy) { p.After, p.Warn = 60, 0 }), used("12:02", func(u *idle.Use) { u.Agent, u.Reported = at("12:00"), at("12:00") }),
			idle.Keep, idle.InUse, "12:03", idle.ByIdle, ""},
		"a question waits": {standard, used("12:00", func(u *idle.Use) { u.Question = at("12:00") }),
			idle.Keep, idle.InUse, "13:00", idle.ByIdle, ""},
		"a program runs in a terminal": {standard, used("12:00", func(u *idle.Use) { u.Shell = at("12:00") }),
			idle.Keep, idle.InUse, "13:00", idle.ByIdle, ""},
		"a forgotten program in a terminal": {with(func(p *idle.Policy) { p.Ceiling = 2 * 3600 }), used("11:00", func(u *idle.Use) {
			u.Shell, u.Warned = at("11:00"), &idle.Warning{StopAt: at("11:00"), Cause: idle.ByCeiling}
		}), idle.Stop, idle.InUse, "11:00", idle.ByCeiling, "Its user was not active since 09:00 (UTC); the ceiling of 2 hours counts from then."},
		"work of a time that has not come": {standard, used("11:00", func(u *idle.Use) {
			u.Agent, u.Warned = at("13:00"), warned(at("11:00"))
		}), idle.Stop, idle.Idle, "11:00", idle.ByIdle, ""},
		"a silent guest": {standard, used("12:00", func(u *idle.Use) { u.Agent, u.Reported = at("09:30"), at("11:57") }),
			idle.Keep, idle.Unknown, "", idle.ByCeiling, "Its guest has not reported since 11:57."},
		"a silent guest after a warning": {standard, used("10:29", func(u *idle.Use) { u.Reported, u.Warned = at("10:26"), warned(at("10:30")) }),
			idle.Withdraw, idle.Unknown, "", idle.ByCeiling, ""},
		"a blind guest": {standard, used("12:00", func(u *idle.Use) { u.Blind = true }),
			idle.Keep, idle.Unknown, "", idle.ByCeiling, "Its guest cannot see whether the agent works."},
		"a guest that has never reported": {standard, used("12:00", func(u *idle.Use) { u.Known, u.Reported = time.Time{}, time.Time{} }),
			idle.Keep, idle.Unknown, "", idle.ByCeiling, "Its guest has not reported how it is used."},
		"a report from the future": {standard, used("12:00", func(u *idle.Use) { u.Reported = at("13:00") }),
			idle.Keep, idle.Unknown, "", idle.ByCeiling, ""},
		"known again only lately": {standard, used("12:00", func(u *idle.Use) { u.Input, u.Known = at("09:10"), at("11:30") }),
			idle.Keep, idle.Idle, "12:30", idle.ByIdle, "so the time counts from there"},
		"the database knows the run only lately": {standard, used("12:00", func(u *idle.Use) { u.Since = at("11:30") }),
			idle.Keep, idle.Idle, "12:30", idle.ByIdle, ""},
		"extended": {standard, used("10:29", func(u *idle.Use) { u.Extended, u.Until = at("10:20"), at("13:20") }),
			idle.Keep, idle.Idle, "13:20", idle.ByIdle, ""},
		"an extension is use, too": {standard, used("10:29", func(u *idle.Use) { u.Extended, u.Until = at("10:20"), at("10:30") }),
			idle.Keep, idle.Idle, "11:20", idle.ByIdle, ""},
		"kept until": {with(func(p *idle.Policy) { p.KeepUntil = at("15:00") }), used("12:00", nil),
			idle.Keep, idle.Idle, "15:00", idle.ByIdle, ""},
		"the ceiling of a working agent": {with(func(p *idle.Policy) { p.Ceiling = 2 * 3600 }), used("11:00", func(u *idle.Use) {
			u.Agent, u.Warned = at("11:00"), &idle.Warning{StopAt: at("11:00"), Cause: idle.ByCeiling}
		}), idle.Stop, idle.InUse, "11:00", idle.ByCeiling, "Its user was not active since 09:00 (UTC); the ceiling of 2 hours counts from then."},
		"the ceiling counts from the user's last use": {with(func(p *idle.Policy) { p.Ceiling = 2 * 3600 }), used("11:10", func(u *idle.Use) { u.Agent, u.Chat = at("11:10"), at("10:00") }),
			idle.Keep, idle.InUse, "12:00", idle.ByCeiling, "Its user was last active at 10:00 (UTC)"},
		"the ceiling counts from when the database knows the run": {with(func(p *idle.Policy) { p.Ceiling = 2 * 3600 }), used("11:10", func(u *idle.Use) { u.Agent, u.Since = at("11:10"), at("09:30") }),
			idle.Keep, idle.InUse, "11:30", idle.ByCeiling, "No activity of its user is known since 09:30 (UTC)"},
		"the ceiling of a silent guest": {with(func(p *idle.Policy) { p.Ceiling, p.Warn = 2*3600, 0 }), used("11:00", func(u *idle.Use) { u.Reported = at("10:00") }),
			idle.Stop, idle.Unknown, "11:00", idle.ByCeiling, "Its guest has not reported since 10:00."},
		"no guest": {with(func(p *idle.Policy) { p.Ceiling, p.Warn = 2*3600, 0 }), used("11:00", func(u *idle.Use) { u.Guest = false }),
			idle.Stop, idle.Unknown, "11:00", idle.ByCeiling, "the ceiling of 2 hours"},
		"no policy": {idle.Policy{Jobs: idle.Wake}, used("23:00", nil), idle.Keep, idle.Off, "", "", ""},
		"a warning of a policy that was removed": {idle.Policy{Jobs: idle.Wake}, used("10:29", func(u *idle.Use) { u.Warned = warned(at("10:30")) }),
			idle.Withdraw, idle.Off, "", "", ""},
		"not running":      {standard, used("23:00", func(u *idle.Use) { u.Running = false }), idle.Keep, idle.NotRunning, "", "", ""},
		"nothing is known": {standard, idle.Use{Now: at("23:00"), Running: true, Guest: true}, idle.Keep, idle.Unknown, "", "", ""},
		"a shorter limit comes with another warning": {with(func(p *idle.Policy) { p.After, p.Warn = 600, 60 }), used("10:00", func(u *idle.Use) { u.Warned = warned(at("10:30")) }),
			idle.Warn, idle.Idle, "10:01", idle.ByIdle, ""},
		"a stop that moved": {standard, used("10:26", func(u *idle.Use) { u.Agent, u.Warned = at("09:30"), warned(at("10:25")) }),
			idle.Warn, idle.Idle, "10:30", idle.ByIdle, ""},
		"a job is due soon": {standard, used("10:29", func(u *idle.Use) { u.Agent, u.NextJob = at("09:30"), at("10:36") }),
			idle.Keep, idle.Idle, "10:39", idle.ByIdle, ""},
		"a job is due soon, and may be late": {with(func(p *idle.Policy) { p.Jobs, p.Warn = idle.Sleep, 0 }), used("10:30", func(u *idle.Use) { u.Agent, u.NextJob = at("09:30"), at("10:36") }),
			idle.Stop, idle.Idle, "10:30", idle.ByIdle, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := idle.Decide(c.policy, c.use)
			if v.Do != c.do || v.State != c.state || v.Cause != c.cause {
				t.Errorf("got %+v, want %s, state %s and cause %q", v, c.do, c.state, c.cause)
			}
			if c.stop != "" && !v.StopAt.Equal(at(c.stop)) || v.StopAt.IsZero() != (c.cause == "") {
				t.Errorf("got a stop at %v, want %s", v.StopAt, c.stop)
			}
			if !strings.Contains(v.Why, c.why) || (v.Why == "") != v.StopAt.IsZero() {
				t.Errorf("got the reason %q, want %q in it", v.Why, c.why)
			}
			if !v.WarnAt.IsZero() && !v.WarnAt.Equal(v.StopAt.Add(-time.Duration(c.policy.Warn)*time.Second)) {
				t.Errorf("got a warning at %v before a stop at %v, want %d seconds between", v.WarnAt, v.StopAt, c.policy.Warn)
			}
		})
	}
}

// What becomes of the next job is part of the verdict, before the stop and with it.
func TestJobs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		jobs      idle.Jobs
		next      string
		want      idle.Jobs
		due, wake string
	}{
		"wake":              {idle.Wake, "15:00", idle.Wake, "15:00", "14:55"},
		"sleep":             {idle.Sleep, "15:00", idle.Sleep, "15:00", ""},
		"no job":            {idle.Wake, "", "", "", ""},
		"a job of the past": {idle.Wake, "10:00", "", "", ""},
	} {
		for do, now := range map[idle.Action]string{idle.Keep: "10:00", idle.Stop: "10:30"} {
			p := idle.Policy{After: 3600, Jobs: c.jobs}
			v := idle.Decide(p, used(now, func(u *idle.Use) {
				if u.Agent = at("09:30"); c.next != "" {
					u.NextJob = at(c.next)
				}
			}))
			var due, wake time.Time
			if c.due != "" {
				due = at(c.due)
			}
			if c.wake != "" {
				wake = at(c.wake)
			}
			if v.Do != do || v.Jobs != c.want || !v.NextJob.Equal(due) || !v.WakeAt.Equal(wake) {
				t.Errorf("%s at %s: got %+v, want %s, %q, due at %s, started at %q", name, now, v, do, c.want, c.due, c.wake)
			}
		}
	}
}

// After a stop at the ceiling no job starts the desktop: its user is away.
func TestJobsAfterTheCeiling(t *testing.T) {
	t.Parallel()
	v := idle.Decide(idle.Policy{Ceiling: 3600, Jobs: idle.Wake}, used("12:00", func(u *idle.Use) { u.Agent, u.NextJob = at("12:00"), at("15:00") }))
	if v.Do != idle.Stop || v.Cause != idle.ByCeiling || v.Jobs != idle.Sleep || !v.NextJob.Equal(at("15:00")) || !v.WakeAt.IsZero() {
		t.Errorf("got %+v, want a stop at the ceiling after which the job sleeps", v)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 seconds", time.Second: "1 second", 5 * time.Minute: "5 minutes", 90 * time.Minute: "1 hour 30 minutes", time.Hour: "1 hour",
		24 * time.Hour: "1 day", 7 * 24 * time.Hour: "7 days", 25*time.Hour + time.Second: "1 day 1 hour",
	} {
		if got := idle.Duration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	now := at("18:02")
	for _, c := range []struct {
		t    time.Time
		want string
	}{{now, "18:02"}, {now.In(time.FixedZone("", 3600)), "18:02"}, {now.AddDate(0, 0, -1), "18:02 on 1 January"}, {now.AddDate(1, 0, 0), "18:02 on 2 January"}} {
		if got := idle.Clock(c.t, now); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
