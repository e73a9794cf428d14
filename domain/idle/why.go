package idle

import (
	"fmt"
	"strings"
	"time"
)

// why returns the reason of a stop. It is true before the stop, too, so a warning gives the same.
func why(p Policy, u Use, cause Cause) string {
	user, agent := latest(u.past(u.Input), u.past(u.Chat), u.past(u.Shell)), latest(u.past(u.Agent), u.past(u.Question))
	if cause == ByCeiling {
		return ceilingReached(p, u)
	}
	since := u.Known
	text := fmt.Sprintf("No input since %s and the agent idle since %s (UTC).", u.clock(or(user, since)), u.clock(or(agent, since)))
	if counts := latest(user, agent).Add(time.Minute); since.After(counts) {
		text += fmt.Sprintf(" Its guest has reported without a gap since %s, so the time counts from there.", u.clock(since))
	}
	return text
}

func ceilingReached(p Policy, u Use) string {
	last, from := "Its user was last active at", u.byUser()
	if latest(u.past(u.Input), u.past(u.Chat), u.past(u.Extended)).Before(from) {
		last = "Its user was not active since"
		if !u.past(u.Began).Equal(from) {
			last = "No activity of its user is known since"
		}
	}
	text := fmt.Sprintf("%s %s (UTC); the ceiling of %s counts from then.", last, u.clock(from), Duration(time.Duration(p.Ceiling)*time.Second))
	switch {
	case !u.Guest || u.working():
	case u.Reported.IsZero():
		text += " Its guest has not reported how it is used."
	case u.Blind && u.Now.Sub(u.Reported) <= Fresh:
		text += " Its guest cannot see whether the agent works."
	case !u.known():
		text += fmt.Sprintf(" Its guest has not reported since %s.", u.clock(u.Reported))
	}
	return text
}

func or(t, instead time.Time) time.Time {
	if t.IsZero() {
		return instead
	}
	return t
}

func (u Use) clock(t time.Time) string { return Clock(t, u.Now) }

// Clock returns a time of day in UTC, with the day if that is not the one of now: "18:02", "18:02 on 27 November".
func Clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format("15:04")
	}
	return t.Format("15:04 on 2 January")
}

// Duration returns a duration as people write it: "5 minutes", "7 days", "1 hour 30 minutes". It leaves out what is below a
// second, and all but the two greatest units.
func Duration(d time.Duration) string {
	var parts []string
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		n := d / unit.length
		d -= n * unit.length
		switch {
		case n == 1:
			parts = append(parts, "1 "+unit.name)
		case n > 1:
			parts = append(parts, fmt.Sprintf("%d %ss", n, unit.name))
		}
	}
	if len(parts) == 0 {
		return "0 seconds"
	}
	return strings.Join(parts[:min(2, len(parts))], " ")
}
