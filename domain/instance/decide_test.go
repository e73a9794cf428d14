package instance

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/domaintest"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

var (
	t0      = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	decider = domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
	spec    = Spec{ClientToken: "i-1", Image: "ami", Type: "t3.large", Region: "r", UserData: "#!", TokenKey: "k"}
	key     = []byte("0123456789abcdef0123456789abcdef")
)

// after appends to a copy, so that histories can have a common beginning.
func after(given []Event, more ...Event) []Event {
	return append(given[:len(given):len(given)], more...)
}

var (
	requested   = []Event{Requested{Account: "acc", Name: []byte("sealed"), Type: "t3.large", Region: "r"}}
	open        = after(requested, LaunchAttempted{1, t0, spec})
	launched    = after(open, MachineLaunched{1, "m1", t0.Add(time.Second)})
	running     = after(launched, MachineRunning{Address: "1.2.3.4", At: t0.Add(2 * time.Second)})
	ready       = after(running, PhaseReached{"b1", PhaseReady, "", t0.Add(time.Minute)})
	stopping    = after(ready, StopRequested{At: t0})
	stopped     = after(stopping, MachineStopped{Asked: true})
	starting    = after(stopped, StartRequested{At: t0})
	cancelled   = after(open, TerminationRequested{t0})
	terminating = after(ready, TerminationRequested{t0})
	terminated  = after(terminating, MachineGone{Asked: true}, Terminated{})
	abandoned   = after(launched, LaunchAbandoned{"launch_timeout", "Too slow."})
	takenOver   = []Event{TakenOver{Account: "acc", Name: []byte("sealed"), Region: "r", Machine: "i-1", Address: "1.2.3.4", At: t0}}
	failed      = after(abandoned, MachineGone{Asked: true}, Failed{"launch_timeout", "Too slow."})
)

func TestDecideUsers(t *testing.T) {
	t.Parallel()
	rename := Rename{[]byte("other")}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "request", When: Request{"acc", []byte("sealed"), "t3.large", "r"}, Then: requested},
		{Name: "request twice", Given: requested, When: Request{Account: "acc"}, Err: ErrExists},
		{Name: "nothing there", When: Terminate{t0}, Err: ErrNotFound},
		{Name: "unknown command", Given: requested, Err: domaintest.ErrAny},

		{Name: "take over", When: TakeOver(takenOver[0].(TakenOver)), Then: takenOver},
		{Name: "take over twice", Given: takenOver, When: TakeOver{Account: "acc"}, Err: ErrExists},
		{Name: "take over what was requested", Given: requested, When: TakeOver{Account: "acc"}, Err: ErrExists},
		{Name: "request what was taken over", Given: takenOver, When: Request{Account: "acc"}, Err: ErrExists},
		{Name: "stop what was taken over", Given: takenOver, When: Stop{t0}, Then: []Event{StopRequested{At: t0}}},
		{Name: "start what was taken over stopped", Given: []Event{TakenOver{Account: "acc", Machine: "i-1", Stopped: true}}, When: Start{t0}, Then: []Event{StartRequested{At: t0}}},
		{Name: "terminate what was taken over", Given: takenOver, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "launch for what was taken over", Given: takenOver, When: Attempt{At: t0}},
		{Name: "enrol in what was taken over", Given: takenOver, When: Enroll{0, key, t0}, Err: ErrEnrolment},
		{Name: "what was taken over is terminated outside", Given: takenOver, When: Observe{Machine: "i-1", Seen: SeenGone, At: t0},
			Then: []Event{MachineGone{}, Failed{"machine_gone", "The machine was terminated from outside the control plane."}}},

		{Name: "rename", Given: stopped, When: rename, Then: []Event{Renamed(rename)}},
		{Name: "rename a failed one", Given: failed, When: rename, Then: []Event{Renamed(rename)}},
		{Name: "rename a terminated one", Given: terminated, When: rename, Err: ErrGone},

		{Name: "stop", Given: running, When: Stop{t0}, Then: []Event{StopRequested{At: t0}}},
		{Name: "stop while launching", Given: open, When: Stop{t0}, Err: ErrStillStarting},
		{Name: "stop while starting", Given: starting, When: Stop{t0}, Err: ErrStillStarting},
		{Name: "stop while stopping", Given: stopping, When: Stop{t0}},
		{Name: "stop when stopped", Given: stopped, When: Stop{t0}},
		{Name: "stop while terminating", Given: terminating, When: Stop{t0}, Err: ErrGone},
		{Name: "stop when terminated", Given: terminated, When: Stop{t0}, Err: ErrGone},
		{Name: "stop when failed", Given: failed, When: Stop{t0}, Err: ErrGone},

		{Name: "start", Given: stopped, When: Start{t0}, Then: []Event{StartRequested{At: t0}}},
		{Name: "start while launching", Given: requested, When: Start{t0}},
		{Name: "start while starting", Given: starting, When: Start{t0}},
		{Name: "start when running", Given: running, When: Start{t0}},
		{Name: "start while stopping", Given: stopping, When: Start{t0}, Err: ErrStillStopping},
		{Name: "start while terminating", Given: cancelled, When: Start{t0}, Err: ErrGone},
		{Name: "start when failed", Given: failed, When: Start{t0}, Err: ErrGone},

		{Name: "terminate before any attempt", Given: requested, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}, Terminated{}}},
		{Name: "terminate with an open attempt", Given: open, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "terminate between attempts", Given: after(open, CallRefused{Call: CallLaunch, Attempt: 1, Tries: 1, Verdict: Another}), When: Terminate{t0},
			Then: []Event{TerminationRequested{t0}, Terminated{}}},
		{Name: "terminate when launched", Given: launched, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "terminate when stopped", Given: stopped, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "terminate while stopping", Given: stopping, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "terminate while starting", Given: starting, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}}},
		{Name: "terminate twice", Given: terminating, When: Terminate{t0}},
		{Name: "terminate an abandoned one", Given: abandoned, When: Terminate{t0}},
		{Name: "terminate when terminated", Given: terminated, When: Terminate{t0}},
		{Name: "dismiss a failed one", Given: failed, When: Terminate{t0}, Then: []Event{TerminationRequested{t0}, Terminated{}}},
	})
}

func TestDecideSaga(t *testing.T) {
	t.Parallel()
	refuse := func(c Call, attempt int, v Verdict) Refuse {
		return Refuse{Call: c, Attempt: attempt, Verdict: v, Code: "busy", Reason: "Busy.", RetryAt: t0.Add(time.Second)}
	}
	refused := func(c Call, attempt, tries int, v Verdict) CallRefused {
		return CallRefused{Call: c, Attempt: attempt, Tries: tries, Verdict: v, Code: "busy", Reason: "Busy.", RetryAt: t0.Add(time.Second)}
	}
	// at returns a refusal at a time; unsure returns its event.
	at := func(r Refuse, after time.Duration, unsure bool) Refuse {
		r.At, r.Unsure = t0.Add(after), unsure
		return r
	}
	unsure := func(r CallRefused, after, wait time.Duration) CallRefused {
		r.Unsure, r.RetryAt = t0.Add(after), t0.Add(wait)
		return r
	}
	held := func(tries int, retry time.Duration) CallRefused {
		r := refused(CallLaunch, 1, tries, Again)
		r.RetryAt = t0.Add(retry)
		return r
	}
	interrupted := CallRefused{Call: CallLaunch, Attempt: 1, Verdict: Again, Code: "interrupted", RetryAt: t0, Unsure: t0,
		Reason: "The control plane was interrupted while it requested the machine; retrying."}
	doubted := after(open, unsure(refused(CallLaunch, 1, 1, Again), 0, time.Second))
	again := after(open, refused(CallLaunch, 1, 1, Again))
	another := after(open, refused(CallLaunch, 1, 1, Another))
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "attempt", Given: requested, When: Attempt{At: t0, Spec: spec}, Then: []Event{LaunchAttempted{1, t0, spec}}},
		{Name: "attempt frozen for this number", Given: another, When: Attempt{t0, spec, 2}, Then: []Event{LaunchAttempted{2, t0, spec}}},
		{Name: "attempt frozen for one that there is", Given: another, When: Attempt{t0, spec, 1}},
		{Name: "attempt while one is open", Given: open, When: Attempt{At: t0, Spec: spec}},
		{Name: "attempt with a machine", Given: launched, When: Attempt{At: t0, Spec: spec}},
		{Name: "attempt after another", Given: another, When: Attempt{At: t0, Spec: spec}, Then: []Event{LaunchAttempted{2, t0, spec}}},
		{Name: "attempt after again", Given: again, When: Attempt{At: t0, Spec: spec}},
		{Name: "attempt after termination", Given: cancelled, When: Attempt{At: t0, Spec: spec}},

		{Name: "launched", Given: open, When: Launched{1, "m1", t0}, Then: []Event{MachineLaunched{1, "m1", t0}}},
		{Name: "launched, told twice", Given: launched, When: Launched{1, "m1", t0}},
		{Name: "launched another machine", Given: launched, When: Launched{1, "m2", t0}, Err: ErrSuperseded},
		{Name: "launched after cancelling", Given: cancelled, When: Launched{1, "m1", t0}, Then: []Event{MachineLaunched{1, "m1", t0}}},
		{Name: "launched an attempt that was refused", Given: another, When: Launched{1, "m1", t0}, Err: ErrSuperseded},
		{Name: "launched an old attempt", Given: after(another, LaunchAttempted{2, t0, spec}), When: Launched{1, "m1", t0}, Err: ErrSuperseded},
		{Name: "launched when terminated", Given: terminated, When: Launched{1, "m1", t0}, Err: ErrSuperseded},

		{Name: "accept a stop", Given: stopping, When: Accept{CallStop, t0}, Then: []Event{CallAccepted{CallStop, t0}}},
		{Name: "accept it twice", Given: after(stopping, CallAccepted{CallStop, t0}), When: Accept{CallStop, t0}},
		{Name: "accept its repetition", Given: after(stopping, CallAccepted{CallStop, t0}), When: Accept{CallStop, t0.Add(1)}, Then: []Event{CallAccepted{CallStop, t0.Add(1)}}},
		{Name: "accept a start", Given: starting, When: Accept{CallStart, t0}, Then: []Event{CallAccepted{CallStart, t0}}},
		{Name: "accept a terminate", Given: terminating, When: Accept{CallTerminate, t0}, Then: []Event{CallAccepted{CallTerminate, t0}}},
		{Name: "accept what is not due", Given: terminating, When: Accept{CallStop, t0}},
		{Name: "accept too late", Given: terminated, When: Accept{CallTerminate, t0}},

		{Name: "refuse a launch, again", Given: open, When: refuse(CallLaunch, 1, Again), Then: []Event{refused(CallLaunch, 1, 1, Again)}},
		{Name: "refuse it once more", Given: again, When: refuse(CallLaunch, 1, Again), Then: []Event{refused(CallLaunch, 1, 2, Again)}},
		{Name: "refuse a launch, another", Given: open, When: refuse(CallLaunch, 1, Another), Then: []Event{refused(CallLaunch, 1, 1, Another)}},
		{Name: "refuse a launch, never", Given: open, When: refuse(CallLaunch, 1, Never),
			Then: []Event{refused(CallLaunch, 1, 1, Never), LaunchAbandoned{"busy", "Busy."}}},
		{Name: "refuse a cancelled launch, never", Given: cancelled, When: refuse(CallLaunch, 1, Never), Then: []Event{refused(CallLaunch, 1, 1, Never)}},
		{Name: "refuse an old launch", Given: after(another, LaunchAttempted{2, t0, spec}), When: refuse(CallLaunch, 1, Never), Err: ErrSuperseded},
		{Name: "refuse a launch that succeeded", Given: launched, When: refuse(CallLaunch, 1, Another)},
		{Name: "refuse a launch, unsure", Given: open, When: at(refuse(CallLaunch, 1, Again), 0, true), Then: []Event{unsure(refused(CallLaunch, 1, 1, Again), 0, time.Second)}},
		{Name: "resume", Given: open, When: Resume{1, t0}, Then: []Event{interrupted}},
		{Name: "resume twice", Given: after(open, interrupted), When: Resume{1, t0}},
		{Name: "resume an old attempt", Given: after(another, LaunchAttempted{2, t0, spec}), When: Resume{1, t0}},
		{Name: "resume what has its machine", Given: launched, When: Resume{1, t0}},
		{Name: "another, in doubt", Given: doubted, When: at(refuse(CallLaunch, 1, Another), time.Second, false), Then: []Event{held(2, time.Second+2*time.Minute)}},
		{Name: "another, interrupted", Given: after(open, interrupted), When: at(refuse(CallLaunch, 1, Another), time.Second, false), Then: []Event{held(1, time.Second+2*time.Minute)}},
		{Name: "never, in doubt", Given: doubted, When: at(refuse(CallLaunch, 1, Never), DoubtFor-time.Second, false), Then: []Event{held(2, DoubtFor)}},
		{Name: "never, in doubt, cancelled", Given: after(doubted, TerminationRequested{t0}), When: at(refuse(CallLaunch, 1, Never), time.Second, false), Then: []Event{held(1, time.Second+2*time.Minute)}},
		{Name: "another, after doubt", Given: doubted, When: at(refuse(CallLaunch, 1, Another), DoubtFor, false), Then: []Event{refused(CallLaunch, 1, 2, Another)}},
		{Name: "another, the doubt was of an old attempt", Given: after(another, LaunchAttempted{2, t0, spec}), When: at(refuse(CallLaunch, 2, Another), 0, false), Then: []Event{refused(CallLaunch, 2, 1, Another)}},
		{Name: "refuse a stop", Given: stopping, When: refuse(CallStop, 0, Again), Then: []Event{refused(CallStop, 0, 1, Again)}},
		{Name: "refuse a start, never", Given: starting, When: refuse(CallStart, 0, Never), Then: []Event{refused(CallStart, 0, 1, Never)}},
		{Name: "refuse what is not due", Given: ready, When: refuse(CallStop, 0, Again)},

		{Name: "abandon", Given: open, When: Abandon{"c", "R."}, Then: []Event{LaunchAbandoned{"c", "R."}}},
		{Name: "abandon twice", Given: abandoned, When: Abandon{"c", "R."}},
		{Name: "abandon what runs", Given: running, When: Abandon{"c", "R."}},

		{Name: "stall", Given: running, When: Stall{"slow"}, Then: []Event{BootStalled{PhaseBooting, "slow"}}},
		{Name: "stall twice", Given: after(running, BootStalled{PhaseBooting, "slow"}), When: Stall{"slow"}},
		{Name: "stall twice in one boot", Given: after(running, PhaseReached{"b1", PhaseBooting, "", t0}, BootStalled{PhaseBooting, "slow"}, PhaseReached{"b1", PhaseAgent, "", t0}), When: Stall{"slow"}},
		{Name: "stall in the next boot", Given: after(running, PhaseReached{"b1", PhaseAgent, "", t0}, BootStalled{PhaseAgent, "slow"}, PhaseReached{"b2", PhaseBooting, "", t0}), When: Stall{"slow"},
			Then: []Event{BootStalled{PhaseBooting, "slow"}}},
		{Name: "stall when ready", Given: ready, When: Stall{"slow"}},
		{Name: "stall when stopped", Given: stopped, When: Stall{"slow"}},

		{Name: "conclude a cancelled launch", Given: after(cancelled, CallRefused{Call: CallLaunch, Attempt: 1, Verdict: Never}), When: Conclude{}, Then: []Event{Terminated{}}},
		{Name: "conclude an abandoned launch", Given: after(requested, LaunchAbandoned{"c", "R."}), When: Conclude{}, Then: []Event{Failed{"c", "R."}}},
		{Name: "conclude with an open attempt", Given: cancelled, When: Conclude{}},
		{Name: "conclude with a machine", Given: terminating, When: Conclude{}},
		{Name: "conclude what runs", Given: running, When: Conclude{}},
		{Name: "conclude twice", Given: terminated, When: Conclude{}},
	})
}

func TestDecideObserve(t *testing.T) {
	t.Parallel()
	see := func(s Seen) Observe { return Observe{Machine: "m1", Seen: s, At: t0.Add(time.Hour)} }
	late := after(open, MachineLaunched{1, "m1", t0.Add(time.Hour)}) // the launch call was repeated until then
	outside := after(ready, StopRequested{At: t0, Outside: true})
	since, t9 := after(launched, MachineRunning{Address: "1.2.3.4", At: t0.Add(2 * time.Second), Launched: t0}), t0.Add(9*time.Minute)
	forced := after(outside, CallAccepted{CallStop, t0.Add(5 * time.Minute)})
	lost := Failed{"machine_lost", "The cloud no longer lists the machine; it was probably terminated from outside the control plane."}
	undone := func(tries int, v Verdict, reason string) Event {
		return CallRefused{Call: CallStart, Tries: tries, Verdict: v, Code: "start_undone", Reason: reason, RetryAt: t0.Add(2 * StartLag), Undone: true}
	}
	called := func(before int) []Event { // a start that the cloud accepted at t0, after it had undone this many
		given := starting
		for n := range before {
			given = after(given, CallAccepted{CallStart, t0}, undone(n+1, Again, "R."))
		}
		return after(given, CallAccepted{CallStart, t0})
	}
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "running", Given: launched, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "1.2.3.4", At: t0}, Then: []Event{MachineRunning{Address: "1.2.3.4", At: t0}}},
		{Name: "running still", Given: running, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "1.2.3.4", At: t0}},
		{Name: "another address", Given: running, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "5.6.7.8", At: t0}, Then: []Event{AddressChanged{"5.6.7.8"}}},
		{Name: "stopped and started between two looks", Given: since, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second)}, Then: []Event{MachineRunning{Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second)}}},
		{Name: "stopped and started before the second look", Given: since, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(-time.Second)}, Then: []Event{MachineRunning{Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(2 * time.Second)}}},
		{Name: "stopped and started while no process looked", Given: since, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t9, Launched: t0.Add(time.Minute)}, Then: []Event{MachineRunning{Address: "a", At: t9, Launched: t0.Add(time.Minute)}}},
		{Name: "stopped and started outside, and its stop was seen", Given: after(since, StopRequested{At: t0, Outside: true}), When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second)}, Then: []Event{MachineRunning{Address: "a", At: t9, Launched: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second)}}},
		{Name: "an old report of an earlier launch", Given: since, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "1.2.3.4", At: t9, Launched: t0.Add(-time.Minute), RanUntil: t0.Add(30 * time.Second)}},
		{Name: "stopped, with the cloud's time and our look", Given: since, When: Observe{Machine: "m1", Seen: SeenStopped, At: t9, Launched: t0, Ended: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second)}, Then: []Event{MachineStopped{RunEnded: RunEnded{t0.Add(time.Minute), t0.Add(30 * time.Second)}}}},
		{Name: "stopped, with times of an earlier run", Given: since, When: Observe{Machine: "m1", Seen: SeenStopped, At: t9, Launched: t0, Ended: t0.Add(-time.Minute), RanUntil: t0.Add(time.Second)}, Then: []Event{MachineStopped{}}},
		{Name: "stopped, after a later run that no look saw", Given: since, When: Observe{Machine: "m1", Seen: SeenStopped, At: t9, Launched: t0.Add(time.Minute), Ended: t0.Add(2 * time.Minute), RanUntil: t0.Add(30 * time.Second)}, Then: []Event{MachineStopped{RunEnded: RunEnded{RanUntil: t0.Add(30 * time.Second)}}}},
		{Name: "gone, with the cloud's time", Given: since, When: Observe{Machine: "m1", Seen: SeenGone, At: t9, Ended: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second), Existed: t0.Add(50 * time.Second)}, Then: []Event{MachineGone{RunEnded: RunEnded{t0.Add(time.Minute), t0.Add(30 * time.Second)}}, Failed{codeGone, "The machine was terminated from outside the control plane."}}},
		{Name: "gone while it was stopped", Given: stopped, When: Observe{Machine: "m1", Seen: SeenGone, At: t9, Ended: t0.Add(time.Minute), RanUntil: t0.Add(30 * time.Second), Existed: t0.Add(50 * time.Second)}, Then: []Event{MachineGone{RunEnded: RunEnded{RanUntil: t0.Add(50 * time.Second)}}, Failed{codeGone, "The machine was terminated from outside the control plane."}}},
		{Name: "running again", Given: starting, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t0}, Then: []Event{MachineRunning{Address: "a", At: t0}}},
		{Name: "started from outside", Given: stopped, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t0}, Then: []Event{MachineRunning{Address: "a", At: t0}}},
		{Name: "running while terminating", Given: after(launched, TerminationRequested{t0}), When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t0}, Then: []Event{MachineRunning{Address: "a", At: t0}}},
		{Name: "stopped", Given: stopping, When: see(SeenStopped), Then: []Event{MachineStopped{Asked: true}}},
		{Name: "stopped from outside", Given: ready, When: see(SeenStopped), Then: []Event{MachineStopped{Asked: false}}},
		{Name: "stopping from outside", Given: ready, When: see(SeenStopping), Then: []Event{StopRequested{At: t0.Add(time.Hour), Outside: true}}},
		{Name: "stopping from outside, still", Given: outside, When: see(SeenStopping)},
		{Name: "stopping, asked", Given: stopping, When: see(SeenStopping)},
		{Name: "stopping before a start takes effect", Given: starting, When: see(SeenStopping)},
		{Name: "stopping while terminating", Given: terminating, When: see(SeenStopping)},
		{Name: "stopped from outside at last", Given: outside, When: see(SeenStopped), Then: []Event{MachineStopped{Asked: false}}},
		{Name: "stopped from outside with our help", Given: forced, When: see(SeenStopped), Then: []Event{MachineStopped{Asked: false}}},
		{Name: "stopping from outside was a stale report", Given: outside, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "a", At: t0}, Then: []Event{MachineRunning{Address: "a", At: t0}}},
		{Name: "running is the stale report", Given: forced, When: Observe{Machine: "m1", Seen: SeenRunning, Address: "1.2.3.4", At: t0}},
		{Name: "stopped while launching", Given: launched, When: see(SeenStopped), Then: []Event{MachineStopped{Asked: false}}},
		{Name: "stopped still", Given: stopped, When: see(SeenStopped)},
		{Name: "stopped while terminating", Given: terminating, When: see(SeenStopped)},
		{Name: "pending", Given: launched, When: see(SeenPending)},
		{Name: "gone, asked", Given: terminating, When: see(SeenGone), Then: []Event{MachineGone{Asked: true}, Terminated{}}},
		{Name: "gone, abandoned", Given: abandoned, When: see(SeenGone), Then: []Event{MachineGone{Asked: true}, Failed{"launch_timeout", "Too slow."}}},
		{Name: "gone from outside", Given: ready, When: see(SeenGone),
			Then: []Event{MachineGone{}, Failed{"machine_gone", "The machine was terminated from outside the control plane."}}},
		{Name: "gone, the cloud says why", Given: running, When: Observe{Machine: "m1", Seen: SeenGone, Reason: "Its disk could not be made."},
			Then: []Event{MachineGone{}, Failed{"machine_gone", "Its disk could not be made."}}},
		{Name: "gone, asked, the cloud says why", Given: terminating, When: Observe{Machine: "m1", Seen: SeenGone, Reason: "Its disk could not be made."},
			Then: []Event{MachineGone{Asked: true}, Terminated{}}},
		{Name: "missing for long, but this process has looked for a minute only", Given: after(ready, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(time.Hour), MissedSince: t0.Add(59 * time.Minute)}},
		{Name: "missing, terminating", Given: after(terminating, CallAccepted{CallTerminate, t0}), When: see(SeenMissing), Then: []Event{MachineMissed{t0.Add(time.Hour)}}},
		{Name: "missing for a while, our call was taken", Given: after(terminating, CallAccepted{CallTerminate, t0}, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingGrace - 1)}},
		{Name: "missing for longer, our call was taken", Given: after(terminating, CallAccepted{CallTerminate, t0}, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingGrace + time.Second)}, Then: []Event{MachineGone{Asked: true, Missing: true}, Terminated{}}},
		{Name: "missing for longer, our call was not taken", Given: after(terminating, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingGrace + time.Second)}},
		{Name: "missing for long, our call was never taken", Given: after(terminating, MachineMissed{t0}), When: see(SeenMissing), Then: []Event{MachineGone{Asked: true, Missing: true}, Terminated{}}},
		{Name: "missing just after launch", Given: launched, When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingGrace)}},
		{Name: "missing just after launch, sure", Given: launched, When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingGrace), Sure: true}},
		{Name: "missing just after a late launch", Given: late, When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(time.Hour + MissingGrace - 1)}},
		{Name: "missing for the first time", Given: late, When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(time.Hour + MissingGrace)}, Then: []Event{MachineMissed{t0.Add(time.Hour + MissingGrace)}}},
		{Name: "missing for a while", Given: after(ready, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingFor - 1)}},
		{Name: "missing for long", Given: after(ready, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(MissingFor)}, Then: []Event{MachineGone{Missing: true}, lost}},
		{Name: "missing, an operator is sure", Given: ready, When: Observe{Machine: "m1", Seen: SeenMissing, At: t0.Add(time.Hour), Sure: true}, Then: []Event{MachineGone{Missing: true}, lost}},
		{Name: "found", Given: after(ready, MachineMissed{t0}), When: Observe{Machine: "m1", Seen: SeenRunning, Address: "1.2.3.4", At: t0}, Then: []Event{MachineFound{}}},
		{Name: "found, stopped", Given: after(ready, MachineMissed{t0}), When: see(SeenStopped), Then: []Event{MachineFound{}, MachineStopped{Asked: false}}},
		{Name: "found, on its way", Given: after(ready, MachineMissed{t0}), When: see(SeenPending), Then: []Event{MachineFound{}}},
		{Name: "missing again", Given: after(ready, MachineMissed{t0}, MachineFound{}), When: see(SeenMissing), Then: []Event{MachineMissed{t0.Add(time.Hour)}}},

		{Name: "stopped before the start call", Given: starting, When: see(SeenStopped)},
		{Name: "stopped still, just after the start call", Given: called(0), When: Observe{Machine: "m1", Seen: SeenStopped, At: t0.Add(StartLag - 1)}},
		{Name: "start undone", Given: called(0), When: Observe{Machine: "m1", Seen: SeenStopped, At: t0.Add(StartLag)}, Then: []Event{undone(1, Again, "The machine stopped again right after it started.")}},
		{Name: "start undone, the cloud says why", Given: called(0), When: Observe{Machine: "m1", Seen: SeenStopped, Reason: "Its key.", At: t0.Add(StartLag)}, Then: []Event{undone(1, Again, "Its key.")}},
		{Name: "start undone, not called again yet", Given: after(called(0), undone(1, Again, "R.")), When: see(SeenStopped)},
		{Name: "start undone for good", Given: called(2), When: Observe{Machine: "m1", Seen: SeenStopped, At: t0.Add(StartLag)}, Then: []Event{undone(3, Never, "The machine stopped again right after it started.")}},
		{Name: "another machine", Given: running, When: Observe{Machine: "m2", Seen: SeenGone, At: t0}},
		{Name: "no machine", Given: open, When: Observe{Machine: "", Seen: SeenGone, At: t0}},
		{Name: "after the end", Given: terminated, When: Observe{Machine: "", Seen: SeenGone, At: t0}},
	})
}

func TestDecideGuest(t *testing.T) {
	t.Parallel()
	enroll := Enroll{1, key, t0.Add(time.Minute)}
	enrolled := GuestEnrolled{1, key}
	other := Enroll{1, []byte("another key"), t0.Add(time.Minute)}
	late := after(open, MachineLaunched{1, "m1", t0.Add(2 * time.Hour)})
	reach := func(boot string, p Phase) ReachPhase { return ReachPhase{boot, p, "detail", t0} }
	reached := func(boot string, p Phase) []Event { return []Event{PhaseReached{boot, p, "detail", t0}} }
	report := func(guest string, at time.Time) ReportVersions {
		return ReportVersions{"b1", map[string]string{"guest": guest}, at}
	}
	reports := func(guest string, at time.Time) []Event { return []Event{VersionsReported(report(guest, at))} }
	var many []Event
	for i := range MaxReports {
		many = after(many, reports(fmt.Sprint(i), t0)...)
	}
	boots := func(n int, p Phase) []Event { // each of its own boot
		list := running
		for i := range n {
			list = after(list, PhaseReached{fmt.Sprint("x", i), p, "", t0})
		}
		return list
	}
	at := func(boot string, p Phase, at time.Time) ReachPhase { return ReachPhase{boot, p, "", at} }
	decider.Run(t, []domaintest.Case[Event, Command]{
		{Name: "enrol", Given: launched, When: enroll, Then: []Event{enrolled}},
		{Name: "enrol before the launch call returned", Given: open, When: enroll, Then: []Event{enrolled}},
		{Name: "enrol twice", Given: after(launched, enrolled), When: enroll},
		{Name: "enrol twice, late", Given: after(launched, enrolled), When: Enroll{1, key, t0.Add(time.Hour * 100)}},
		{Name: "enrol another key", Given: after(launched, enrolled), When: other, Err: ErrEnrolment},
		{Name: "enrol for a new attempt", Given: after(open, enrolled, CallRefused{Call: CallLaunch, Attempt: 1, Verdict: Another}, LaunchAttempted{2, t0, spec}),
			When: Enroll{2, []byte("k2"), t0}, Then: []Event{GuestEnrolled{2, []byte("k2")}}},
		{Name: "enrol at the last moment", Given: launched, When: Enroll{1, key, t0.Add(time.Second + EnrolWithin)}, Then: []Event{enrolled}},
		{Name: "enrol too late", Given: launched, When: Enroll{1, key, t0.Add(time.Second + EnrolWithin + 1)}, Err: ErrEnrolment},
		{Name: "enrol too late, open", Given: open, When: Enroll{1, key, t0.Add(EnrolWithin + 1)}, Err: ErrEnrolment},
		{Name: "enrol after a late launch", Given: late, When: Enroll{1, key, t0.Add(2*time.Hour + EnrolWithin)}, Then: []Event{enrolled}},
		{Name: "enrol for an old attempt", Given: launched, When: Enroll{0, key, t0}, Err: ErrEnrolment},
		{Name: "enrol for a coming attempt", Given: launched, When: Enroll{2, key, t0}, Err: ErrEnrolment},
		{Name: "enrol before any attempt", Given: requested, When: Enroll{0, key, t0}, Err: ErrEnrolment},
		{Name: "enrol after the end", Given: terminated, When: enroll, Err: ErrEnrolment},

		{Name: "booting", Given: open, When: reach("b1", PhaseBooting), Then: reached("b1", PhaseBooting)},
		{Name: "forward", Given: running, When: reach("b1", PhaseDesktop), Then: reached("b1", PhaseDesktop)},
		{Name: "the same again", Given: ready, When: reach("b1", PhaseReady)},
		{Name: "backward", Given: ready, When: reach("b1", PhaseDesktop)},
		{Name: "backward in a new boot", Given: ready, When: reach("b2", PhaseBooting), Then: reached("b2", PhaseBooting)},
		{Name: "not a guest's phase", Given: running, When: reach("b1", PhaseAllocating)},
		{Name: "no phase", Given: running, When: reach("b1", "party")},
		{Name: "starting", Given: starting, When: reach("b2", PhaseReady), Then: reached("b2", PhaseReady)},
		{Name: "a late word while stopping", Given: stopping, When: reach("b2", PhaseReady)},
		{Name: "a late word when stopped", Given: stopped, When: reach("b1", PhaseReady)},
		{Name: "a late word while terminating", Given: terminating, When: reach("b2", PhaseReady)},
		{Name: "a late word after the end", Given: failed, When: reach("b2", PhaseReady)},

		{Name: "the last phase with room", Given: boots(MaxPhases-1, PhaseBooting), When: at("b", PhaseBooting, t0), Then: []Event{PhaseReached{"b", PhaseBooting, "", t0}}},
		{Name: "too many boots", Given: boots(MaxPhases, PhaseBooting), When: at("b", PhaseBooting, t0), Err: ErrPhases},
		{Name: "too many boots, and the same phase again", Given: boots(MaxPhases, PhaseBooting), When: at(fmt.Sprint("x", MaxPhases-1), PhaseBooting, t0)},
		{Name: "ready after too many boots", Given: boots(MaxPhases, PhaseBooting), When: at("b", PhaseReady, t0), Then: []Event{PhaseReached{"b", PhaseReady, "", t0}}},
		{Name: "ready too often", Given: boots(MaxPhases+ReadyPhases, PhaseReady), When: at("b", PhaseReady, t0), Err: ErrPhases},
		{Name: "room again", Given: boots(MaxPhases+ReadyPhases, PhaseReady), When: at("b", PhaseReady, t0.Add(PhaseEvery)), Then: []Event{PhaseReached{"b", PhaseReady, "", t0.Add(PhaseEvery)}}},
		{Name: "more events than there is room for are no longer debt", Given: boots(1000, PhaseReady), When: at("b", PhaseReady, t0.Add(PhaseEvery)), Then: []Event{PhaseReached{"b", PhaseReady, "", t0.Add(PhaseEvery)}}},
		{Name: "a clock that went back a day", Given: boots(MaxPhases, PhaseReady), When: at("b", PhaseReady, t0.AddDate(0, 0, -1)), Then: []Event{PhaseReached{"b", PhaseReady, "", t0.AddDate(0, 0, -1)}}},

		{Name: "versions", Given: open, When: report("1", t0), Then: reports("1", t0)},
		{Name: "the same versions", Given: after(running, reports("1", t0)...), When: ReportVersions{"b2", map[string]string{"guest": "1"}, t0}},
		{Name: "other versions", Given: after(running, reports("1", t0)...), When: report("2", t0), Then: reports("2", t0)},
		{Name: "no versions", Given: running, When: ReportVersions{Boot: "b1", At: t0}},
		{Name: "too many versions", Given: after(running, reports("1", t0)...), When: ReportVersions{Boot: "b1", At: t0}},
		{Name: "the last versions in time", Given: after(running, many[:MaxReports-1]...), When: report("new", t0), Then: reports("new", t0)},
		{Name: "too many versions", Given: after(running, many...), When: report("new", t0.Add(ReportsWithin-1))},
		{Name: "too many versions of another boot", Given: after(running, many...), When: ReportVersions{"b9", map[string]string{"guest": "new"}, t0}},
		{Name: "too many versions while the clock went back", Given: after(running, many...), When: report("new", t0.Add(-time.Hour))},
		{Name: "versions when there is room again", Given: after(running, many...), When: report("new", t0.Add(ReportsWithin)), Then: reports("new", t0.Add(ReportsWithin))},
		{Name: "versions while stopping", Given: stopping, When: report("1", t0)},
		{Name: "versions while terminating", Given: terminating, When: report("1", t0)},
		{Name: "versions after the end", Given: terminated, When: report("1", t0)},
	})
}

func TestEvolve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		events  []Event
		status  Status
		phase   Phase
		machine string
	}{
		{"requested", requested, Launching, PhaseRequested, ""},
		{"open", open, Launching, PhaseAllocating, ""},
		{"launched", launched, Launching, PhaseBooting, "m1"},
		{"the guest spoke first", after(open, PhaseReached{"b", PhaseDesktop, "", t0}, MachineLaunched{1, "m1", t0}), Launching, PhaseDesktop, "m1"},
		{"running", running, Running, PhaseBooting, "m1"},
		{"ready", ready, Running, PhaseReady, "m1"},
		{"stopping", stopping, Stopping, PhaseReady, "m1"},
		{"stopped", stopped, Stopped, PhaseBooting, "m1"},
		{"starting", starting, Starting, PhaseBooting, "m1"},
		{"start refused for good", after(starting, CallRefused{Call: CallStart, Verdict: Never}), Stopped, PhaseBooting, "m1"},
		{"terminating", terminating, Terminating, PhaseReady, "m1"},
		{"stopped while terminating", after(terminating, MachineStopped{Asked: false}), Terminating, PhaseBooting, "m1"},
		{"running while terminating", after(launched, TerminationRequested{t0}, MachineRunning{Address: "a", At: t0}), Terminating, PhaseBooting, "m1"},
		{"taken over", takenOver, Running, PhaseBooting, "i-1"},
		{"taken over stopped", []Event{TakenOver{Account: "acc", Machine: "i-1", Stopped: true}}, Stopped, PhaseBooting, "i-1"},
		{"terminated", terminated, StatusTerminated, PhaseReady, ""},
		{"failed", failed, StatusFailed, PhaseBooting, ""},
	} {
		s := decider.Fold(c.events...)
		if s.Status != c.status || s.Phase != c.phase || s.Machine != c.machine {
			t.Errorf("%s: got %s %s %q, want %s %s %q", c.name, s.Status, s.Phase, s.Machine, c.status, c.phase, c.machine)
		}
		if s.Final() != (c.status == StatusTerminated || c.status == StatusFailed) || s.Ready() != (c.name == "ready") {
			t.Errorf("got %s: final %v, ready %v, want s.Final() == %v and s.Ready() == %v", c.name, s.Final(), s.Ready(), (c.status == StatusTerminated || c.status == StatusFailed), (c.name == "ready"))
		}
	}
}

// A new call begins without counted refusals and without a wait.
func TestEvolveSettles(t *testing.T) {
	t.Parallel()
	refused := CallRefused{Call: CallStop, Tries: 7, Verdict: Again, Code: "c", Reason: "R.", RetryAt: t0.Add(time.Hour)}
	for name, e := range map[string]Event{
		"accepted":   CallAccepted{CallStop, t0},
		"stopped":    MachineStopped{Asked: true},
		"terminated": TerminationRequested{t0},
	} {
		s := decider.Fold(after(stopping, refused, e)...)
		if s.Tries != 0 || !s.RetryAt.IsZero() {
			t.Errorf("%s: got %d tries, retry at %v, want s.Tries == 0 and s.RetryAt.IsZero()", name, s.Tries, s.RetryAt)
		}
	}
	if s := decider.Fold(after(ready, PhaseReached{"b2", PhaseBooting, "", t0.Add(time.Hour)})...); !s.Since.Equal(t0.Add(time.Hour)) || s.Stalled {
		t.Errorf("a new boot: got since %v, stalled %v, want s.Since.Equal(t0.Add(time.Hour)) and s.Stalled false", s.Since, s.Stalled)
	}
	if s := decider.Fold(launched...); !s.Since.Equal(t0.Add(time.Second)) {
		t.Errorf("got launched since %v, want s.Since.Equal(t0.Add(time.Second))", s.Since)
	}
}

func TestRank(t *testing.T) {
	t.Parallel()
	for i, p := range Phases {
		if p.Rank() != i {
			t.Errorf("%s: got rank %d, want %v", p, p.Rank(), i)
		}
	}
	if Phase("party").Rank() != -1 {
		t.Errorf("the rank of an unknown phase: got %v, want -1", Phase("party").Rank())
	}
}

// An operator's termination is final in any state, and names the account.
func TestTerminatedByOperator(t *testing.T) {
	t.Parallel()
	word := Terminated{ByOperator, "01JACCOUNT"}
	for name, given := range map[string][]Event{
		"unreadable": nil,
		"launching":  {requested[0], LaunchAttempted{1, t0, spec}},
		"running":    {requested[0], LaunchAttempted{1, t0, spec}, MachineLaunched{1, "i-1", t0}, MachineRunning{Address: "203.0.113.9", At: t0}},
	} {
		s := decider.Fold(append(given, word)...)
		if !Closed(s) || s.Status != StatusTerminated || s.Open || s.Machine != "" || s.Account == "" {
			t.Errorf("%s: got %+v, want Closed(s), s.Status == %v, s.Open false, s.Machine empty and s.Account not empty", name, s, StatusTerminated)
		}
		if events, err := Decide(s, Launched{Attempt: 1, Machine: "i-1", At: t0}); len(events) > 0 || !errors.Is(err, ErrSuperseded) {
			t.Errorf("%s: got %v, %v for a late machine, want no events and error %v, so that it is terminated", name, events, err, ErrSuperseded)
		}
		if events, err := Decide(s, Terminate{t0}); len(events) > 0 || err != nil {
			t.Errorf("%s: got %v, %v for another Terminate, want no events and no error", name, events, err)
		}
	}
	if Closed(decider.Fold(Terminated{})) {
		t.Errorf("got a closed state by the saga's own Terminated, want an open one: it does not name the account")
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	full := spec
	full.Subnet, full.SecurityGroup, full.KeyPair, full.Tags = "subnet-1", "sg-1", "kp", map[string]string{"b": "2", "a": "<1>"}
	full.RootDevice, full.VolumeGiB = "/dev/sda1", 30
	domaintest.Golden[Event](t, Codec,
		requested[0], TakenOver{"01JACCOUNT", []byte("sealed"), "eu-central-1", "i-0abc", "203.0.113.9", true, t0, t0}, Renamed{[]byte("sealed")}, LaunchAttempted{2, t0, full}, MachineLaunched{2, "i-0abc", t0},
		CallRefused{CallLaunch, 2, 3, Another, "InsufficientInstanceCapacity", "No capacity here.", t0, t0, true}, CallAccepted{CallStop, t0},
		LaunchAbandoned{"no_capacity", "No machine could be had."}, MachineRunning{"203.0.113.9", t0, t0, t0}, AddressChanged{"203.0.113.10"},
		GuestEnrolled{2, key}, EnrolmentEnded{2}, EnrolmentReopened{2, t0}, PhaseReached{"boot-1", PhaseDesktop, "XFCE", t0},
		VersionsReported{"boot-1", map[string]string{"os": "debian 13", "guest": "1.2.3"}, t0}, BootStalled{PhaseAgent, "Slow."},
		StopRequested{t0, true, CauseIdle, "No input.", t0, idle.Wake, t0}, StartRequested{t0, CauseJob, "A job is due."}, TerminationRequested{t0}, MachineStopped{true, RunEnded{t0, t0}}, MachineMissed{t0}, MachineFound{}, MachineGone{true, true, RunEnded{t0, t0}}, Terminated{ByOperator, "01JACCOUNT"}, Failed{"machine_gone", "It was terminated."},
		IdleWarned{t0, t0, CauseIdle, "No input."}, IdleExtended{t0, t0}, IdleWithdrawn{t0}, IdlePolicySet{&idle.Policy{After: 3600, Warn: 300, Ceiling: 86400, KeepUntil: t0, Jobs: idle.Wake}},
		ModelCostReported{"meter-1", 1_250_000, 250_000, t0})
}

func TestRefusalsAreDomainErrors(t *testing.T) {
	t.Parallel()
	codes := map[string]bool{}
	for _, e := range []*domain.Error{ErrNotFound, ErrExists, ErrGone, ErrStillStarting, ErrStillStopping, ErrEnrolment, ErrSuperseded} {
		if e.Kind == 0 || e.Code == "" || e.Error() == "" || codes[e.Code] {
			t.Errorf("got %+v, want e.Kind != 0, e.Code not empty, e.Error() not empty and codes[e.Code] false", e)
		}
		codes[e.Code] = true
	}
}

// A machine that boots repeatedly is shown as ready after each boot: eight times with all its phases, and afterwards at
// least with the last one, every six minutes without limit.
func TestRebootLoopBecomesReady(t *testing.T) {
	t.Parallel()
	s := decider.Fold(running...)
	events := 0
	for boot := range 200 {
		at := t0.Add(time.Duration(boot) * 6 * time.Minute)
		for _, p := range Phases[PhaseBooting.Rank():] {
			said, err := Decide(s, ReachPhase{fmt.Sprint(boot), p, "", at})
			if err != nil && !errors.Is(err, ErrPhases) {
				t.Fatalf("got %v, want no error or error %v", err, ErrPhases)
			}
			for _, e := range said {
				s = Evolve(s, e)
				events++
			}
		}
		if !s.Ready() || s.Boot != fmt.Sprint(boot) {
			t.Fatalf("got phase %s of boot %s, want %s of boot %d", s.Phase, s.Boot, PhaseReady, boot)
		}
	}
	if most := MaxPhases + ReadyPhases + 200*3; events > most {
		t.Errorf("got %d events, want at most %d", events, most)
	}
}
