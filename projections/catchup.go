package projections

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// CatchUp brings all read models to the current head of the log, for a tool that reads them. It is safe
// beside a running server, and needed where none runs.
func CatchUp(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, log *slog.Logger) error {
	for _, projection := range All() {
		p := &Projector{Projection: projection, Pool: pool, Feed: once{store}, Progress: &Progress{}, Logger: log}
		for {
			err := p.follow(ctx)
			if err == nil {
				break
			}
			if !errors.Is(err, errGap) { // a running server moved the checkpoint: start again from it
				return err
			}
		}
	}
	return nil
}

// once is a Feed that ends at the head.
type once struct{ store eventstore.Store }

func (f once) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	return inBatches(ctx, f.store, after, func(events []eventstore.Event) error { return fn(ctx, events) })
}

// inBatches calls do with the events of the log after a position, rebuildBatch at a time. do must not keep the slice.
func inBatches(ctx context.Context, store eventstore.Store, after int64, do func([]eventstore.Event) error) error {
	events := make([]eventstore.Event, 0, rebuildBatch)
	for e, err := range store.ReadAll(ctx, after) {
		if err != nil {
			return err
		}
		if events = append(events, e); len(events) == rebuildBatch {
			if err := do(events); err != nil {
				return err
			}
			events = events[:0]
		}
	}
	if len(events) == 0 {
		return nil
	}
	return do(events)
}
