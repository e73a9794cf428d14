package projections

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// CatchUp brings all read models to the current head of the log, for a tool that reads them. It is safe
// beside a running server, and needed where none runs.
func CatchUp(ctx context.Context, pool *pgxpool.Pool, store eventstore.Store, log *slog.Logger) error {
	pages := &Pages{Store: store}
	g, ctx := errgroup.WithContext(ctx)
	for _, projection := range All() {
		p := &Projector{Projection: projection, Pool: pool, Pages: pages, Progress: &Progress{}, Logger: log}
		g.Go(crash.Guard(func() error {
			for {
				at, err := p.checkpoint(ctx)
				if err != nil {
					return err
				}
				err = pages.follow(ctx, at, func(ctx context.Context, events []*Event) error {
					_, err := p.apply(ctx, events)
					return err
				})
				if !errors.Is(err, errGap) { // a running server moved the checkpoint: start again from it
					return err
				}
			}
		}))
	}
	return g.Wait()
}
