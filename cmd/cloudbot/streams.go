package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventStreams hands the log's events to the front's open event streams, once the read models have them: a client that hears
// of a change can read it.
type eventStreams struct {
	store    eventstore.Store
	feed     projections.Feed
	progress *projections.Progress
	pool     projections.DB
	front    *httpapi.Server
	log      *slog.Logger
}

func (s eventStreams) Run(ctx context.Context) error {
	return resumed(ctx, func() error { return s.follow(ctx) }, s.log.With("role", "event streams"))
}

// errWentBack says that the read models have lost events that were handed over, as after a crash of Postgres.
var errWentBack = errors.New("the read models went back")

func (s eventStreams) follow(ctx context.Context) error {
	// At a start, the read models have not said yet where they are. Without waiting, the whole log would be followed.
	head, err := s.store.Head(ctx)
	if err != nil {
		return err
	}
	if err := s.progress.Wait(ctx, head); err != nil {
		return err
	}
	live := &projections.Live{Pool: s.pool}
	at := s.progress.Position()
	s.front.StreamsFrom(at)
	var handed atomic.Int64
	handed.Store(at)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		defer crash.Logged(s.log, "event streams")
		s.watch(ctx, &handed, cancel)
	}()
	err = s.feed.Follow(ctx, at, func(ctx context.Context, batch []eventstore.Event) error {
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
		handed.Store(last)
		return nil
	})
	if errors.Is(context.Cause(ctx), errWentBack) {
		return errWentBack
	}
	return err
}

// watch calls cancel when the read models are behind what was handed over: streams that begin then would miss events.
func (s eventStreams) watch(ctx context.Context, handed *atomic.Int64, cancel func(error)) {
	for ctx.Err() == nil {
		at, changed := s.progress.Changed()
		if at < handed.Load() {
			cancel(errWentBack)
			return
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}
