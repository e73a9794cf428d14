// Package machines is the port to any cloud: its calls, what a launch is made from, and what the cloud reports about
// its machines. adapters/ec2 and adapters/local implement it; commands/provisioner calls it.
package machines

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// TokenPlaceholder marks the place of the enrolment token in a Spec's UserData. The log keeps the placeholder; the
// token is derived when the launch call is made.
const TokenPlaceholder = "@ENROLMENT_TOKEN@"

// Local is the region, and the type, of machines that are processes of the server's own computer.
const Local = "local"

// Cloud launches and controls machines. Repeating a call with the same arguments has no further effect. An error is a
// *CallError if the cloud answered; with any other error the outcome is unknown. Both are retried.
type Cloud interface {
	// Region returns where machines are launched: "eu-central-1", or Local.
	Region() string
	// Types lists the machine types a user may ask for, the default first.
	Types() []MachineType
	// Freeze returns the request of a new launch attempt, without calling the cloud. A *CallError with verdict Never
	// gives the launch up.
	Freeze(a LaunchPlan) (instance.Spec, error)
	// Launch launches the machine that s describes, with userData in place of s.UserData, and returns its id. The same
	// ClientToken never makes a second machine.
	//
	// A *CallError with verdict Another or Never means that, as far as the cloud knows, neither this call nor an
	// earlier one made a machine. It ends the attempt, and the next attempt may make another machine. So an adapter
	// must not return it for a launch that may have happened. It checks first; if it cannot find out, the verdict is
	// Again and Unsure is set. The saga deals with calls that are still under way.
	Launch(ctx context.Context, s instance.Spec, userData string) (machine string, err error)
	Start(ctx context.Context, machine string) error
	Stop(ctx context.Context, machine string) error
	Terminate(ctx context.Context, machine string) error
	// Describe returns the machines with these ids, in any order, without those that the cloud does not know.
	Describe(ctx context.Context, machines []string) ([]Machine, error)
}

// LaunchPlan is what a launch attempt is made from.
type LaunchPlan struct {
	Instance    string // id
	Account     string // its owner's id
	Attempt     int    // from 1
	Type        string
	ClientToken string // unique to the attempt, at most 64 ASCII characters
	Refused     string // code of the previous refusal, "" on the first attempt

	Last instance.Spec // of the previous attempt, zero on the first
}

// MachineType is a size on offer.
type MachineType struct {
	ID     string // "t3.large"
	CPUs   int
	Memory int // MiB

	Aliases []string // other ids that a request may name it by
	About   string   // a sentence for people; "": what fits into its memory
}

// Named reports whether id names the type.
func (t MachineType) Named(id string) bool { return t.ID == id || slices.Contains(t.Aliases, id) }

// Summary describes in a sentence what a size is good for, without the figures that stand beside it.
func (t MachineType) Summary() string {
	i := len(fits) - 1
	for i > 0 && t.Memory < fits[i].memory {
		i--
	}
	return cmp.Or(t.About, fits[i].what)
}

// GiB returns its memory in GiB.
func (t MachineType) GiB() float64 { return float64(t.Memory) / 1024 }

// fits lists what fits into at least this much memory, in MiB.
var fits = [...]struct {
	memory int
	what   string
}{
	{0, "Too little for the agent: OpenClaw needs 4 GB."},
	{4 << 10, "The minimum for OpenClaw, with little room for the browser."},
	{8 << 10, "Desktop, browser and agent with room to spare."},
	{16 << 10, "For heavy work, with many pages and programs open at once."},
}

// Machine is what a cloud reports about one machine.
type Machine struct {
	ID      string
	Seen    instance.Seen
	Address string // public, "" for none
	Reason  string // why it is gone, a sentence for the user; "" if its termination was requested
	// Launched is when it was made, as far as the cloud says; zero: unknown. A later start may have changed it.
	Launched time.Time
	// Started is when its latest launch or start was requested, by the cloud's clock; zero: unknown.
	Started time.Time
	// Ended is when its latest run ended, by the cloud's clock, in a report of a machine that has stopped or is gone; zero:
	// the cloud does not say.
	Ended time.Time
}

// Inventory is a cloud that can list its machines, as the Reconciler needs.
type Inventory interface {
	Cloud
	// List returns every machine with the tag of this environment, and no other. A machine that was launched seconds
	// ago, or ended a while ago, may be missing.
	List(ctx context.Context) ([]Tagged, error)
}

// Tagged is a machine with the contents of its tags.
type Tagged struct {
	Machine
	Instance string // the instance it was launched for, "" without a tag
	Attempt  int    // of that instance's launch, 0 without a tag
	Account  string // whose instance that is, "" without a tag
	Token    string // the ClientToken it was launched with
	Type     string // "": unknown
}

// CallError is a cloud's refusal.
type CallError struct {
	Verdict    instance.Verdict
	Code       string        // stable: "InsufficientInstanceCapacity"
	Reason     string        // a sentence for the user, without ids of the operator's cloud
	RetryAfter time.Duration // the shortest wait before the next try; 0: the saga's own back-off
	Unsure     bool          // of a launch: it may have taken effect nevertheless
	Err        error         // for the operator's log
}

func (e *CallError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Code, e.Reason, e.Err) }

func (e *CallError) Unwrap() error { return e.Err }

// Enrolment derives and checks the one-time tokens with which machines enrol.
type Enrolment interface {
	CurrentKey() string
	Token(instanceID string, attempt int, keyID string) (string, error)
	Parse(token string) (instanceID string, attempt int, err error)
	Verify(token, keyID string) bool
}

// ClientToken returns the client token of an instance's launch attempt; attempts count from 1.
func ClientToken(instance string, attempt int) string { return fmt.Sprintf("%s-%d", instance, attempt) }
