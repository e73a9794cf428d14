package main

import (
	"errors"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func isClosed(over <-chan struct{}) bool {
	select {
	case <-over:
		return true
	default:
		return false
	}
}

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
		over, release := sessions.Watch(0, access.TokenSession("01T "+name), "an account with tokens")
		logIn, leave := sessions.Watch(0, "a session", "an account with tokens")
		e.Stream, e.Type = eventstore.StreamID{Aggregate: "token", ID: "an account with tokens"}, "token.revoked"
		if name == "readable" {
			other := e
			other.Data, e.Data = []byte(`{"id":"01OTHER"}`), []byte(`{"id":"01T readable"}`)
			f.apply(t.Context(), other)
		}
		if isClosed(over) {
			t.Error("token.revoked of another token: got its connection closed, want it open")
		}
		f.apply(t.Context(), e)
		if !isClosed(over) || isClosed(logIn) {
			t.Errorf("%s, token.revoked: got the token's connection closed %v, the log-in's %v, want only the token's", name, isClosed(over), isClosed(logIn))
		}
		release()
		leave()
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
