package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// rebuildBatch is how many events a rebuild applies in one transaction.
const rebuildBatch = 2000

// ErrRebuilding refuses a second rebuild of a projection while the first is running.
var ErrRebuilding = errors.New("another rebuild of it is running")

// Rebuild folds the whole log into new tables beside the live ones and switches over in one transaction. The
// live projection keeps running meanwhile. Rebuild returns the position of the last event. It calls progress
// from time to time with the position reached, unless progress is nil.
//
// An event that cannot be applied is parked with the rest of its stream, as the live projector does. Events
// that were parked before and can be applied now are no longer parked.
//
// A second rebuild of the same projection is refused with ErrRebuilding. A rebuild holds one connection of the
// pool, and store needs another.
func Rebuild(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection, progress func(position int64)) (int64, error) {
	return rebuildKeeping(ctx, pool, store, p, progress, keptRows)
}

func rebuildKeeping(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, p Projection, progress func(position int64), keep int) (int64, error) {
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
	r := &rebuild{conn: conn, store: store, projection: p, schema: pgx.Identifier{"rebuild_" + p.Name}.Sanitize(), parked: map[string]bool{}}
	if err := r.makeTables(ctx); err != nil {
		return 0, fmt.Errorf("rebuild %s: make tables: %w", p.Name, err)
	}
	if err := r.fill(ctx, progress, keep); err != nil {
		return r.at, fmt.Errorf("rebuild %s: %w", p.Name, err)
	}
	if err := r.switchOver(ctx); err != nil {
		return r.at, fmt.Errorf("rebuild %s: switch over: %w", p.Name, err)
	}
	return r.at, nil
}

// rebuild is one Rebuild.
type rebuild struct {
	conn       *pgxpool.Conn
	store      eventstore.Store
	projection Projection
	schema     string
	at         int64           // position of the last event applied
	parked     map[string]bool // streams that stopped
	aside      []setAside      // for read.parked, once the tables are switched
}

// fill applies the whole log to the new tables. keep is how many rows it may fold in memory before it writes them.
func (r *rebuild) fill(ctx context.Context, progress func(position int64), keep int) error {
	err := r.foldAll(ctx, progress, keep)
	if !isPoison(err) {
		return err
	}
	// Postgres refused a row. Its event is found by applying few events at a time.
	if err := r.makeTables(ctx); err != nil {
		return err
	}
	r.at, r.parked, r.aside = 0, map[string]bool{}, nil
	return inBatches(ctx, r.store, 0, func(events []*Event) error {
		if err := pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error { return r.apply(ctx, tx, events) }); err != nil {
			return err
		}
		r.reached(events, progress)
		return nil
	})
}

// inBatches calls do with the events of the log after a position, rebuildBatch at a time.
func inBatches(ctx context.Context, store eventstore.Store, after int64, do func([]*Event) error) error {
	events := make([]eventstore.Event, 0, rebuildBatch)
	for e, err := range store.ReadAll(ctx, after) {
		if err != nil {
			return err
		}
		if events = append(events, e); len(events) == rebuildBatch {
			if err := do(eventsOf(events)); err != nil {
				return err
			}
			events = events[:0]
		}
	}
	if len(events) == 0 {
		return nil
	}
	return do(eventsOf(events))
}

// reached notes that events were applied.
func (r *rebuild) reached(events []*Event, progress func(position int64)) {
	r.at = events[len(events)-1].Position
	if progress != nil {
		progress(r.at)
	}
}

func (r *rebuild) makeTables(ctx context.Context) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+r.schema+` CASCADE`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `CREATE SCHEMA `+r.schema); err != nil {
			return err
		}
		for _, table := range r.projection.Tables {
			name := pgx.Identifier{table}.Sanitize()
			if _, err := tx.Exec(ctx, `CREATE TABLE `+r.schema+`.`+name+` (LIKE read.`+name+` INCLUDING ALL)`); err != nil {
				return err
			}
		}
		return nil
	})
}

// apply applies the events to the new tables, in halves if Postgres refuses a row. An event that cannot be applied is parked, with
// all that follow it in its stream.
func (r *rebuild) apply(ctx context.Context, tx pgx.Tx, events []*Event) error {
	f := newFolding(r.projection.Fold, maps.Clone(r.parked))
	f.aside = slices.Clone(r.aside)
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return f.apply(ctx, tx, r.schema, events) })
	switch {
	case err == nil:
		r.parked, r.aside = f.parked, f.aside
		return nil
	case !isPoison(err):
		return err
	case len(events) == 1:
		r.parked[events[0].Stream.String()] = true
		r.aside = append(r.aside, setAside{events[0], err})
		return nil
	}
	half := len(events) / 2
	if err := r.apply(ctx, tx, events[:half]); err != nil {
		return err
	}
	return r.apply(ctx, tx, events[half:])
}

// apply applies events to the tables of a schema.
func (f *folding) apply(ctx context.Context, tx pgx.Tx, schema string, events []*Event) error {
	if _, err := tx.Exec(ctx, `SET LOCAL search_path = `+schema); err != nil {
		return err
	}
	if err := f.load(ctx, tx, events); err != nil {
		return err
	}
	for _, e := range events {
		f.add(e)
	}
	s, changes := f.save()
	if !changes {
		return nil
	}
	_, err := tx.Exec(ctx, s.SQL, s.Args...)
	return blame(err)
}

// switchOver stops the live projector at its checkpoint, brings the new tables at least as far, and replaces
// the old tables with them.
func (r *rebuild) switchOver(ctx context.Context) error {
	name := r.projection.Name
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		var live int64
		err := tx.QueryRow(ctx, `INSERT INTO read.checkpoints VALUES ($1, 0) ON CONFLICT (projection) DO UPDATE SET position = read.checkpoints.position
			RETURNING position`, name).Scan(&live)
		if err != nil {
			return err
		}
		if r.at < live {
			var events []eventstore.Event
			for e, err := range r.store.ReadAll(ctx, r.at) {
				if err != nil {
					return err
				}
				if e.Position > live {
					break
				}
				events = append(events, e)
			}
			if err := r.apply(ctx, tx, eventsOf(events)); err != nil {
				return err
			}
			r.at = live
		}
		for _, table := range r.projection.Tables {
			table := pgx.Identifier{table}.Sanitize()
			if _, err := tx.Exec(ctx, `DROP TABLE read.`+table); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `ALTER TABLE `+r.schema+`.`+table+` SET SCHEMA read`); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `UPDATE read.checkpoints SET position = $2 WHERE projection = $1`, name, r.at); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM read.parked WHERE projection = $1`, name); err != nil {
			return err
		}
		for _, s := range r.aside {
			if _, err := tx.Exec(ctx, insertParked, name, s.event.Position, s.event.Stream.String(), s.why.Error()); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DROP SCHEMA `+r.schema)
		return err
	})
}
