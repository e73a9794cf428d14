package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go"
)

// presenceSubject carries to all replicas that a machine fell silent or is heard again. A message that is lost
// costs a page its refresh and no more: a query for the instance gets the truth.
const presenceSubject = "cloudbot.presence"

type presenceChange struct {
	Account  string `json:"account"`
	Instance string `json:"instance"`
}

func (p *parts) presenceChanged(account, instanceID string) {
	b, err := json.Marshal(presenceChange{account, instanceID})
	if err == nil {
		err = p.conn.Publish(presenceSubject, b)
	}
	if err != nil {
		p.log.Info("change of presence not told", "instance", instanceID, "err", err)
	}
}

// followPresence tells this replica's event streams until ctx ends.
func (p *parts) followPresence(ctx context.Context) error {
	sub, err := p.conn.Subscribe(presenceSubject, func(m *nats.Msg) {
		var c presenceChange
		if json.Unmarshal(m.Data, &c) == nil {
			p.front.PresenceChanged(c.Account, c.Instance)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to presence: %w", err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe()
	return nil
}
