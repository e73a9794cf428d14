package projections

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
)

// keptRows is how many rows a rebuild folds in memory before it writes them: about 100 MB of instances.
const keptRows = 100_000

// foldAll folds the whole log in memory and writes each row once, or a few times if there are more than keptRows. It parks
// events that cannot be folded, as apply does. A row that Postgres refuses is blamed on no event: its error is poison, and the
// caller starts again with apply.
func (r *rebuild) foldAll(ctx context.Context, progress func(position int64), keep int) error {
	f := newFolding(r.projection.Fold, nil)
	spilled := false
	err := inBatches(ctx, r.store, 0, func(events []*Event) error {
		if spilled {
			if err := r.inSchema(ctx, func(tx pgx.Tx) error { return f.load(ctx, tx, events) }); err != nil {
				return err
			}
		}
		for _, e := range events {
			f.add(e)
		}
		if f.size() > keep {
			if err := r.save(ctx, f); err != nil {
				return err
			}
			f.forget()
			spilled = true
		}
		r.reached(events, progress)
		return nil
	})
	if err != nil {
		return err
	}
	r.parked, r.aside = f.parked, f.aside
	return r.save(ctx, f)
}

// save writes the rows, a part at a time.
func (r *rebuild) save(ctx context.Context, f *folding) error {
	for part := range slices.Chunk(f.changedRows(), rebuildBatch) {
		s := f.fold.Save(part)
		err := r.inSchema(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, s.SQL, s.Args...)
			return err
		})
		if err != nil {
			return blame(err)
		}
	}
	return nil
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
