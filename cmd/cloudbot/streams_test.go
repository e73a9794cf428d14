package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/projections"
)

// quietFeed delivers nothing, and says from where it was followed.
type quietFeed chan int64

func (f quietFeed) Follow(ctx context.Context, after int64, _ func(context.Context, []eventstore.Event) error) error {
	f <- after
	<-ctx.Done()
	return nil
}

// Event streams follow the log from where the read models are, also at a start, when those have not said it yet. They begin again
// when the read models go back.
func TestEventStreamsFollowReadModels(t *testing.T) {
	t.Parallel()
	store, progress, feed, ended := memory.New(), &projections.Progress{}, make(quietFeed), make(chan error, 1)
	event := eventstore.NewEvent{ID: "e", Type: "x", Schema: 1, Time: time.Unix(1, 0).UTC(), Data: []byte("{}")}
	write := eventstore.Write{Stream: eventstore.StreamID{Aggregate: "a", ID: "b"}, Events: []eventstore.NewEvent{event}}
	if _, err := store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{write}}); err != nil {
		t.Fatal(err)
	}
	s := eventStreams{store, feed, progress, nil, &httpapi.Server{}, slog.New(slog.DiscardHandler)}
	go func() { ended <- s.follow(t.Context()) }()
	time.Sleep(10 * time.Millisecond)
	progress.Set("history", 0) // its projector begins
	progress.Set("history", 1)
	select {
	case after := <-feed:
		if after != 1 {
			t.Fatalf("followed from %d, want 1", after)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the log is not followed")
	}
	progress.Set("history", 0)
	select {
	case err := <-ended:
		if !errors.Is(err, errWentBack) {
			t.Errorf("got %v, want %v", err, errWentBack)
		}
	case <-time.After(60 * time.Second):
		t.Error("the streams go on, want them to begin again")
	}
}
