package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// newReader returns the reader of the read models, and the progress that its projectors report to.
func newReader(pool projections.DB, vault *secrets.Vault) (*projections.Reader, *projections.Progress) {
	progress := &projections.Progress{}
	return &projections.Reader{
		Pool: pool, Open: vault.Open, Unlock: vault.Unlock, NameLabel: commands.NameLabel, AddressLabel: commands.AddressLabel, Progress: progress,
	}, progress
}

// projectors are the roles that keep the read models up to date. parked is called for each event set aside.
func projectors(
	pool projections.DB, store eventstore.Store, feed *jetstream.Feed, progress *projections.Progress, parked func(projection string), log *slog.Logger,
) (list []role) {
	pages := &projections.Pages{Store: store}
	for _, p := range projections.All() {
		list = append(list, role{"projection " + p.Name, &projections.Projector{
			Projection: p, Pool: pool, Feed: feed, Pages: pages, Progress: progress, Logger: log, Parked: parked,
		}})
	}
	return list
}

// caughtUp returns a probe that fails while the read models are far behind the head of the log.
func caughtUp(store *postgres.Store, progress *projections.Progress) func(context.Context) error {
	return func(ctx context.Context) error {
		head, err := store.Head(ctx)
		if err != nil {
			return err
		}
		if head > 0 { // at a start, until the read models have said where they are
			_ = progress.Wait(ctx, 1)
		}
		if at := progress.Position(); head-at > farBehind || at == 0 && head > 0 {
			return fmt.Errorf("the read models are more than %d events behind, or have not started", farBehind)
		}
		return nil
	}
}

// readModelsMove returns a probe that fails while the slowest read model makes no progress although the log is ahead
// of it.
func readModelsMove(store *postgres.Store, progress *projections.Progress) func(context.Context) error {
	var s standstill
	return func(ctx context.Context) error {
		head, err := store.Head(ctx)
		if err != nil {
			return err
		}
		return s.look(time.Now(), progress.Position(), head)
	}
}

// farBehind is the number of events that the read models may lag; beyond it, queries show a state too old to use.
const farBehind = 10_000

// standPatience is how long the read models may stand still although there are events for them.
const standPatience = 30 * time.Second

// standstill remembers since when the read models have been at one position with events to come.
type standstill struct {
	at    int64
	since time.Time
}

func (s *standstill) look(now time.Time, at, head int64) error {
	if at != s.at || at >= head || s.since.IsZero() {
		s.at, s.since = at, now
	}
	if now.Sub(s.since) > standPatience {
		return fmt.Errorf("a read model has been at event %d since %s, although the log has more", at, s.since.UTC().Format(time.RFC3339))
	}
	return nil
}
