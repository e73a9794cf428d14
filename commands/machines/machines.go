// Package machines is the port to any cloud: where machines come from, what a launch is made from, and what
// a cloud says of its machines. adapters/ec2 and adapters/local implement it; commands/provisioner calls it.
package machines

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// TokenPlaceholder stands in a Spec's UserData where the enrolment token goes. The log keeps the
// placeholder; the token is derived when the launch call is made.
const TokenPlaceholder = "@ENROLMENT_TOKEN@"

// Cloud is where machines come from: adapters/ec2 or adapters/local. Every method may be repeated
// with the same arguments and then has the same effect as once. Errors are *CallError where the
// cloud answered, anything else where it is unknown what happened; both lead to another try.
type Cloud interface {
	// Region is where machines are made: "eu-central-1", or "local".
	Region() string
	// Types lists the machine types a user may ask for, the default first.
	Types() []MachineType
	// Freeze settles the request of a new launch attempt. It calls nobody. A *CallError with
	// verdict Never gives the launch up.
	Freeze(a LaunchPlan) (instance.Spec, error)
	// Launch makes the machine that s describes, with userData in place of s.UserData, and returns
	// its id. The same ClientToken never makes a second machine.
	//
	// A *CallError with verdict Another or Never says that neither this call nor one before it has made a
	// machine, as far as the cloud knows: it ends the attempt, and the next one makes a machine of its own.
	// An adapter must not return it for a launch that may have happened; it looks first, and where it cannot
	// tell, the verdict is Again and Unsure is set. Calls that are still on their way are the saga's affair.
	Launch(ctx context.Context, s instance.Spec, userData string) (machine string, err error)
	Start(ctx context.Context, machine string) error
	Stop(ctx context.Context, machine string) error
	Terminate(ctx context.Context, machine string) error
	// Describe reports the machines with these ids, in any order; one it does not know is left out.
	Describe(ctx context.Context, machines []string) ([]Machine, error)
}

// LaunchPlan is what a launch attempt is made from.
type LaunchPlan struct {
	Instance    string // id
	Attempt     int    // from 1
	Type        string
	ClientToken string // unique to the attempt, at most 64 ASCII characters
	Refused     string // code of the refusal before, "" on the first attempt

	Last instance.Spec // of the attempt before, zero on the first
}

// MachineType is a size on offer.
type MachineType struct {
	ID     string // "t3.large"
	CPUs   int
	Memory int // MiB
}

// Summary says in a sentence what a size is good for.
func (t MachineType) Summary() string {
	i := len(fits) - 1
	for i > 0 && t.Memory < fits[i].memory {
		i--
	}
	cores := map[int]string{1: "One core", 2: "Two cores", 4: "Four cores", 8: "Eight cores"}[t.CPUs]
	if cores == "" {
		cores = fmt.Sprintf("%d cores", t.CPUs)
	}
	return fmt.Sprintf("%s, %g GB: %s.", cores, t.GiB(), fits[i].what)
}

// GiB is its memory in GiB.
func (t MachineType) GiB() float64 { return float64(t.Memory) / 1024 }

// fits says what goes into how much memory, in MiB, and more.
var fits = [...]struct {
	memory int
	what   string
}{
	{0, "too little for the agent: OpenClaw needs 4 GB"},
	{4 << 10, "the minimum for OpenClaw, with little room for the browser"},
	{8 << 10, "desktop, browser and agent with room to spare"},
	{16 << 10, "for heavy work, with many pages and programs open at once"},
}

// Machine is what a cloud says of one machine.
type Machine struct {
	ID      string
	Seen    instance.Seen
	Address string // public, "" for none
	Reason  string // why it is gone, a sentence for the user; "" where that was somebody's wish
}

// Inventory is a cloud that can say what it holds: what the Reconciler needs.
type Inventory interface {
	Cloud
	// List reports every machine that carries the tag of this environment, and no other. One that
	// was launched a moment ago, or ended a while ago, may be missing.
	List(ctx context.Context) ([]Tagged, error)
}

// Tagged is a machine with what its tags say of it.
type Tagged struct {
	Machine
	Instance string // the instance it was launched for, "" without a tag
	Attempt  int    // of that instance's launch, 0 without a tag
	Token    string // the ClientToken it was launched with
	Launched time.Time
}

// CallError is a cloud's refusal.
type CallError struct {
	Verdict    instance.Verdict
	Code       string        // stable: "InsufficientInstanceCapacity"
	Reason     string        // a sentence for the user, without ids of the operator's cloud
	RetryAfter time.Duration // the least wait before the next try, 0: the saga's own back-off
	Unsure     bool          // of a launch: it may have had its effect all the same
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

// ClientToken returns the token under which an instance's launch attempt is made; attempts count from 1.
func ClientToken(instance string, attempt int) string { return fmt.Sprintf("%s-%d", instance, attempt) }
