package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// ParkedEvent is an event that a projection could not apply.
type ParkedEvent struct {
	Position int64
	Stream   string
	Cause    string
}

// Parked returns the events that a projection has parked for a fault of their own, in order. all counts these
// and the events that follow them in their streams.
func Parked(ctx context.Context, db DB, projection string) (faulty []ParkedEvent, all int, err error) {
	rows, err := db.Query(ctx, `SELECT position, stream, error FROM read.parked WHERE projection = $1 ORDER BY position`, projection)
	if err != nil {
		return nil, 0, fmt.Errorf("list parked events of %s: %w", projection, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ParkedEvent])
	if err != nil {
		return nil, 0, fmt.Errorf("list parked events of %s: %w", projection, err)
	}
	for _, e := range list {
		if e.Cause != errBehindParked.Error() {
			faulty = append(faulty, e)
		}
	}
	return faulty, len(list), nil
}

// maxRounds bounds how often one RetryParked looks for events that were parked meanwhile.
const maxRounds = 5

// RetryParked applies the parked events of p again, each stream in its order. A stream whose first event still
// fails stays parked. It returns how many events were applied and how many are left.
func RetryParked(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection) (applied, left int, err error) {
	for more, round := true, 0; more && round < maxRounds; round++ {
		var n int
		if n, left, more, err = retryOnce(ctx, pool, store, p); err != nil {
			return applied, left, fmt.Errorf("retry parked events of %s: %w", p.Name, err)
		}
		applied += n
	}
	return applied, left, nil
}

// retryOnce is one round of RetryParked. more reports whether events were parked while it read the others.
func retryOnce(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection) (applied, left int, more bool, err error) {
	events, err := parkedEvents(ctx, pool, store, p.Name)
	if err != nil {
		return 0, 0, false, err
	}
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		applied, left, more = 0, 0, false
		// The checkpoint's lock keeps the live projector from parking more events meanwhile.
		if _, err := tx.Exec(ctx, `SELECT 1 FROM read.checkpoints WHERE projection = $1 FOR UPDATE`, p.Name); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT position, stream FROM read.parked WHERE projection = $1 ORDER BY position`, p.Name)
		if err != nil {
			return err
		}
		now, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct {
			Position int64
			Stream   string
		}])
		if err != nil {
			return err
		}
		stuck := map[string]bool{}
		for _, parked := range now {
			e, known := events[parked.Position]
			more = more || !known
			if known && stuck[parked.Stream] && lastWord(e) {
				if err := unpark(ctx, tx, p.Name, e.Stream); err != nil {
					return err
				}
				delete(stuck, parked.Stream)
			}
			if stuck[parked.Stream] || !known { // an event that was parked since they were read waits for the next round
				stuck[parked.Stream] = true
				left++
				continue
			}
			f := newFolding(p.Fold, nil)
			err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return f.apply(ctx, tx, "read", []*Event{e}) })
			if isPoison(err) || len(f.aside) > 0 {
				stuck[parked.Stream] = true
				left++
				continue
			}
			if err != nil {
				return err
			}
			applied++
			if _, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1 AND position = $2`, p.Name, parked.Position); err != nil {
				return err
			}
		}
		return nil
	})
	return applied, left, more, err
}

// parkedEvents reads the parked events of a projection, by position. It runs before the transaction that
// applies them, which would otherwise hold one connection while it asks for another.
func parkedEvents(ctx context.Context, db DB, store eventstore.Store, projection string) (map[int64]*Event, error) {
	rows, err := db.Query(ctx, `SELECT position FROM read.parked WHERE projection = $1`, projection)
	if err != nil {
		return nil, err
	}
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	events := make(map[int64]*Event, len(positions))
	for _, position := range positions {
		e, err := at(ctx, store, position)
		if err != nil {
			return nil, err
		}
		events[position] = &Event{Event: e}
	}
	return events, nil
}

// at reads the one event at position.
func at(ctx context.Context, store eventstore.Store, position int64) (eventstore.Event, error) {
	for e, err := range store.ReadAll(ctx, position-1) {
		return e, err
	}
	return eventstore.Event{}, fmt.Errorf("there is no event %d", position)
}

// lastWord reports whether an event holds all that matters of its stream: an operator terminated the instance,
// usually because an earlier event cannot be read.
func lastWord(e *Event) bool {
	if e.Type != instance.Codec.Name(instance.Terminated{}) {
		return false
	}
	ev, err := e.Says()
	if err != nil {
		return false
	}
	t, ok := ev.(instance.Terminated)
	return ok && t.By == instance.ByOperator
}

// unpark removes the stream's parked events.
func unpark(ctx context.Context, tx pgx.Tx, projection string, s eventstore.StreamID) error {
	_, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1 AND stream = $2`, projection, s.String())
	return err
}
