package instance

import (
	"cmp"
	"time"
)

// Status is what the user sees of an instance's life.
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

// Phase tells how far a boot is; the phases follow each other in the order below.
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

// Phases lists them in order.
var Phases = [...]Phase{PhaseRequested, PhaseAllocating, PhaseBooting, PhaseInstalling, PhaseDesktop, PhaseAgent, PhaseReady}

// Rank is the phase's place in the order, or -1.
func (p Phase) Rank() int {
	for i, q := range Phases {
		if p == q {
			return i
		}
	}
	return -1
}

// State is what decisions read of an instance.
type State struct {
	Account string // "" while the stream is empty
	Type    string
	Region  string
	Status  Status
	Phase   Phase
	Boot    string // boot id the phase belongs to

	Attempts   int       // launches attempted
	Spec       Spec      // of the latest attempt
	TriedAt    time.Time // when the latest attempt was written
	Open       bool      // the latest attempt has no outcome yet: a machine may exist
	Unsure     time.Time // when a call of the latest attempt last ended unsure; zero: never
	Machine    string    // the machine's id while there is one
	LaunchedAt time.Time // when the cloud's answer to its launch came
	Running    bool      // the cloud last reported it running
	Address    string
	PublicKey  []byte // of the enrolled guest
	Enrolled   int    // attempt the guest enrolled with

	Abandoned *LaunchAbandoned // set once the launch was given up
	Tries     int              // refusals of the present call in a row
	Refusal   string           // reason of the latest one, a sentence
	Code      string           // its code
	RetryAt   time.Time        // not before; zero: at once
	Called    time.Time        // when the cloud took the present call; zero: not yet
	Since     time.Time        // when the present wish, or boot, began
	Stalled   bool             // BootStalled was said for this boot
	Outside   bool             // the present stop was somebody else's wish
	Undone    int              // starts in a row that the cloud took and undid
	Missed    time.Time        // since when the cloud does not know the machine; zero: it does
	Lost      string           // the machine that was given up because the cloud did not know it
	Forced    bool             // an operator ended it, perhaps behind events that cannot be read

	PhaseDebt    time.Time         // when the phases taken so far are paid for, at one each PhaseEvery
	Versions     map[string]string // what the machine runs, by name
	Reports      int               // of versions since ReportsSince
	ReportsSince time.Time         // see ReportsWithin
}

// Exists tells whether the instance was ever requested.
func (s State) Exists() bool { return s.Account != "" }

// Final tells whether nothing can happen to it any more.
func (s State) Final() bool { return s.Status == StatusTerminated || s.Status == StatusFailed }

// Closed tells whether the state is the whole truth although only the stream's last event was read.
func Closed(s State) bool { return s.Forced && s.Exists() }

// Ready tells whether its desktop and agent can be used.
func (s State) Ready() bool { return s.Status == Running && s.Phase == PhaseReady }

// Evolve folds one event into the state. It never refuses: the event has happened.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Requested:
		return State{Account: e.Account, Type: e.Type, Region: e.Region, Status: Launching, Phase: PhaseRequested}
	case Renamed:
	case LaunchAttempted:
		s.Attempts, s.Spec, s.TriedAt, s.Open, s.Unsure = e.Attempt, e.Spec, e.At, true, time.Time{}
		s.Phase = PhaseAllocating
		s = s.settled(e.At)
	case MachineLaunched:
		s.Machine, s.LaunchedAt, s.Open = e.Machine, e.At, false
		if s.Phase.Rank() < PhaseBooting.Rank() { // the guest may have spoken before the launch call returned
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
		s.Running, s.Address = true, e.Address
		if s.Status == Launching || s.Status == Starting || s.Status == Stopped || s.Status == Stopping {
			s.Status = Running
			s = s.settled(e.At)
		}
	case AddressChanged:
		s.Address = e.Address
	case GuestEnrolled:
		s.PublicKey, s.Enrolled = e.PublicKey, e.Attempt
	case PhaseReached:
		if e.Boot != s.Boot {
			s.Stalled = false
			if s.Status == Running { // it was restarted from within
				s.Since = e.At
			}
		}
		s.Boot, s.Phase = e.Boot, e.Phase
		s.PhaseDebt = earlier(later(s.PhaseDebt, e.At).Add(PhaseEvery), e.At.Add(maxPhaseDebt))
	case VersionsReported:
		if e.At.Sub(s.ReportsSince) >= ReportsWithin {
			s.Reports, s.ReportsSince = 0, e.At
		}
		s.Versions = e.Versions
		s.Reports++
	case BootStalled:
		s.Stalled = true
	case StopRequested:
		s.Status = Stopping
		s = s.settled(e.At)
		if e.Outside { // whoever it was has made the call; where it has no effect ours follows
			s.Outside, s.Called = true, e.At
		}
	case StartRequested:
		s.Status = Starting
		s = s.settled(e.At)
	case TerminationRequested:
		s.Status = Terminating
		s = s.settled(e.At)
	case MachineStopped:
		s.Running, s.Address, s.Phase = false, "", PhaseBooting
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
		s.Open, s.Machine, s.Running, s.Address, s.Missed = false, "", false, "", time.Time{} // an operator does not wait for them
	case Failed:
		s.Status = StatusFailed
	}
	return s
}

// Up tells whether the machine's word counts; that of one that is going down comes late.
func (s State) Up() bool {
	return s.Status == Launching || s.Status == Starting || s.Status == Running
}

// launch is when the latest attempt had its outcome, or was written while it has none.
func (s State) launch() time.Time {
	if s.Open {
		return s.TriedAt
	}
	return s.LaunchedAt
}

// settled forgets the refusals of the call before: a new one begins.
func (s State) settled(since time.Time) State {
	s.Tries, s.RetryAt, s.Called, s.Since, s.Stalled, s.Outside, s.Undone = 0, time.Time{}, time.Time{}, since, false, false, 0
	return s
}
