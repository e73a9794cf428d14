package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Overview is an instance as an operator sees it.
type Overview struct {
	ID      string
	Account string // "" where no row says it: its first event is parked
	Name    []byte // sealed
	Status  instance.Status
	Since   time.Time // since when it has this status
	Machine string    // the cloud's id, "" for none
	Reason  string
	Parked  bool // some of its events are set aside, so this may be old
}

// Overviews returns instances of all accounts, oldest first, those with an id above after; with all,
// also those that are over.
func (r *Reader) Overviews(ctx context.Context, after string, all bool, limit int) ([]Overview, error) {
	rows, err := r.Pool.Query(ctx, `WITH set_aside AS (SELECT DISTINCT substr(stream, 10) AS id FROM read.parked WHERE stream LIKE 'instance/%')
		SELECT coalesce(i.id, p.id), coalesce(i.account, ''), i.name, coalesce(i.status, ''),
			coalesce((SELECT max(h.time) FROM read.history h WHERE h.subject = 'instance/' || i.id AND h.type IN (
				'instance.requested', 'instance.machine_running', 'instance.stop_requested', 'instance.machine_stopped', 'instance.start_requested',
				'instance.termination_requested', 'instance.launch_abandoned', 'instance.terminated', 'instance.failed')), i.updated_at, now()),
			coalesce(i.machine, ''), coalesce(i.reason, ''), p.id IS NOT NULL
		FROM read.instances i FULL JOIN set_aside p ON p.id = i.id
		WHERE coalesce(i.id, p.id) > $1 AND ($2 OR coalesce(i.status, '') NOT IN ('terminated', 'failed'))
		ORDER BY 1 LIMIT $3`, after, all, limit)
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Overview])
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	return list, nil
}

// Owner returns whose instance it is, "" where no row says it.
func (r *Reader) Owner(ctx context.Context, id string) (account string, err error) {
	rows, err := r.Pool.Query(ctx, `SELECT account FROM read.instances WHERE id = $1`, id)
	if err != nil {
		return "", fmt.Errorf("find owner: %w", err)
	}
	if _, err = pgx.ForEachRow(rows, []any{&account}, func() error { return nil }); err != nil {
		return "", fmt.Errorf("find owner: %w", err)
	}
	return account, nil
}
