package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// keptRows is how many rows a rebuild folds in memory before it writes them: about 100 MB of instances.
const keptRows = 100_000

// foldAll folds the whole log in memory and writes each row once, or a few times if there are more than keptRows. It parks
// events that cannot be folded, as apply does. A row that Postgres refuses is blamed on no event: its error is poison, and the
// caller starts again with apply.
func (r *rebuild) foldAll(ctx context.Context, progress func(position int64), keep int) error {
	f := r.projection.Fold
	rows, spilled := map[string]any{}, false
	err := inBatches(ctx, r.store, 0, func(batch []eventstore.Event) error {
		if spilled {
			if err := r.load(ctx, rows, batch); err != nil {
				return err
			}
		}
		for n := range batch {
			for _, e := range r.sound(batch[n : n+1]) {
				if err := foldOne(f, rows, e); err != nil {
					r.park(e, err)
				}
			}
		}
		if len(rows) > keep {
			if err := r.save(ctx, rows); err != nil {
				return err
			}
			rows, spilled = map[string]any{}, true
		}
		r.reached(batch, progress)
		return nil
	})
	if err != nil {
		return err
	}
	return r.save(ctx, rows)
}

// foldOne folds an event into its row. An error is the event's own fault.
func foldOne(f *Fold, rows map[string]any, e eventstore.Event) error {
	if e.Damage != nil {
		return newBatch(Projection{}).add(e)
	}
	if e.Stream.Aggregate != f.Aggregate {
		return nil
	}
	row, err := f.Evolve(rows[e.Stream.ID], e)
	if err != nil {
		return &poison{e, err}
	}
	if row != nil {
		rows[e.Stream.ID] = row
	}
	return nil
}

// load reads the rows of the events' streams that were written before.
func (r *rebuild) load(ctx context.Context, rows map[string]any, events []eventstore.Event) error {
	var missing []string
	asked := map[string]bool{}
	for _, e := range events {
		if _, known := rows[e.Stream.ID]; !known && !asked[e.Stream.ID] && e.Stream.Aggregate == r.projection.Fold.Aggregate {
			asked[e.Stream.ID] = true
			missing = append(missing, e.Stream.ID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return r.inSchema(ctx, func(tx pgx.Tx) error {
		found, err := r.projection.Fold.Load(ctx, tx, missing)
		for id, row := range found {
			rows[id] = row
		}
		return err
	})
}

// save writes rows, a part at a time.
func (r *rebuild) save(ctx context.Context, rows map[string]any) error {
	part := make([]any, 0, rebuildBatch)
	write := func() error {
		if len(part) == 0 {
			return nil
		}
		s := r.projection.Fold.Save(part)
		err := r.inSchema(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, s.SQL, s.Args...)
			return err
		})
		part = part[:0]
		return blame(eventstore.Event{}, err)
	}
	for _, row := range rows {
		if part = append(part, row); len(part) == rebuildBatch {
			if err := write(); err != nil {
				return err
			}
		}
	}
	return write()
}

// inSchema runs do on the new tables. Its commit does not wait for the disk: switchOver's does.
func (r *rebuild) inSchema(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL search_path = `+r.schema); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
		return do(tx)
	})
}
