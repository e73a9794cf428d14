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
	Account string // "" if unknown: its first event is parked
	Name    []byte // sealed
	Status  instance.Status
	Since   time.Time // since when it has this status
	Machine string    // the cloud's id, "" for none
	Reason  string
	Parked  bool // some of its events are parked, so this may be out of date
}

// Overviews returns the instances of all accounts with an id above after, oldest first; with all, also the
// terminated and failed ones.
func (r *Reader) Overviews(ctx context.Context, after string, all bool, limit int) ([]Overview, error) {
	rows, err := r.Pool.Query(ctx, `WITH set_aside AS (SELECT DISTINCT substr(stream, 10) AS id FROM read.parked WHERE stream LIKE 'instance/%')
		SELECT coalesce(i.id, p.id), coalesce(i.account, ''), i.name, coalesce(i.status, ''),
			coalesce((SELECT max(h.time) FROM read.history h WHERE h.subject = 'instance/' || i.id AND h.type = ANY ($4)), i.updated_at, now()),
			coalesce(i.machine, ''), coalesce(i.reason, ''), p.id IS NOT NULL
		FROM read.instances i FULL JOIN set_aside p ON p.id = i.id
		WHERE coalesce(i.id, p.id) > $1 AND ($2 OR coalesce(i.status, '') NOT IN ('terminated', 'failed'))
		ORDER BY 1 LIMIT $3`, after, all, limit, statusNames())
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Overview])
	if err != nil {
		return nil, fmt.Errorf("list all instances: %w", err)
	}
	return list, nil
}

// statusNames are the wire names of the events that change an instance's status.
func statusNames() (names []string) {
	for _, e := range []instance.Event{
		instance.Requested{}, instance.TakenOver{}, instance.MachineRunning{}, instance.StopRequested{}, instance.MachineStopped{}, instance.StartRequested{},
		instance.TerminationRequested{}, instance.LaunchAbandoned{}, instance.Terminated{}, instance.Failed{},
	} {
		names = append(names, instance.Codec.Name(e))
	}
	return names
}

// Owner returns the account of an instance, "" if unknown.
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

// InstanceOf returns the instance that has this machine, "" for none. It looks at the instances of all accounts.
func (r *Reader) InstanceOf(ctx context.Context, machine string) (id string, err error) {
	rows, err := r.Pool.Query(ctx, `SELECT id FROM read.instances WHERE machine = $1 AND status NOT IN ('terminated', 'failed') LIMIT 1`, machine)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error { return nil })
	}
	if err != nil {
		return "", fmt.Errorf("find the instance of a machine: %w", err)
	}
	return id, nil
}
