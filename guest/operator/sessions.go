package operator

import (
	"context"
	"encoding/json"
	"fmt"
)

// sessionEvents are those that say that a session changed.
var sessionEvents = map[string]bool{"sessions.changed": true, "session.message": true}

func sessionOf(payload json.RawMessage) string {
	var p struct{ SessionKey string }
	if json.Unmarshal(payload, &p) != nil || len(p.SessionKey) > maxKey {
		return ""
	}
	return p.SessionKey
}

// follow asks for the events of all sessions. What happened before is not known.
func (o *Operator) follow(c *conn) error {
	return c.send(context.Background(), "sessions.subscribe", struct{}{}, func(a answer) {
		if !a.ok {
			o.log.Warn("the agent does not report which chats change", "err", failureOf(a.failure))
		}
		if o.c.Changed != nil {
			o.c.Changed("")
		}
	})
}

// Ask reads the agent's sessions for this guest: sessions.list or chat.history. It returns the payload of the answer.
func (o *Operator) Ask(ctx context.Context, method string, params any) (json.RawMessage, error) {
	a, err := o.call(ctx, method, params)
	if err != nil {
		return nil, err
	}
	if !a.ok {
		return nil, fmt.Errorf("%s: %s", method, failureOf(a.failure))
	}
	return a.payload, nil
}
