package projections

import (
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// applySessions keeps read.sessions: one row a login.
func applySessions(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != "session" {
		return nil, nil
	}
	ev, err := decode(e)
	if err != nil {
		return nil, err
	}
	switch ev := ev.(type) {
	case session.Started:
		return sql(`INSERT INTO sessions (id, account, agent, address, started_at, seen_at, expires_at) VALUES ($1, $2, $3, $4, $5, $5, $6)`,
			e.Stream.ID, ev.Account, ev.Agent, ev.Address, ev.Leaf.IssuedAt, ev.Leaf.ExpiresAt), nil
	case session.Refreshed:
		return sql(`UPDATE sessions SET seen_at = $2, expires_at = $3 WHERE id = $1`, e.Stream.ID, ev.Leaf.IssuedAt, ev.Leaf.ExpiresAt), nil
	case session.Ended:
		return sql(`UPDATE sessions SET ended = $2, ended_at = $3 WHERE id = $1`, e.Stream.ID, string(ev.Reason), e.Time), nil
	}
	return nil, nil
}
