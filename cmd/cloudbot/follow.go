package main

import (
	"context"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// follower follows the log and applies to this replica what any replica decided: sessions and instances that ended,
// API keys that changed.
type follower struct {
	store    *postgres.Store
	feed     *jetstream.Feed
	progress *projections.Progress
	front    *httpapi.Server
	hub      *tunnel.Hub
	log      *slog.Logger
}

func (f follower) Run(ctx context.Context) error {
	return resumed(ctx, func() error { return f.followFromHead(ctx) }, f.log.With("role", "follower"))
}

func (f follower) followFromHead(ctx context.Context) error {
	head, err := f.store.Head(ctx)
	if err != nil {
		return err
	}
	// Following ends when the log has lost events that were handed over, with or without NATS.
	if err := f.front.LogChanged(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error {
		// Once the read models have reached head, they hold everything that ended before it.
		if err := f.progress.Wait(ctx, head); err != nil {
			return err
		}
		return f.front.Preload(ctx)
	}))
	g.Go(crash.Guard(func() error {
		return f.feed.Follow(ctx, head, func(ctx context.Context, events []eventstore.Event) error {
			for _, e := range events {
				f.apply(ctx, e)
			}
			return nil
		})
	}))
	return g.Wait()
}

func (f follower) apply(ctx context.Context, e eventstore.Event) {
	switch e.Type {
	case "session.ended":
		f.front.Sessions().Ended(e.Stream.ID)
	case "account.suspended", "account.resumed":
		f.front.Sessions().Suspended(e.Stream.ID, e.Position, e.Type == "account.suspended")
	case "instance.terminated", "instance.failed":
		f.front.Instances().Ended(e.Stream.ID)
	case "apikey.stored", "apikey.removed":
		account, _, _ := strings.Cut(e.Stream.ID, "-")
		f.hub.PushKeys(ctx, account)
	}
}
