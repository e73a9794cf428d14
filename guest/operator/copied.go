package operator

import (
	"encoding/json"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Copied reports that a program copied a text of so many bytes that reaches no viewer; 0: unknown.
func (o *Operator) Copied(bytes int64) {
	b, _ := json.Marshal(wire.Copy{Bytes: bytes}) // a number
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broadcast(wire.OperatorLine{Event: wire.CopyEvent, Payload: b})
}
