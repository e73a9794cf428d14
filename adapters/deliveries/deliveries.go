// Package deliveries remembers in Postgres which messages of Stripe were handled, and when everything was last compared with
// Stripe. All replicas share it. It may be lost: a message that is handled again has no effect. Commits therefore do not wait
// for the disk.
package deliveries

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/commands"
)

// Life is how long a message is remembered. Stripe repeats one for three days, and its operator may have it repeated for 30.
const Life = 30 * 24 * time.Hour

// DB lists the methods of a connection pool that a Store uses.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store implements commands.Deliveries and commands.Comparisons. Its database must have been migrated.
type Store struct{ DB DB }

var (
	_ commands.Deliveries  = Store{}
	_ commands.Comparisons = Store{}
)

// Handled reports whether a message was handled.
func (s Store) Handled(ctx context.Context, id string) (handled bool, err error) {
	err = s.DB.QueryRow(ctx, `SELECT EXISTS (SELECT FROM ops.deliveries WHERE id = $1)`, id).Scan(&handled)
	if err != nil {
		return false, fmt.Errorf("look up a message of Stripe: %w", err)
	}
	return handled, nil
}

// Remember records that a message was handled. Each one removes two that are old enough, so the table does not grow.
func (s Store) Remember(ctx context.Context, id string) error {
	_, err := s.DB.Exec(ctx, `
		WITH old AS (SELECT id FROM ops.deliveries WHERE handled_at < now() - $2::interval ORDER BY handled_at LIMIT 2 FOR UPDATE SKIP LOCKED),
		     gone AS (DELETE FROM ops.deliveries USING old WHERE deliveries.id = old.id)
		INSERT INTO ops.deliveries (id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING set_config('synchronous_commit', 'off', true)`, id, Life)
	if err != nil {
		return fmt.Errorf("remember a message of Stripe: %w", err)
	}
	return nil
}

// LastComparison returns when the latest comparison began; zero: none is known.
func (s Store) LastComparison(ctx context.Context) (time.Time, error) {
	last, err := s.Last(ctx)
	return last.Began, err
}

// Last returns the latest comparison; the zero Comparison: none is known.
func (s Store) Last(ctx context.Context) (last commands.Comparison, err error) {
	var text []byte
	err = s.DB.QueryRow(ctx, `SELECT summary FROM ops.comparisons`).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err != nil {
		return last, fmt.Errorf("read the last comparison with Stripe: %w", err)
	}
	return last, nil
}

// RememberComparison records a comparison, unless a later one is recorded.
func (s Store) RememberComparison(ctx context.Context, c commands.Comparison) error {
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("record a comparison with Stripe: %w", err)
	}
	_, err = s.DB.Exec(ctx, `INSERT INTO ops.comparisons (began_at, summary) VALUES ($1, $2)
		ON CONFLICT (one) DO UPDATE SET began_at = excluded.began_at, summary = excluded.summary
		WHERE comparisons.began_at <= excluded.began_at OR comparisons.began_at > now() + interval '1 hour'
		RETURNING set_config('synchronous_commit', 'off', true)`, c.Began, text)
	if err != nil {
		return fmt.Errorf("record a comparison with Stripe: %w", err)
	}
	return nil
}
