// Package events decodes the events of all aggregates. It has the only list of aggregates: add the codec of a new one
// here.
package events

import (
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/fleet"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/invite"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
)

// Codec is an aggregate's table without its event type.
type Codec interface {
	Aggregate() string
	Names() []string
	DecodeAny(name string, schema int, data []byte) (any, error)
}

var _ Codec = domain.Codec[instance.Event]{}

// All returns the tables of all aggregates.
func All() []Codec {
	return []Codec{
		account.Codec, apikey.Codec, audit.Codec, billing.Codec, budget.Codec, claim.Codec, fleet.Codec,
		instance.Codec, invite.Codec, quota.Codec, restore.Codec, session.Codec, token.Codec,
	}
}

var byAggregate = func() map[string]Codec {
	m := map[string]Codec{}
	for _, c := range All() {
		m[c.Aggregate()] = c
	}
	return m
}()

// Decode returns the event with a wire name, as one of the aggregate's event types. An unknown aggregate, name or
// schema is an error: nothing is skipped silently.
func Decode(aggregate, name string, schema int, data []byte) (any, error) {
	c, ok := byAggregate[aggregate]
	if !ok {
		return nil, fmt.Errorf("decode %s: unknown aggregate %q", name, aggregate)
	}
	return c.DecodeAny(name, schema, data)
}
