package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// rebuildBatch is how many events a rebuild applies in one transaction.
const rebuildBatch = 2000

// ErrRebuilding refuses a second rebuild of a projection beside the first.
var ErrRebuilding = errors.New("another rebuild of it is going on")

// Rebuild folds the whole log into new tables beside the live ones and switches over in one
// transaction. The live projection is served and goes on meanwhile. progress is called now and
// then with the position reached; nil: nobody. It returns the number of events applied.
// Only one rebuild of a projection goes on at a time; another one is refused with ErrRebuilding.
func Rebuild(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection, progress func(position int64)) (int64, error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	defer conn.Release()
	var free bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext('rebuild'), hashtext($1))`, p.Name).Scan(&free); err != nil {
		return 0, fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	if !free {
		return 0, fmt.Errorf("rebuild %s: %w", p.Name, ErrRebuilding)
	}
	defer func() {
		end := context.WithoutCancel(ctx)
		if _, err := conn.Exec(end, `SELECT pg_advisory_unlock(hashtext('rebuild'), hashtext($1))`, p.Name); err != nil {
			_ = conn.Conn().Close(end) // the lock goes with its connection
		}
	}()
	schema := pgx.Identifier{"rebuild_" + p.Name}.Sanitize()
	if err := makeTables(ctx, pool, schema, p); err != nil {
		return 0, fmt.Errorf("rebuild %s: make tables: %w", p.Name, err)
	}
	var at int64
	var events []eventstore.Event
	flush := func() error {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return replay(ctx, tx, schema, p, events) })
		if err == nil && len(events) > 0 {
			at, events = events[len(events)-1].Position, events[:0]
			if progress != nil {
				progress(at)
			}
		}
		return err
	}
	for e, err := range store.ReadAll(ctx, 0) {
		if err != nil {
			return at, fmt.Errorf("rebuild %s: %w", p.Name, err)
		}
		if events = append(events, e); len(events) == rebuildBatch {
			if err := flush(); err != nil {
				return at, fmt.Errorf("rebuild %s: %w", p.Name, err)
			}
		}
	}
	if err := flush(); err != nil {
		return at, fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	at, err = switchOver(ctx, pool, store, schema, p, at)
	if err != nil {
		return at, fmt.Errorf("rebuild %s: switch over: %w", p.Name, err)
	}
	return at, nil
}

func makeTables(ctx context.Context, pool *pgxpool.Pool, schema string, p Projection) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+schema+` CASCADE`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE SCHEMA `+schema); err != nil {
			return err
		}
		for _, table := range p.Tables {
			name := pgx.Identifier{table}.Sanitize()
			if _, err := tx.Exec(ctx, `CREATE TABLE `+schema+`.`+name+` (LIKE read.`+name+` INCLUDING ALL)`); err != nil {
				return err
			}
		}
		return nil
	})
}

func replay(ctx context.Context, tx pgx.Tx, schema string, p Projection, events []eventstore.Event) error {
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = `+schema); err != nil {
		return err
	}
	b := newBatch(p)
	for _, e := range events {
		if err := b.add(e); err != nil {
			return err
		}
	}
	return b.send(ctx, tx)
}

// switchOver stops the live projector at its checkpoint, brings the new tables at least as far,
// and puts them in the place of the old ones.
func switchOver(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, schema string, p Projection, at int64) (int64, error) {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var live int64
		err := tx.QueryRow(ctx, `INSERT INTO read.checkpoints VALUES ($1, 0) ON CONFLICT (projection) DO UPDATE SET position = read.checkpoints.position
			RETURNING position`, p.Name).Scan(&live)
		if err != nil {
			return err
		}
		if at < live {
			var events []eventstore.Event
			for e, err := range store.ReadAll(ctx, at) {
				if err != nil {
					return err
				}
				if e.Position > live {
					break
				}
				events = append(events, e)
			}
			if err := replay(ctx, tx, schema, p, events); err != nil {
				return err
			}
			at = live
		}
		for _, table := range p.Tables {
			name := pgx.Identifier{table}.Sanitize()
			if _, err := tx.Exec(ctx, `DROP TABLE read.`+name); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `ALTER TABLE `+schema+`.`+name+` SET SCHEMA read`); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE read.checkpoints SET position = $2 WHERE projection = $1`, p.Name, at); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1`, p.Name); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DROP SCHEMA `+schema)
		return err
	})
	return at, err
}

// RetryParked applies the parked events of p again, each stream in its order. A stream whose
// first event still fails stays parked. It returns how many events were applied and how many are left.
func RetryParked(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection) (applied, left int, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// The checkpoint's lock keeps the live projector from parking more of a stream meanwhile.
		if _, err := tx.Exec(ctx, `SELECT 1 FROM read.checkpoints WHERE projection = $1 FOR UPDATE`, p.Name); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT position FROM read.parked WHERE projection = $1 ORDER BY position`, p.Name)
		if err != nil {
			return err
		}
		positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		stuck := map[eventstore.StreamID]bool{}
		for _, position := range positions {
			e, err := at(ctx, store, position)
			if err != nil {
				return err
			}
			if stuck[e.Stream] && lastWord(e) {
				if err := unpark(ctx, tx, p.Name, e.Stream); err != nil {
					return err
				}
				delete(stuck, e.Stream)
			}
			if stuck[e.Stream] {
				left++
				continue
			}
			err = pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return replay(ctx, tx, "read", p, []eventstore.Event{e}) })
			if isPoison(err) {
				stuck[e.Stream] = true
				left++
				continue
			}
			if err != nil {
				return err
			}
			applied++
			if _, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1 AND position = $2`, p.Name, position); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("retry parked events of %s: %w", p.Name, err)
	}
	return applied, left, nil
}

// at reads the one event at position.
func at(ctx context.Context, store eventstore.Store, position int64) (eventstore.Event, error) {
	for e, err := range store.ReadAll(ctx, position-1) {
		return e, err
	}
	return eventstore.Event{}, fmt.Errorf("there is no event %d", position)
}
