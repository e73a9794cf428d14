package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

// presence is what the hub knows about tunnels at other replicas. For the hub, a machine without a tunnel is no error.
type presence struct{ *jetstream.Presence }

func (p presence) Lookup(ctx context.Context, instanceID string) (string, error) {
	url, err := p.Presence.Lookup(ctx, instanceID)
	if errors.Is(err, jetstream.ErrNoTunnel) {
		return "", nil
	}
	return url, err
}

// presenceSubject carries to all replicas that a machine went silent or was heard again. If a message is lost, a page
// is not refreshed and nothing else happens: a query for the instance returns the truth.
const presenceSubject = "cloudbot.presence"

type presenceChange struct {
	Account  string `json:"account"`
	Instance string `json:"instance"`
}

// presenceSender sends changes of presence to all replicas.
type presenceSender struct {
	conn *nats.Conn
	log  *slog.Logger
}

func (s presenceSender) send(account, instanceID string) {
	b, err := json.Marshal(presenceChange{account, instanceID})
	if err == nil {
		err = s.conn.Publish(presenceSubject, b)
	}
	if err != nil {
		s.log.Info("presence update failed", "instance", instanceID, "err", err)
	}
}

// stateFollower passes what agents at other replicas need on to this replica's event streams.
type stateFollower struct {
	states *jetstream.States
	front  *httpapi.Server
}

func (f stateFollower) Run(ctx context.Context) error {
	return f.states.Follow(ctx, f.front.AgentChanged)
}

// presenceFollower passes changes of presence on to this replica's event streams.
type presenceFollower struct {
	conn  *nats.Conn
	front *httpapi.Server
}

func (f presenceFollower) Run(ctx context.Context) error {
	sub, err := f.conn.Subscribe(presenceSubject, func(m *nats.Msg) {
		var c presenceChange
		if json.Unmarshal(m.Data, &c) == nil {
			f.front.PresenceChanged(c.Account, c.Instance)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to presence: %w", err)
	}
	<-ctx.Done()
	_ = sub.Unsubscribe()
	return nil
}
