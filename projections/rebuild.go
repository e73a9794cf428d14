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
	rows       []parkedRow     // for read.parked, once the tables are switched
}

type parkedRow struct {
	position      int64
	stream, cause string
}

// fill applies the whole log to the new tables. keep is how many rows it may fold in memory before it writes them.
func (r *rebuild) fill(ctx context.Context, progress func(position int64), keep int) error {
	if r.projection.Fold != nil {
		err := r.foldAll(ctx, progress, keep)
		if !isPoison(err) {
			return err
		}
		if err := r.makeTables(ctx); err != nil {
			return err
		}
		r.at, r.parked, r.rows = 0, map[string]bool{}, nil
	}
	return inBatches(ctx, r.store, 0, func(events []eventstore.Event) error {
		if err := pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error { return r.apply(ctx, tx, events) }); err != nil {
			return err
		}
		r.reached(events, progress)
		return nil
	})
}

// reached notes that events were applied.
func (r *rebuild) reached(events []eventstore.Event, progress func(position int64)) {
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

// apply applies the events to the new tables. An event that cannot be applied is parked, with all that follow
// it in its stream.
func (r *rebuild) apply(ctx context.Context, tx pgx.Tx, events []eventstore.Event) error {
	rows, parked := slices.Clone(r.rows), maps.Clone(r.parked)
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return replay(ctx, tx, r.schema, r.projection, r.sound(events)) })
	if !isPoison(err) {
		return err
	}
	r.rows, r.parked = rows, parked
	for _, e := range events { // one by one, to park the poisonous ones alone
		for _, e := range r.sound([]eventstore.Event{e}) {
			err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return replay(ctx, tx, r.schema, r.projection, []eventstore.Event{e}) })
			if isPoison(err) {
				r.park(e, err)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// sound returns the events of streams that are not parked, and parks the others.
func (r *rebuild) sound(events []eventstore.Event) []eventstore.Event {
	if len(r.parked) == 0 {
		return events
	}
	var rest []eventstore.Event
	for _, e := range events {
		if r.parked[e.Stream.String()] && lastWord(e) {
			r.unpark(e.Stream.String())
		}
		if r.parked[e.Stream.String()] {
			r.park(e, errBehindParked)
		} else {
			rest = append(rest, e)
		}
	}
	return rest
}

func (r *rebuild) park(e eventstore.Event, why error) {
	stream := e.Stream.String()
	r.parked[stream] = true
	r.rows = append(r.rows, parkedRow{e.Position, stream, why.Error()})
}

// unpark lets a stream continue.
func (r *rebuild) unpark(stream string) {
	delete(r.parked, stream)
	r.rows = slices.DeleteFunc(r.rows, func(row parkedRow) bool { return row.stream == stream })
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
			if err := r.apply(ctx, tx, events); err != nil {
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
		for _, row := range r.rows {
			if _, err := tx.Exec(ctx, `INSERT INTO read.parked (projection, position, stream, error) VALUES ($1, $2, $3, $4)`,
				name, row.position, row.stream, row.cause); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DROP SCHEMA `+r.schema)
		return err
	})
}
