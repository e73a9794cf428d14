package projections

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Fold keeps one row per stream of an aggregate, where the row after an event follows from the row before
// it. The events of a batch are folded in memory, between one query and one statement.
type Fold struct {
	Aggregate string
	// Load reads the rows of streams, by the streams' ids. It leaves out a stream without a row.
	Load func(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error)
	// Evolve returns the row after an event; nil: there is none. It is pure; an error parks the event.
	Evolve func(row any, e eventstore.Event) (any, error)
	// Save returns the statement that writes rows, new ones and changed ones.
	Save func(rows []any) Statement
}

// statement returns the statement that applies the events to the rows; false: no row changes.
func (f *Fold) statement(ctx context.Context, tx pgx.Tx, events []eventstore.Event) (Statement, bool, error) {
	var ids []string
	seen := make(map[string]bool, len(events))
	for _, e := range events {
		if !seen[e.Stream.ID] {
			seen[e.Stream.ID] = true
			ids = append(ids, e.Stream.ID)
		}
	}
	rows, err := f.Load(ctx, tx, ids)
	if err != nil {
		return Statement{}, false, err
	}
	for _, e := range events {
		row, err := f.Evolve(rows[e.Stream.ID], e)
		if err != nil {
			return Statement{}, false, &poison{e, err}
		}
		rows[e.Stream.ID] = row
	}
	changed := make([]any, 0, len(ids))
	for _, id := range ids {
		if row := rows[id]; row != nil {
			changed = append(changed, row)
		}
	}
	return f.Save(changed), len(changed) > 0, nil
}

// column returns a value of each row, as an array for a statement.
func column[R, T any](rows []any, value func(R) T) []T {
	values := make([]T, len(rows))
	for i, row := range rows {
		values[i] = value(row.(R))
	}
	return values
}
