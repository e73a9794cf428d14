package projections

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// CatchUp brings all read models to the current head of the log, for a tool that reads them. It is safe
// beside a running server, and needed where none runs.
func CatchUp(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pages := &Pages{Store: store}
	var all sync.WaitGroup
	for _, projection := range All() {
		p := &Projector{Projection: projection, Pool: pool, Pages: pages, Progress: &Progress{}, Logger: log}
		all.Go(func() {
			if err := crash.Guard(func() error { return p.catchUp(ctx) })(); err != nil {
				cancel(err) // the first error counts
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// catchUp brings the read model to the head of the log.
func (p *Projector) catchUp(ctx context.Context) error {
	for {
		at, err := p.checkpoint(ctx)
		if err != nil {
			return err
		}
		err = p.Pages.follow(ctx, at, func(ctx context.Context, events []*Event) error {
			_, err := p.apply(ctx, events)
			return err
		})
		if !errors.Is(err, errGap) { // a running server moved the checkpoint: start again from it
			return err
		}
	}
}
