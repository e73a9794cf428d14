package jetstream

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Epochs counts how often the log turned out to be shorter than, or different from, what had been
// published. Each epoch restarts the stream's numbers, so the pair (epoch, number) is never used twice.
type Epochs interface {
	// Current returns the epoch that new messages belong to, from 1.
	Current(ctx context.Context) (int, error)
	// Begin makes sure that the current epoch is greater than old, and returns it. at is the last
	// position on which the new epoch and what was published before agree. Calling it again with
	// the same old has no effect: two relays that see the same problem begin one epoch.
	Begin(ctx context.Context, old int, reason string, at int64) (int, error)
}

// PostgresEpochs keeps the epochs beside the log.
type PostgresEpochs struct{ Pool DB }

// DB lists the methods of a connection pool that PostgresEpochs uses.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

var _ Epochs = PostgresEpochs{}

// Current implements Epochs.
func (p PostgresEpochs) Current(ctx context.Context) (int, error) {
	var n int
	if err := p.Pool.QueryRow(ctx, `SELECT max(epoch) FROM relay.epochs`).Scan(&n); err != nil {
		return 0, fmt.Errorf("current epoch: %w", err)
	}
	return n, nil
}

// Begin implements Epochs.
func (p PostgresEpochs) Begin(ctx context.Context, old int, reason string, at int64) (int, error) {
	_, err := p.Pool.Exec(ctx, `
		INSERT INTO relay.epochs (epoch, reason, at_position)
		SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM relay.epochs WHERE epoch >= $1)
		ON CONFLICT (epoch) DO NOTHING`, old+1, reason, at)
	if err != nil {
		return 0, fmt.Errorf("begin epoch %d: %w", old+1, err)
	}
	return p.Current(ctx)
}
