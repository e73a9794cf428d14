package idle

import "time"

// Times of a desktop that the agent's schedule needs.
const (
	// WakeLead is how long before a job its desktop is started, so that the agent's gateway is up when the job is due. A
	// boot takes two to three minutes. A gateway that is late runs missed command jobs at once, and missed agent jobs about
	// two minutes after it is back, so starting late would delay the job by both.
	WakeLead = 5 * time.Minute
	// MinSleep is the shortest sleep between a stop and a start for a job. A shorter one saves less than it costs.
	MinSleep = 5 * time.Minute
	// JobGrace is how long after a job is due its run may begin.
	JobGrace = 3 * time.Minute
)

// slack is how far a stop may move without another warning.
const slack = 10 * time.Second

// sure is how much older than an idle stop the latest report may be. A report that is older may miss a run that has begun
// since. Reports come at least once a minute, so waiting for the next one delays the stop by less than that.
const sure = 15 * time.Second

// Action is what is due.
type Action string

const (
	Keep     Action = "keep"     // nothing
	Warn     Action = "warn"     // warn the user of the stop at StopAt
	Withdraw Action = "withdraw" // withdraw the warning that stands
	Stop     Action = "stop"     // stop the desktop
)

// State is how a desktop appears to its policy.
type State string

const (
	InUse      State = "in_use"
	Idle       State = "idle"
	Unknown    State = "unknown"     // its guest does not say, so only the ceiling stops it
	NotRunning State = "not_running" // there is nothing to stop
	Off        State = "off"         // its policy never stops it
)

// Verdict is what is due now, and what would happen when if the desktop was not used from now on.
type Verdict struct {
	Do    Action
	State State

	WarnAt time.Time // zero: no warning will come, or one stands
	StopAt time.Time // zero: it does not stop by itself
	Cause  Cause     // of the stop; "" without one
	Why    string    // of the stop: sentences for the user

	// What becomes of the agent's next job, if the desktop stops at StopAt.
	Jobs    Jobs      // "" if no job is known
	NextJob time.Time // when it is due; zero: no job is known
	WakeAt  time.Time // when the desktop is started for it; zero: it is not
}

// Decide returns what a policy says about a desktop's use.
func Decide(p Policy, u Use) Verdict {
	v := Verdict{Do: Keep, State: state(p, u)}
	if v.State == NotRunning {
		return v
	}
	stop, cause := stopOf(p, u)
	due := !stop.IsZero()
	warn := time.Duration(p.Warn) * time.Second
	near := due && !u.Now.Before(stop.Add(-warn)) // a warning is due, or stands
	if w := u.Warned; w != nil {
		near = due && !u.Now.Before(stop.Add(-warn-slack))
	}
	switch w := u.Warned; {
	case !near && w != nil:
		v.Do = Withdraw
	case !near:
	case warn == 0:
		v.Do = u.ready(stop, cause)
	case w == nil:
		v.Do, stop = Warn, latest(stop, u.Now.Add(warn))
	case stop.After(w.StopAt.Add(slack)) && stop.After(u.Now): // its user has known of an earlier stop for long enough
		v.Do = Warn
	case latest(stop, u.Now.Add(warn)).Before(w.StopAt.Add(-slack)):
		v.Do, stop = Warn, latest(stop, u.Now.Add(warn))
	default:
		stop = latest(stop, w.StopAt)
		v.Do = u.ready(stop, cause)
	}
	if !due {
		return v
	}
	v.StopAt, v.Cause, v.Why = stop, cause, why(p, u, cause)
	if warn > 0 && (u.Warned == nil || v.Do == Withdraw) {
		v.WarnAt = stop.Add(-warn)
	}
	if v.Do == Stop {
		v.StopAt = u.Now
	}
	v.Jobs, v.NextJob, v.WakeAt = jobs(p, u, v.StopAt, cause)
	return v
}

// ready returns Stop if the time of a stop has come, and Keep before.
func (u Use) ready(stop time.Time, cause Cause) Action {
	if u.Now.Before(stop) || cause == ByIdle && u.Reported.Before(stop.Add(-sure)) {
		return Keep
	}
	return Stop
}

func state(p Policy, u Use) State {
	switch {
	case !u.Running:
		return NotRunning
	case p.After == 0 && p.Ceiling == 0:
		return Off
	case !u.known():
		return Unknown
	case u.working() || u.Now.Sub(latest(u.past(u.Input), u.past(u.Chat), u.past(u.Shell), u.past(u.Extended), u.past(u.Agent), u.past(u.Question))) <= Fresh:
		return InUse
	}
	return Idle
}

// stopOf returns when the desktop stops if it is not used from now on, and why.
func stopOf(p Policy, u Use) (stop time.Time, cause Cause) {
	if u.byUser().IsZero() {
		return stop, cause // not even the beginning of its run is known
	}
	if p.Ceiling > 0 {
		stop, cause = latest(u.byUser().Add(time.Duration(p.Ceiling)*time.Second), u.Until, p.KeepUntil), ByCeiling
	}
	if p.After == 0 || !u.known() {
		return stop, cause
	}
	idle := forJob(p, u, latest(u.byAny().Add(time.Duration(p.After)*time.Second), u.Until, p.KeepUntil))
	if stop.IsZero() || !idle.After(stop) {
		return idle, ByIdle
	}
	return stop, cause
}

// forJob puts a stop off until a job had time to begin, if the desktop would hardly sleep before it has to wake for the job.
func forJob(p Policy, u Use, stop time.Time) time.Time {
	if p.Jobs != Wake || u.NextJob.IsZero() || stop.Before(u.NextJob.Add(-WakeLead-MinSleep)) {
		return stop
	}
	return latest(stop, u.NextJob.Add(JobGrace))
}

// jobs returns what becomes of the next job of a desktop that stops at a time. The ceiling is for desktops whose user stays
// away, so no job starts one again after it.
func jobs(p Policy, u Use, stop time.Time, cause Cause) (Jobs, time.Time, time.Time) {
	switch {
	case !u.NextJob.After(stop):
		return "", time.Time{}, time.Time{}
	case p.Jobs == Wake && cause == ByIdle:
		return Wake, u.NextJob, u.NextJob.Add(-WakeLead)
	}
	return Sleep, u.NextJob, time.Time{}
}
