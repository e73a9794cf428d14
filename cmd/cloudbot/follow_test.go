package main

import (
	"errors"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// An event ends access even if this version cannot read it.
func TestFollowerEndsAccess(t *testing.T) {
	f := assembled(t, nil).role(t, "followed log").(follower)
	sessions, instances := f.front.Sessions(), f.front.Instances()
	position := int64(0)
	for name, e := range map[string]eventstore.Event{
		"readable":      {NewEvent: eventstore.NewEvent{Schema: 1, Data: []byte(`{}`)}},
		"newer version": {NewEvent: eventstore.NewEvent{Schema: 2, Data: []byte(`{}`)}},
		"damaged":       {NewEvent: eventstore.NewEvent{Schema: 1}, Damage: errors.New("columns are empty")},
		"not JSON":      {NewEvent: eventstore.NewEvent{Schema: 1, Data: []byte(`[`)}},
	} {
		for _, c := range []struct {
			aggregate, id, typ string
			revoked            func(ids ...string) bool
			want               bool
		}{
			{"session", "a session, " + name, "session.ended", sessions.IsRevoked, true},
			{"account", "an account, " + name, "account.suspended", sessions.IsRevoked, true},
			{"account", "an account, " + name, "account.resumed", sessions.IsRevoked, false},
			{"instance", "a terminated instance, " + name, "instance.terminated", instances.IsRevoked, true},
			{"instance", "a failed instance, " + name, "instance.failed", instances.IsRevoked, true},
		} {
			position++
			e.Stream, e.Type, e.Position = eventstore.StreamID{Aggregate: c.aggregate, ID: c.id}, c.typ, position
			f.apply(t.Context(), e)
			if got := c.revoked(c.id); got != c.want {
				t.Errorf("%s, %s: got revoked %v, want %v", name, c.typ, got, c.want)
			}
		}
	}
}
