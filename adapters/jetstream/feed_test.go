package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func TestFollowFromAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 1200, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	for _, after := range []int64{0, 1, 700, 1199, 1200} {
		r := w.follow(t, after)
		r.has(t, after, 1200, "A")
	}
	r := w.follow(t, 1200)
	w.log.write(t, 30, "A")
	r.has(t, 1200, 1230, "A")
	all := w.follow(t, 0)
	all.has(t, 0, 1230, "A")
	all.stop()
	if m := slices.Max(all.sizes); m > 500 || m < 2 {
		t.Fatalf("batches of up to %d, want m at most 500 and m at least 2", m)
	}
}

// A follower gets every event, in order and once, through all failures of NATS.
func TestFollowAcrossTroubles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	early := w.follow(t, 0)
	total := int64(0)
	write := func(n int) {
		w.log.write(t, n, "A")
		total += int64(n)
	}
	steps := []struct {
		name string
		do   func()
	}{
		{"quiet", func() {}},
		{"stream deleted", func() {
			w.settled(t) // the relay may not have made it yet
			if err := w.JS.DeleteStream(t.Context(), jetstream.StreamName); err != nil {
				t.Error(err)
			}
		}},
		{"restart", func() { w.Stop(); write(5); w.Start(t) }},
		{"wipe", func() { w.Stop(); w.Wipe(t); write(5); w.Start(t) }},
		{"no relay", func() { stop() }},
		{"relay again", func() { stop = run(t, w.relay(t, jetstream.StreamLimits{})) }},
		{"down", func() { w.Stop() }},
		{"up", func() { w.Start(t) }},
		{"second relay", func() { run(t, w.relay(t, jetstream.StreamLimits{})) }},
		{"new epoch", func() {
			if _, err := w.epochs.Begin(t.Context(), 1, "test", total); err != nil {
				t.Error(err)
			}
			err := w.JS.DeleteStream(t.Context(), jetstream.StreamName)
			if err != nil && !errors.Is(err, njs.ErrStreamNotFound) { // a relay may be replacing it
				t.Error(err)
			}
		}},
	}
	for _, s := range steps {
		write(20)
		s.do()
		write(20)
		late := w.follow(t, total-10)
		write(3)
		early.has(t, 0, total, "A")
		late.has(t, total-13, total, "A")
		late.stop()
	}
	w.settled(t)
	if n := int64(len(early.got())); n != total {
		t.Fatalf("%d events for %d, want %v", n, total, total)
	}
}

// A stream that differs from the log must not be believed: its events never happened.
func TestStaleStreamIsNotFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 40, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop() // and no relay repairs the stream
	w.log.restore(t, 25)
	r := w.follow(t, 20)
	r.has(t, 20, 25, "A")
	w.log.write(t, 20, "B") // 26 … 45, where the stream says otherwise up to 40
	eventually(t, func() bool { return len(r.got()) >= 25 }, func() string { return fmt.Sprint(len(r.got())) })
	for _, e := range r.got()[5:] {
		if e.Stream.ID != fmt.Sprintf("01JB%d", e.Position) {
			t.Fatalf("event %d is %s, want %v", e.Position, e.Stream, fmt.Sprintf("01JB%d", e.Position))
		}
	}
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	w.log.write(t, 5, "B")
	eventually(t, func() bool { return len(r.got()) >= 30 }, func() string { return fmt.Sprint(len(r.got())) })
}

func TestRewindEndsAFollow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 40, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	r := w.follow(t, 0)
	r.has(t, 0, 40, "A")
	shorter := w.follow(t, 39)
	shorter.has(t, 39, 40, "A")
	next := &log{}
	next.store.Store(w.log.store.Load())
	next.restore(t, 25)
	next.write(t, 50, "B") // as long as before and longer
	w.log.store.Store(next.store.Load())
	for _, r := range []*reader{r, shorter} {
		<-r.done
		if !errors.Is(r.err, jetstream.ErrRewound) {
			t.Fatalf("got %v, want error %v", r.err, jetstream.ErrRewound)
		}
		for _, e := range r.got() {
			if e.Position > 40 {
				t.Fatalf("event %d was handed over after the rewind, want at most 40", e.Position)
			}
		}
	}
	ahead := w.follow(t, 1000)
	<-ahead.done
	if !errors.Is(ahead.err, jetstream.ErrRewound) {
		t.Fatalf("got %v, want error %v", ahead.err, jetstream.ErrRewound)
	}
}

func TestFollowEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 10, "A")
	f, err := jetstream.NewFeed(jetstream.FeedConfig{Store: w.log, Conn: w.Conn})
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if err := f.Follow(t.Context(), 0, func(context.Context, []eventstore.Event) error { return boom }); err != boom {
		t.Fatalf("got %v, want %v", err, boom)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := f.Follow(ctx, 0, func(context.Context, []eventstore.Event) error { cancel(); return nil }); err != nil {
		t.Fatalf("got %v", err)
	}
}

// A follower that hears of nothing and does not ask the log gets its events from the stream.
func TestTheStreamDelivers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 1, "A")
	run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	f, err := jetstream.NewFeed(jetstream.FeedConfig{Store: unannounced{w.log}, Conn: w.Conn, Poll: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan int64, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Follow(ctx, 0, func(_ context.Context, events []eventstore.Event) error {
			for _, e := range events {
				arrived <- e.Position
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	for i := range int64(100) {
		select {
		case got := <-arrived:
			if got != i+1 {
				t.Fatalf("got event %d, want %d", got, i+1)
			}
		case <-time.After(time.Minute):
			t.Fatalf("event %d did not arrive", i+1)
		}
		w.log.write(t, 1, "A")
	}
}

// unannounced is a log without notifications.
type unannounced struct{ eventstore.Store }

func (unannounced) Notifications(context.Context) <-chan struct{} { return nil }

// The stream has stopped, and only notifications wake the follower: no notification is dropped, not even one that comes
// directly after another event was delivered.
func TestHintsAloneAreEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.log.write(t, 5, "A")
	stop := run(t, w.relay(t, jetstream.StreamLimits{}))
	w.settled(t)
	stop()
	f, err := jetstream.NewFeed(jetstream.FeedConfig{Store: w.log, Conn: w.Conn, Poll: time.Hour, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var at atomic.Int64
	go func() {
		_ = f.Follow(ctx, 0, func(_ context.Context, events []eventstore.Event) error {
			at.Store(events[len(events)-1].Position)
			return nil
		})
	}()
	for n := int64(5); n < 25; n++ {
		eventually(t, func() bool { return at.Load() == n }, func() string { return fmt.Sprintf("at %d, not %d", at.Load(), n) })
		w.log.write(t, 1, "A")
	}
}
