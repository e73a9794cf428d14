package main

import (
	"context"
	"log/slog"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventStreams hands the log's events to the front's open event streams, once the read models have them: a client that hears
// of a change can read it.
type eventStreams struct {
	feed     *jetstream.Feed
	progress *projections.Progress
	pool     projections.DB
	front    *httpapi.Server
	log      *slog.Logger
}

func (s eventStreams) Run(ctx context.Context) error {
	return resumed(ctx, func() error { return s.follow(ctx) }, s.log.With("role", "event streams"))
}

func (s eventStreams) follow(ctx context.Context) error {
	live := &projections.Live{Pool: s.pool}
	at := s.progress.Position()
	s.front.StreamsFrom(at)
	return s.feed.Follow(ctx, at, func(ctx context.Context, batch []eventstore.Event) error {
		last := batch[len(batch)-1].Position
		if err := s.progress.Wait(ctx, last); err != nil {
			return err
		}
		var list []projections.Owned
		open, joins := s.front.Streaming()
		if open {
			var err error
			if list, err = live.Entries(ctx, batch, s.front.StreamsTo); err != nil {
				return err
			}
		}
		s.front.Happened(list, last, joins)
		return nil
	})
}
