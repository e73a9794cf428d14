package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/session"
)

// sessionRow is a row of read.sessions: one per log-in.
type sessionRow struct {
	id, account, agent         string
	address                    []byte // sealed
	startedAt, seenAt, expires time.Time
	ended                      string
	endedAt                    *time.Time
}

func foldSessions() *Fold {
	return &Fold{Aggregate: session.Codec.Aggregate(), Load: loadSessions, Evolve: evolveSession, Save: saveSessions}
}

// errStartedBefore parks a second event that opens the stream of a session.
var errStartedBefore = errors.New("the session was started before")

func evolveSession(row any, e *Event) (any, error) {
	ev, err := says[session.Event](e)
	if err != nil {
		return nil, err
	}
	r, exists := row.(sessionRow)
	if started, ok := ev.(session.Started); ok {
		if exists {
			return nil, errStartedBefore
		}
		at := started.Leaf.IssuedAt
		r = sessionRow{e.Stream.ID, started.Account, started.Agent, started.Address, at, at, started.Leaf.ExpiresAt, "", nil}
	} else if !exists { // the event that opens the stream is parked
		return nil, nil
	}
	switch ev := ev.(type) {
	case session.Refreshed:
		r.seenAt, r.expires = ev.Leaf.IssuedAt, ev.Leaf.ExpiresAt
	case session.Ended:
		r.ended, r.endedAt = string(ev.Reason), e.at()
	}
	if e.mayHoldZero() && strings.IndexByte(r.id+r.account+r.agent+r.ended, 0) >= 0 {
		return nil, errNotStorable
	}
	return r, nil
}

const sessionColumns = `id, account, agent, address, started_at, seen_at, expires_at, ended, ended_at`

func loadSessions(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT `+sessionColumns+` FROM sessions WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]any, len(ids))
	var r sessionRow
	_, err = pgx.ForEachRow(rows, []any{&r.id, &r.account, &r.agent, &r.address, &r.startedAt, &r.seenAt, &r.expires, &r.ended, &r.endedAt}, func() error {
		byID[r.id] = r
		r = sessionRow{}
		return nil
	})
	return byID, err
}

func saveSessions(rows []any) Statement {
	type r = sessionRow
	return Statement{`INSERT INTO sessions (` + sessionColumns + `)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[], $8::text[], $9::timestamptz[])
		ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, expires_at = excluded.expires_at, ended = excluded.ended, ended_at = excluded.ended_at`,
		[]any{
			column(rows, func(r r) string { return r.id }),
			column(rows, func(r r) string { return r.account }),
			column(rows, func(r r) string { return r.agent }),
			column(rows, func(r r) []byte { return r.address }),
			column(rows, func(r r) time.Time { return r.startedAt }),
			column(rows, func(r r) time.Time { return r.seenAt }),
			column(rows, func(r r) time.Time { return r.expires }),
			column(rows, func(r r) string { return r.ended }),
			column(rows, func(r r) *time.Time { return r.endedAt }),
		}}
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
