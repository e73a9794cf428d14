// Package instance decides about one cloud desktop: from the user's request to the proof that
// its machine is gone. The cloud is told nothing here; package provisioning reads the state and
// says which call is due.
//
// The one thing to know: an instance has at most one machine, and only Terminated and Failed,
// which are final, say that none is left.
package instance

import "time"

// Event is a fact about one instance. Its implementations are in this file.
type Event interface{ event() }

// Spec is a launch request with everything frozen: repeated, it is the same request byte for byte.
// UserData holds a placeholder where the enrolment token goes; the token itself is derived.
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
	TokenKey      string            `json:"token_key"` // id of the key the enrolment token is derived with
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

// ByOperator is Terminated.By where it is not the saga's word.
const ByOperator = "operator"

// Verdict says what a refused call leads to.
type Verdict string

const (
	Again   Verdict = "again"   // the same call, later
	Another Verdict = "another" // a new attempt, elsewhere
	Never   Verdict = "never"   // it will not heal
)

type (
	// Requested opens the stream: a user wants a desktop.
	Requested struct {
		Account string `json:"account"`
		Name    []byte `json:"name"` // sealed
		Type    string `json:"instance_type"`
		Region  string `json:"region"`
	}
	// Renamed gives it another name.
	Renamed struct {
		Name []byte `json:"name"` // sealed
	}
	// LaunchAttempted is written before the launch call it describes.
	LaunchAttempted struct {
		Attempt int       `json:"attempt"`
		At      time.Time `json:"at"`
		Spec    Spec      `json:"spec"`
	}
	// MachineLaunched says that the cloud accepted the attempt. From here on there is a machine.
	MachineLaunched struct {
		Attempt int       `json:"attempt"`
		Machine string    `json:"machine"` // the cloud's id
		At      time.Time `json:"at"`      // when its answer came, which may be long after the attempt was written
	}
	// CallRefused says that the cloud, or the way to it, refused a call.
	CallRefused struct {
		Call    Call      `json:"call"`
		Attempt int       `json:"attempt,omitempty"` // of a launch
		Tries   int       `json:"tries"`             // in a row, this one included
		Verdict Verdict   `json:"verdict"`
		Code    string    `json:"code"`
		Reason  string    `json:"reason"`
		RetryAt time.Time `json:"retry_at"`
		// Unsure is when a launch call ended that may have had its effect, or may have it later. Zero: it had none.
		Unsure time.Time `json:"unsure,omitzero"`
		// Undone says that the cloud took the call, a start, and that its effect did not last.
		Undone bool `json:"undone,omitempty"`
	}
	// CallAccepted says that the cloud took a start, stop or terminate call; its effect is still to be seen.
	CallAccepted struct {
		Call Call      `json:"call"`
		At   time.Time `json:"at"`
	}
	// LaunchAbandoned gives the launch up; a machine that may exist is taken down first.
	LaunchAbandoned struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
	// MachineRunning says that the cloud reports the machine running, at this address.
	MachineRunning struct {
		Address string    `json:"address,omitempty"`
		At      time.Time `json:"at"`
	}
	// AddressChanged follows the machine's public address.
	AddressChanged struct {
		Address string `json:"address"`
	}
	// GuestEnrolled binds the machine's own key to the instance.
	GuestEnrolled struct {
		Attempt   int    `json:"attempt"`
		PublicKey []byte `json:"public_key"` // Ed25519, made on the machine
	}
	// PhaseReached tells how far the boot is.
	PhaseReached struct {
		Boot   string    `json:"boot"` // the machine's boot id
		Phase  Phase     `json:"phase"`
		Detail string    `json:"detail,omitempty"` // which desktop or agent it chose, for people
		At     time.Time `json:"at"`
	}
	// VersionsReported tells what the machine runs, by name. It is written when that changes.
	VersionsReported struct {
		Boot     string            `json:"boot"`
		Versions map[string]string `json:"versions"`
		At       time.Time         `json:"at"`
	}
	// BootStalled says that a boot takes longer than it should; it goes on.
	BootStalled struct {
		Phase  Phase  `json:"phase"`
		Reason string `json:"reason"`
	}
	// StopRequested, StartRequested and TerminationRequested are the user's wishes. A stop may also be
	// somebody else's, who asked the cloud for it past the control plane.
	StopRequested struct {
		At      time.Time `json:"at"`
		Outside bool      `json:"outside,omitempty"`
	}
	StartRequested struct {
		At time.Time `json:"at"`
	}
	TerminationRequested struct {
		At time.Time `json:"at"`
	}
	// MachineStopped says that the cloud reports the machine stopped; Asked whether we asked for it.
	MachineStopped struct {
		Asked bool `json:"asked"`
	}
	// MachineMissed says that the cloud does not know the machine, which may be so for a while only;
	// MachineFound that it knows it again.
	MachineMissed struct {
		At time.Time `json:"at"`
	}
	MachineFound struct{}
	// MachineGone says that the cloud reports the machine terminated, or, Missing, has not known it for
	// long; Asked whether we asked for that.
	MachineGone struct {
		Asked   bool `json:"asked"`
		Missing bool `json:"missing,omitempty"`
	}
	// Terminated is final: no machine is left. By names the operator who took the machine down past
	// the saga. Such an event may be written behind one that cannot be read, so it says whose instance it is.
	Terminated struct {
		By      string `json:"by,omitempty"` // ByOperator
		Account string `json:"account,omitempty"`
	}
	// Failed is final: no machine is left, and the user did not ask for that.
	Failed struct {
		Code   string `json:"code"`
		Reason string `json:"reason"`
	}
)

func (Requested) event()            {}
func (Renamed) event()              {}
func (LaunchAttempted) event()      {}
func (MachineLaunched) event()      {}
func (CallRefused) event()          {}
func (CallAccepted) event()         {}
func (LaunchAbandoned) event()      {}
func (MachineRunning) event()       {}
func (AddressChanged) event()       {}
func (GuestEnrolled) event()        {}
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
