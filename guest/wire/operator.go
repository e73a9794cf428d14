package wire

import (
	"encoding/json"
	"time"
)

// Operator is the service of the guest's own administrator connection to the agent's gateway. It carries JSON lines:
// OperatorLine from the guest, OperatorRequest to it. The guest sends the waiting approvals and questions first. Guests
// without this service answer that there is no such service.
const Operator = "operator"

// MaxOperator bounds a line of the service, in bytes, its newline included.
const MaxOperator = 64 << 10

type (
	// OperatorRequest asks the guest to carry out one of the methods for which OperatorMethod is true.
	OperatorRequest struct {
		ID     string          `json:"id"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params,omitempty"`
	}
	// OperatorLine is an event, if Event is set, or the answer to a request. Its fields are those of the gateway's frames.
	OperatorLine struct {
		Event   string          `json:"event,omitempty"`
		ID      string          `json:"id,omitempty"`
		OK      bool            `json:"ok,omitempty"`
		Payload json.RawMessage `json:"payload,omitempty"`
		Error   json.RawMessage `json:"error,omitempty"`
	}
)

// Methods of the guest's own: who uses the desktop's mouse and keyboard. Both answer with the Control that they lead to.
const (
	ControlTake = "cloudbot.control.take" // the user takes them, or is still active: the hold lasts ControlFor from now
	ControlGive = "cloudbot.control.give" // the agent may use them again
)

// Methods of the guest's own: what the agent may do without asking, because a user allowed it always. AllowedList answers
// with an Allowed. AllowedRemove takes the id of one entry and answers with the Allowed that is left.
const (
	AllowedList   = "cloudbot.allowed.list"
	AllowedRemove = "cloudbot.allowed.remove"
)

type (
	// Allowed is what the agent may do without asking, oldest first.
	Allowed struct {
		Entries []AllowedEntry `json:"entries"`
		More    int            `json:"more,omitempty"` // entries left out because the list is too long
	}
	// AllowedEntry is one command or tool.
	AllowedEntry struct {
		ID       string   `json:"id"`
		Agent    string   `json:"agent"`              // its name in the gateway; "*": all
		Command  string   `json:"command,omitempty"`  // as the user allowed it; "": the gateway no longer has it
		Programs []string `json:"programs,omitempty"` // the paths, or patterns of them, that it covers
		Any      bool     `json:"any,omitempty"`      // with any arguments; else with those that were allowed
		Server   string   `json:"server,omitempty"`   // of a tool
		Tool     string   `json:"tool,omitempty"`
		UsedAt   int64    `json:"usedAt,omitempty"` // in milliseconds of Unix time
	}
)

// ControlEvent is the event with a Control. The guest sends it at the beginning of a stream and after each change, if it
// can hold the agent's input.
const ControlEvent = "cloudbot.control"

// ControlFor is how long a hold lasts after the latest ControlTake.
const ControlFor = 2 * time.Minute

// Control says who uses the desktop's mouse and keyboard.
type Control struct {
	Holder string `json:"holder"`           // "agent", or "user": none of the agent's mouse and key events reaches the display
	Since  int64  `json:"since,omitempty"`  // when the user took them, in milliseconds of Unix time
	Until  int64  `json:"until,omitempty"`  // when the hold ends without another ControlTake
	Leased bool   `json:"leased,omitempty"` // the agent's computer tool is refused as a whole; else a run that began before uses it
}

// Values of Control.Holder.
const (
	HolderAgent = "agent"
	HolderUser  = "user"
)

var operatorMethods = map[string]bool{
	ControlTake: true, ControlGive: true, AllowedList: true, AllowedRemove: true,
	"chat.abort": true, "exec.approval.resolve": true, "plugin.approval.resolve": true, "question.resolve": true,
	// The guest answers these itself, with what it has sent as events.
	"exec.approval.list": true, "plugin.approval.list": true, "question.list": true,
}

// OperatorMethod reports whether the guest carries out the method. It refuses all others.
func OperatorMethod(name string) bool { return operatorMethods[name] }

var operatorEvents = map[string]bool{
	ControlEvent: true, CopyEvent: true,
	"exec.approval.requested": true, "exec.approval.resolved": true, "plugin.approval.requested": true,
	"plugin.approval.resolved": true, "question.requested": true, "question.resolved": true,
}

// OperatorEvent reports whether the guest sends the event.
func OperatorEvent(name string) bool { return operatorEvents[name] }

// CopyEvent is the event with a Copy. The guest sends it when a program copies a text that reaches no viewer.
const CopyEvent = "cloudbot.clipboard"

// Copy is a text that was too long for the VNC server.
type Copy struct {
	Bytes int64 `json:"bytes,omitempty"` // at least; 0: unknown
}
