// Package instance decides about one cloud desktop, from the user's request until its machine is known to be gone. It
// makes no calls to the cloud: package provisioning reads the state and returns the call that is due.
//
// The one thing to know: an instance has at most one machine. Only Terminated and Failed, which are final, say that no
// machine is left.
package instance

import (
	"time"

	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// Event is a fact about one instance. Its implementations are in this file.
type Event interface{ event() }

// Spec is a complete, frozen launch request: repeated, it is the same request byte for byte. UserData has a placeholder
// for the enrolment token, which is derived.
type Spec struct {
	ClientToken   string            `json:"client_token"`
	Image         string            `json:"image"`
	Type          string            `json:"type"`
	Region        string            `json:"region"`
	Subnet        string            `json:"subnet,omitempty"`
	SecurityGroup string            `json:"security_group,omitempty"`
	KeyPair       string            `json:"key_pair,omitempty"`
	RootDevice    string            `json:"root_device,omitempty"` // the image's name for its disk
	VolumeGiB     int               `json:"volume_gib,omitempty"`  // size of that disk
	UserData      string            `json:"user_data"`
	TokenKey      string            `json:"token_key"` // id of the key from which the enrolment token is derived
	Tags          map[string]string `json:"tags,omitempty"`
}

// Call names a call to the cloud.
type Call string

const (
	CallLaunch    Call = "launch"
	CallStart     Call = "start"
	CallStop      Call = "stop"
	CallTerminate Call = "terminate"
)

// ByOperator is Terminated.By of an event that the saga did not write.
const ByOperator = "operator"

// Verdict is what follows a refused call.
type Verdict string

const (
	Again   Verdict = "again"   // the same call, later
	Another Verdict = "another" // a new attempt, elsewhere
	Never   Verdict = "never"   // no retry can help
)

type (
	// Requested opens the stream: a user requested a desktop.
	Requested struct {
		Account string `json:"account"`
		Name    []byte `json:"name"` // sealed
		Type    string `json:"instance_type"`
		Region  string `json:"region"`
	}
	// TakenOver opens the stream of an instance whose machine the control plane did not launch: an operator imported it. It
	// has no guest, so there is no screen and no chat.
	TakenOver struct {
		Account string    `json:"account"`
		Name    []byte    `json:"name"` // sealed
		Region  string    `json:"region"`
		Machine string    `json:"machine"` // the cloud's id
		Address string    `json:"address,omitempty"`
		Stopped bool      `json:"stopped,omitempty"` // it was not running when it was taken over
		At      time.Time `json:"at"`
		// CreatedAt is when the other control plane made it.
		CreatedAt time.Time `json:"created_at"`
	}
	// Renamed replaces the instance's name.
	Renamed struct {
		Name []byte `json:"name"` // sealed
	}
	// LaunchAttempted is recorded before the launch call that it describes.
	LaunchAttempted struct {
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
		Spec    Spec      `json:"spec"`
	}
	// MachineLaunched records that the cloud accepted the attempt. From now on there is a machine.
	MachineLaunched struct {
		Attempt int       `json:"attempt"`
		Machine string    `json:"machine"` // the cloud's id
		At      time.Time `json:"at"`      // when it answered, which may be long after the attempt was recorded
	}
	// CallRefused records that a call failed, in the cloud or on the way to it.
	CallRefused struct {
		Call    Call      `json:"call"`
		Attempt int       `json:"attempt,omitempty"` // of a launch
		Tries   int       `json:"tries"`             // in a row, this one included
		Verdict Verdict   `json:"verdict"`
		Code    string    `json:"code"`
		Reason  string    `json:"reason"`
		RetryAt time.Time `json:"retry_at"`
		// Unsure is when a launch call ended that may have taken effect, or may do so later. Zero: it had no effect.
		Unsure time.Time `json:"unsure,omitzero"`
		// Undone means that the cloud accepted the call, a start, but its effect did not last.
		Undone bool `json:"undone,omitempty"`
	}
	// CallAccepted records that the cloud accepted a start, stop or terminate call; its effect is not visible yet.
	CallAccepted struct {
		Call Call      `json:"call"`
		At   time.Time `json:"at"`
	}
	// LaunchAbandoned gives the launch up. A machine that may exist is terminated before the instance ends.
	LaunchAbandoned struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
	// MachineRunning records that the cloud reports the machine running, at this address. While it was known to run, it means
	// that the machine was stopped and started again between two looks.
	MachineRunning struct {
		Address string    `json:"address,omitempty"`
		At      time.Time `json:"at"`
		// Launched is when the cloud began the launch or start of this run, by its own clock; zero: unknown.
		Launched time.Time `json:"launched,omitzero"`
		// RanUntil is the last look that showed the run before this one, if it ended between two looks.
		RanUntil time.Time `json:"ran_until,omitzero"`
	}
	// AddressChanged records another public address of the machine.
	AddressChanged struct {
		Address string `json:"address"`
	}
	// GuestEnrolled binds the machine's own key to the instance.
	GuestEnrolled struct {
		Attempt   int    `json:"attempt"`
		PublicKey []byte `json:"public_key"` // Ed25519, made on the machine
	}
	// EnrolmentEnded makes the token of an attempt whose guest has not enrolled useless: the log was restored from a
	// backup, and the token may have been used since. EnrolmentReopened accepts it again, for an operator.
	EnrolmentEnded struct {
		Attempt int `json:"attempt"`
	}
	EnrolmentReopened struct {
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
	}
	// PhaseReached records how far the boot has come.
	PhaseReached struct {
		Boot   string    `json:"boot"` // the machine's boot id
		Phase  Phase     `json:"phase"`
		Detail string    `json:"detail,omitempty"` // which desktop or agent was chosen, for people
		At     time.Time `json:"at"`
	}
	// VersionsReported records the versions of what the machine runs, by name, when they change.
	VersionsReported struct {
		Boot     string            `json:"boot"`
		Versions map[string]string `json:"versions"`
		At       time.Time         `json:"at"`
	}
	// BootStalled records that a boot takes longer than it should. The boot continues.
	BootStalled struct {
		Phase  Phase  `json:"phase"`
		Reason string `json:"reason"`
	}
	// StopRequested, StartRequested and TerminationRequested are the user's requests, or decisions of the control plane
	// with a Cause. A stop may also have been requested outside the control plane, directly from the cloud.
	StopRequested struct {
		At      time.Time `json:"at"`
		Outside bool      `json:"outside,omitempty"`
		Cause   Cause     `json:"cause,omitempty"`
		Why     string    `json:"why,omitempty"`     // of a Cause: a sentence for the user
		WakeAt  time.Time `json:"wake_at,omitzero"`  // when the desktop is started again, for a job of the agent's schedule
		Jobs    idle.Jobs `json:"jobs,omitempty"`    // what becomes of the next job, if one is known
		NextJob time.Time `json:"next_job,omitzero"` // when it is due
	}
	StartRequested struct {
		At    time.Time `json:"at"`
		Cause Cause     `json:"cause,omitempty"`
		Why   string    `json:"why,omitempty"` // of a Cause
	}
	TerminationRequested struct {
		At time.Time `json:"at"`
	}
	// MachineStopped records that the cloud reports the machine stopped. Asked: the control plane requested it.
	MachineStopped struct {
		Asked bool `json:"asked"`
		RunEnded
	}
	// MachineMissed records that the cloud does not list the machine, perhaps only for a while. MachineFound records
	// that it lists the machine again.
	MachineMissed struct {
		At time.Time `json:"at"`
	}
	MachineFound struct{}
	// MachineGone records that the cloud reports the machine terminated. Missing: it has not listed the machine for
	// long. Asked: the control plane requested it.
	MachineGone struct {
		Asked   bool `json:"asked"`
		Missing bool `json:"missing,omitempty"`
		RunEnded
	}
	// Terminated is final: no machine is left. By is ByOperator if an operator terminated the machine without the saga.
	// Such an event may follow events that cannot be read, so it names the account.
	Terminated struct {
		By      string `json:"by,omitempty"` // ByOperator
		Account string `json:"account,omitempty"`
	}
	// IdleWarned warns the user that the desktop will stop by itself.
	IdleWarned struct {
		At     time.Time `json:"at"`
		StopAt time.Time `json:"stop_at"`
		Cause  Cause     `json:"cause"`
		Why    string    `json:"why"` // a sentence for the user
	}
	// IdleExtended keeps the desktop running at least until then: its user asked for more time.
	IdleExtended struct {
		At    time.Time `json:"at"`
		Until time.Time `json:"until"`
	}
	// IdleWithdrawn withdraws the warning: the desktop is in use again, or its policy has changed.
	IdleWithdrawn struct {
		At time.Time `json:"at"`
	}
	// IdlePolicySet sets the desktop's own policy. Nil: the account's applies again.
	IdlePolicySet struct {
		Policy *idle.Policy `json:"policy"`
	}
	// ModelCostReported records what the agent's gateway estimates that its models cost, in micro-dollars. The machine reports
	// the total of a meter, which begins at 0 when its guest starts.
	ModelCostReported struct {
		Meter string    `json:"meter"`
		Total int64     `json:"total_micros"` // of the meter
		Added int64     `json:"added_micros"` // since the last event
		At    time.Time `json:"at"`
	}
	// Failed is final: no machine is left, and the user did not request that.
	Failed struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
)

// RunEnded says until when a machine ran. Both times are missing in events of older versions: the time of the event counts
// then.
type RunEnded struct {
	// Ended is when it left its running state, by the cloud's own clock; zero: the cloud does not say.
	Ended time.Time `json:"ended,omitzero"`
	// RanUntil is the last look that showed it running; zero: unknown. For a machine that is gone and did not run, it is the
	// last look that showed it at all.
	RanUntil time.Time `json:"ran_until,omitzero"`
}

// Cause names why the control plane stops or starts a desktop by itself.
type Cause string

const (
	CauseIdle    Cause = "idle"    // no activity for as long as its policy allows
	CauseCeiling Cause = "ceiling" // its ceiling
	CauseBudget  Cause = "budget"  // a budget is used up
	CausePlan    Cause = "plan"    // the account's plan does not allow it
	CauseJob     Cause = "job"     // the agent's schedule: a start
)

func (Requested) event()            {}
func (TakenOver) event()            {}
func (Renamed) event()              {}
func (LaunchAttempted) event()      {}
func (MachineLaunched) event()      {}
func (CallRefused) event()          {}
func (CallAccepted) event()         {}
func (LaunchAbandoned) event()      {}
func (MachineRunning) event()       {}
func (AddressChanged) event()       {}
func (GuestEnrolled) event()        {}
func (EnrolmentEnded) event()       {}
func (EnrolmentReopened) event()    {}
func (PhaseReached) event()         {}
func (VersionsReported) event()     {}
func (BootStalled) event()          {}
func (StopRequested) event()        {}
func (StartRequested) event()       {}
func (TerminationRequested) event() {}
func (MachineStopped) event()       {}
func (MachineMissed) event()        {}
func (MachineFound) event()         {}
func (MachineGone) event()          {}
func (Terminated) event()           {}
func (Failed) event()               {}
func (IdleWarned) event()           {}
func (IdleExtended) event()         {}
func (IdleWithdrawn) event()        {}
func (IdlePolicySet) event()        {}
func (ModelCostReported) event()    {}
