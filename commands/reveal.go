package commands

import (
	"context"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/events"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Reveal returns what is sealed in one of the account's own events, by name. Password hashes and API keys stay sealed: the
// server shows them to no one.
func (c *Accounts) Reveal(ctx context.Context, owner string, e eventstore.Event) (map[string]string, error) {
	ev, err := events.Decode(e.Stream.Aggregate, e.Type, e.Schema, e.Data)
	if err != nil {
		return nil, err
	}
	name, label, sealed := "", "", []byte(nil)
	switch ev := ev.(type) {
	case account.SignedUp:
		name, label, sealed = "email", EmailLabel, ev.Email
	case session.Started:
		name, label, sealed = "client_addr", AddressLabel(e.Stream.ID), ev.Address
	case instance.Requested:
		name, label, sealed = "name", NameLabel(e.Stream.ID), ev.Name
	case instance.TakenOver:
		name, label, sealed = "name", NameLabel(e.Stream.ID), ev.Name
	case instance.Renamed:
		name, label, sealed = "name", NameLabel(e.Stream.ID), ev.Name
	case token.Created:
		name, label, sealed = "name", tokenNameLabel(ev.ID), ev.Token.Name
	}
	if len(sealed) == 0 {
		return nil, nil
	}
	plain, err := c.Vault.Open(ctx, owner, label, sealed)
	if err != nil {
		return nil, fmt.Errorf("open what event %d has sealed: %w", e.Position, err)
	}
	return map[string]string{name: string(plain)}, nil
}
