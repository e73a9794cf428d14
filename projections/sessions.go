package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// applySessions keeps read.sessions: one row per log-in.
func applySessions(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != session.Codec.Aggregate() {
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

// Session is a login as its owner sees it.
type Session struct {
	ID         string
	Agent      string // User-Agent
	ClientAddr string // at login
	StartedAt  time.Time
	SeenAt     time.Time // last refresh
	ExpiresAt  time.Time
}

// Sessions returns the account's live sessions, latest first, at most 1000.
func (r *Reader) Sessions(ctx context.Context, account string) ([]Session, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id, agent, address, started_at, seen_at, expires_at FROM read.sessions
		WHERE account = $1 AND ended = '' AND expires_at > now() ORDER BY seen_at DESC, id DESC LIMIT 1000`, account)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	var sealed [][]byte
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Session, err error) {
		var address []byte
		err = row.Scan(&s.ID, &s.Agent, &address, &s.StartedAt, &s.SeenAt, &s.ExpiresAt)
		sealed = append(sealed, address)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	for i, s := range sealed {
		if s == nil {
			continue
		}
		address, err := r.Open(ctx, account, r.AddressLabel(list[i].ID), s)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		list[i].ClientAddr = string(address)
	}
	return list, nil
}

// OpenSessions returns the ids, in order, of sessions above after that have not ended and may still be valid.
func (r *Reader) OpenSessions(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id FROM read.sessions WHERE ended = '' AND id > $1 AND started_at > $2 ORDER BY id LIMIT $3`,
		after, time.Now().Add(-session.Lifetime-24*time.Hour), limit)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// EndedSince returns the ids of the sessions of all accounts that ended after t. A server that starts must
// refuse them, although their access tokens are still valid.
func (r *Reader) EndedSince(ctx context.Context, t time.Time) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id FROM read.sessions WHERE ended <> '' AND ended_at > $1`, t)
	if err != nil {
		return nil, fmt.Errorf("list ended sessions: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
