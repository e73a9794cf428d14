package instance

import (
	"cmp"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// Status is where an instance is in its life, as the user sees it. The last two are final. Their names
// have a prefix because two events are called Terminated and Failed.
type Status string

const (
	Launching        Status = "launching"
	Running          Status = "running"
	Stopping         Status = "stopping"
	Stopped          Status = "stopped"
	Starting         Status = "starting"
	Terminating      Status = "terminating"
	StatusTerminated Status = "terminated"
	StatusFailed     Status = "failed"
)

// Phase is how far a boot has come. The phases follow each other in the order below.
type Phase string

const (
	PhaseRequested  Phase = "requested"
	PhaseAllocating Phase = "allocating"
	PhaseBooting    Phase = "booting"
	PhaseInstalling Phase = "installing"
	PhaseDesktop    Phase = "desktop"
	PhaseAgent      Phase = "agent"
	PhaseReady      Phase = "ready"
)

// Phases lists the phases in order.
var Phases = [...]Phase{PhaseRequested, PhaseAllocating, PhaseBooting, PhaseInstalling, PhaseDesktop, PhaseAgent, PhaseReady}

// Rank returns the phase's place in the order, or -1.
func (p Phase) Rank() int {
	for i, q := range Phases {
		if p == q {
			return i
		}
	}
	return -1
}

// Original is the type of a machine that was taken over: its size is not known, and it has no guest.
const Original = "original"

// State is what decisions read of an instance.
type State struct {
	Account string // "" while the stream is empty
	Type    string
	Region  string
	Status  Status
	Phase   Phase
	Boot    string // id of the boot that the phase belongs to

	Attempts   int       // launch attempts so far
	Spec       Spec      // of the latest attempt
	TriedAt    time.Time // when the latest attempt was recorded
	Open       bool      // the latest attempt has no outcome yet: a machine may exist
	Unsure     time.Time // when a call of the latest attempt last ended with an unknown outcome; zero: never
	Machine    string    // the machine's id; "": none
	LaunchedAt time.Time // when the cloud answered its launch call
	Running    bool      // the cloud last reported it running
	Address    string
	PublicKey  []byte    // of the enrolled guest
	Enrolled   int       // attempt that the guest enrolled with
	NoEnrol    int       // attempt whose token an EnrolmentEnded made useless; 0: none
	ReopenedAt time.Time // when an operator accepted that token again

	Abandoned *LaunchAbandoned // set once the launch is given up
	Tries     int              // refusals of the current call in a row
	Refusal   string           // reason of the latest one, a sentence
	Code      string           // its code
	RetryAt   time.Time        // earliest time of the next try; zero: immediately
	Called    time.Time        // when the cloud accepted the current call; zero: not yet
	Since     time.Time        // when the current request, or boot, began
	Stalled   bool             // BootStalled was recorded for this boot
	Outside   bool             // the current stop was requested outside the control plane
	Undone    int              // starts in a row that the cloud accepted and undid
	Missed    time.Time        // since when the cloud does not list the machine; zero: it does
	Lost      string           // the machine that was given up because the cloud did not list it
	Forced    bool             // an operator ended it, perhaps after events that cannot be read

	PhaseDebt    time.Time         // when the phases accepted so far are paid off, at one each PhaseEvery
	Versions     map[string]string // what the machine runs, by name
	Reports      int               // of versions, since ReportsSince
	ReportsSince time.Time         // see ReportsWithin

	Idle     *idle.Policy // its own policy; nil: the account's
	Warned   *IdleWarned  // the warning that stands; nil: none
	Asked    time.Time    // when its user last asked for more time
	Extended time.Time    // its user keeps it running until then
	WakeAt   time.Time    // while it is stopped: when it is started for a job; zero: not
	RunAt    time.Time    // when the current run was first seen
	Launched time.Time    // when the cloud began the current run, by its own clock; zero: unknown
	Meter    string       // of the latest ModelCostReported
	Metered  int64        // its total
}

// Exists reports whether the instance was ever requested.
func (s State) Exists() bool { return s.Account != "" }

// Guestless reports whether its machine was taken over, and so never reports how far it is.
func (s State) Guestless() bool { return s.Type == Original }

// Final reports whether the instance has ended.
func (s State) Final() bool { return s.Status == StatusTerminated || s.Status == StatusFailed }

// Closed reports whether the state is complete although only the stream's last event was read.
func Closed(s State) bool { return s.Forced && s.Exists() }

// Ready reports whether its desktop and agent can be used.
func (s State) Ready() bool { return s.Status == Running && s.Phase == PhaseReady }

// Evolve folds one event into the state. It never refuses: the event has happened.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Requested:
		return State{Account: e.Account, Type: e.Type, Region: e.Region, Status: Launching, Phase: PhaseRequested}
	case TakenOver:
		s = State{Account: e.Account, Type: Original, Region: e.Region, Status: Running, Phase: PhaseBooting, Spec: Spec{Region: e.Region},
			Machine: e.Machine, LaunchedAt: e.At, Since: e.At, Running: !e.Stopped, Address: e.Address, RunAt: e.At}
		if e.Stopped {
			s.Status, s.Address = Stopped, ""
		}
		return s
	case Renamed:
	case LaunchAttempted:
		s.Attempts, s.Spec, s.TriedAt, s.Open, s.Unsure = e.Attempt, e.Spec, e.At, true, time.Time{}
		s.Phase = PhaseAllocating
		s = s.settled(e.At)
	case MachineLaunched:
		s.Machine, s.LaunchedAt, s.Open = e.Machine, e.At, false
		if s.Phase.Rank() < PhaseBooting.Rank() { // the guest may have reported before the launch call returned
			s.Phase = PhaseBooting
		}
		s = s.settled(e.At)
	case CallRefused:
		s.Tries, s.RetryAt, s.Code, s.Refusal = e.Tries, e.RetryAt, e.Code, e.Reason
		if e.Call == CallLaunch && e.Verdict != Again {
			s.Open = false
		}
		if e.Unsure.After(s.Unsure) {
			s.Unsure = e.Unsure
		}
		if e.Undone {
			s.Undone, s.Called = s.Undone+1, time.Time{}
		}
		if e.Call == CallStart && e.Verdict == Never {
			s.Status = Stopped
			s = s.settled(s.Since)
		}
	case CallAccepted:
		s.Called, s.Tries, s.RetryAt = e.At, 0, time.Time{}
	case LaunchAbandoned:
		s.Abandoned = &e
		s.Status = Terminating
		s = s.settled(s.Since)
	case MachineRunning:
		if !s.Running || !e.RanUntil.IsZero() || s.restarted(e.Launched) {
			s.RunAt, s.Warned, s.Asked, s.Extended = e.At, nil, time.Time{}, time.Time{}
		}
		s.Running, s.Address, s.Launched, s.WakeAt = true, e.Address, e.Launched, time.Time{}
		if s.Status == Launching || s.Status == Starting || s.Status == Stopped || s.Status == Stopping {
			s.Status = Running
			s = s.settled(e.At)
		}
	case AddressChanged:
		s.Address = e.Address
	case GuestEnrolled:
		s.PublicKey, s.Enrolled = e.PublicKey, e.Attempt
	case EnrolmentEnded:
		s.NoEnrol = e.Attempt
	case EnrolmentReopened:
		s.NoEnrol, s.ReopenedAt = 0, e.At
	case PhaseReached:
		if e.Boot != s.Boot {
			s.Stalled = false
			if s.Status == Running { // it was restarted from inside
				s.Since = e.At
			}
		}
		s.Boot, s.Phase = e.Boot, e.Phase
		s.PhaseDebt = domain.Earlier(domain.Later(s.PhaseDebt, e.At).Add(PhaseEvery), e.At.Add(maxPhaseDebt))
	case VersionsReported:
		if e.At.Sub(s.ReportsSince) >= ReportsWithin {
			s.Reports, s.ReportsSince = 0, e.At
		}
		s.Versions = e.Versions
		s.Reports++
	case BootStalled:
		s.Stalled = true
	case StopRequested:
		s.Status, s.Warned, s.WakeAt = Stopping, nil, e.WakeAt
		s = s.settled(e.At)
		if e.Outside { // the call was made outside; if it has no effect the saga makes its own
			s.Outside, s.Called = true, e.At
		}
	case StartRequested:
		s.Status, s.WakeAt = Starting, time.Time{}
		s = s.settled(e.At)
	case TerminationRequested:
		s.Status = Terminating
		s = s.settled(e.At)
	case MachineStopped:
		s.Running, s.Address, s.Phase, s.Warned = false, "", PhaseBooting, nil
		if s.Status != Terminating {
			s.Status = Stopped
			s = s.settled(s.Since)
		}
	case MachineMissed:
		s.Missed = e.At
	case MachineFound:
		s.Missed = time.Time{}
	case MachineGone:
		if e.Missing && !e.Asked {
			s.Lost = s.Machine
		}
		s.Machine, s.Running, s.Address, s.Missed = "", false, "", time.Time{}
		s = s.settled(s.Since)
	case Terminated:
		s.Status, s.Account, s.Forced = StatusTerminated, cmp.Or(s.Account, e.Account), e.By == ByOperator
		s.Open, s.Machine, s.Running, s.Address, s.Missed = false, "", false, "", time.Time{} // an operator does not wait for the machine
	case Failed:
		s.Status = StatusFailed
	case IdleWarned:
		s.Warned = &e
	case IdleExtended:
		s.Warned, s.Asked, s.Extended = nil, e.At, e.Until
	case IdleWithdrawn:
		s.Warned = nil
	case IdlePolicySet:
		s.Idle = e.Policy
	case ModelCostReported:
		s.Meter, s.Metered = e.Meter, e.Total
	}
	return s
}

// restarted reports whether a launch time is of a later run than the known one.
func (s State) restarted(launched time.Time) bool {
	return !s.Launched.IsZero() && launched.After(s.Launched)
}

// Up reports whether the guest's reports count. Those of a machine that is stopping or terminating are late.
func (s State) Up() bool {
	return s.Status == Launching || s.Status == Starting || s.Status == Running
}

// launch returns when the latest attempt was answered or, while it is open, recorded; or when its enrolment was reopened.
func (s State) launch() time.Time {
	if s.Open {
		return domain.Later(s.TriedAt, s.ReopenedAt)
	}
	return domain.Later(s.LaunchedAt, s.ReopenedAt)
}

// Awaits reports whether a machine of the latest attempt exists, or may exist, whose guest has not enrolled.
func (s State) Awaits() bool {
	return !s.Final() && s.Attempts > 0 && s.Enrolled != s.Attempts && (s.Open || s.Machine != "")
}

// settled clears the results of the previous call: a new one begins.
func (s State) settled(since time.Time) State {
	s.Tries, s.RetryAt, s.Called, s.Since, s.Stalled, s.Outside, s.Undone = 0, time.Time{}, time.Time{}, since, false, false, 0
	return s
}
