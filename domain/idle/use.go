package idle

import "time"

// Fresh is how long a report of the guest is believed. Afterwards its desktop's use is unknown.
const Fresh = 150 * time.Second

// Use is what is known of a desktop's use at the time Now. Zero times: never, or not known. All times are by one clock, as far
// as the writers of the log agree about the time.
type Use struct {
	Now     time.Time
	Running bool // its machine runs, and no stop is requested
	Guest   bool // its machine has a guest, which may report its use

	Began    time.Time // when the log first saw this run
	Since    time.Time // when the database first knew this run, or lost what it knew of it
	Extended time.Time // when its user last asked for more time
	Until    time.Time // until when

	Input    time.Time // a key, a button, the pointer or the clipboard of a viewer, or input in a terminal
	Chat     time.Time // a message to the agent
	Shell    time.Time // a program in the foreground of a terminal, which its user may have forgotten
	Agent    time.Time // a run of the agent
	Question time.Time // a question of the agent that waited for its user

	Known    time.Time // since when its guest reports without a gap
	Reported time.Time // its latest report
	Blind    bool      // that report could not say whether the agent works
	NextJob  time.Time // when the next job of the agent's schedule is due

	Warned *Warning // the warning that stands; nil: none
}

// Warning is a warning that was given and not withdrawn.
type Warning struct {
	StopAt time.Time
	Cause  Cause
}

// Cause names why a desktop stops by itself.
type Cause string

const (
	ByIdle    Cause = "idle"    // it was not used for as long as its policy allows
	ByCeiling Cause = "ceiling" // it ran for as long as its policy allows without its user
)

// known reports whether the desktop's use up to now is known.
func (u Use) known() bool {
	age := u.Now.Sub(u.Reported)
	return u.Guest && !u.Blind && !u.Known.IsZero() && !u.Reported.IsZero() && age <= Fresh && age >= -early
}

// early is how far ahead of Now a time may be before it is taken for an error of a clock.
const early = 10 * time.Second

// working reports whether the latest report showed something that lasts: a run of the agent, a question, or a program in a
// terminal. It is taken to last until the next report.
func (u Use) working() bool {
	lasts := latest(u.past(u.Agent), u.past(u.Question), u.past(u.Shell))
	return u.known() && !lasts.IsZero() && u.Reported.Sub(lasts) < time.Second
}

// byUser returns when the user was last there: the beginning of the run counts.
func (u Use) byUser() time.Time {
	return latest(u.past(u.Input), u.past(u.Chat), u.past(u.Extended), u.past(u.Began), u.past(u.Since))
}

// byAny returns the time from which idleness counts.
func (u Use) byAny() time.Time {
	if u.working() {
		return u.Now
	}
	return latest(u.byUser(), u.past(u.Shell), u.past(u.Agent), u.past(u.Question), u.past(u.Known))
}

// past returns t, or zero if it is a time that has not come yet: a clock was wrong when it was written.
func (u Use) past(t time.Time) time.Time {
	if t.After(u.Now.Add(early)) {
		return time.Time{}
	}
	return t
}

func latest(times ...time.Time) (last time.Time) {
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
