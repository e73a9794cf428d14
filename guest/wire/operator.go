package wire

import "encoding/json"

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

var operatorMethods = map[string]bool{
	"chat.abort": true, "exec.approval.resolve": true, "plugin.approval.resolve": true, "question.resolve": true,
	// The guest answers these itself, with what it has sent as events.
	"exec.approval.list": true, "plugin.approval.list": true, "question.list": true,
}

// OperatorMethod reports whether the guest carries out the method. It refuses all others.
func OperatorMethod(name string) bool { return operatorMethods[name] }

var operatorEvents = map[string]bool{
	"exec.approval.requested": true, "exec.approval.resolved": true, "plugin.approval.requested": true,
	"plugin.approval.resolved": true, "question.requested": true, "question.resolved": true,
}

// OperatorEvent reports whether the guest sends the event.
func OperatorEvent(name string) bool { return operatorEvents[name] }
