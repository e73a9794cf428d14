package jetstream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// world is a log, a NATS and the epochs beside the log.
type world struct {
	*natstest.Server
	log    *log
	epochs *epochs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Server: natstest.New(t), log: &log{}, epochs: &epochs{n: 1}}
	w.log.store.Store(memory.New())
	return w
}

// log is a store that can be replaced under its users, as a restored backup does.
type log struct{ store atomic.Pointer[memory.Store] }

func (l *log) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	return l.store.Load().Append(ctx, a)
}
func (l *log) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return l.store.Load().ReadStream(ctx, s, after)
}
func (l *log) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return l.store.Load().ReadAll(ctx, after)
}
func (l *log) Version(ctx context.Context, s eventstore.StreamID) (int64, error) {
	return l.store.Load().Version(ctx, s)
}
func (l *log) Receipt(ctx context.Context, key string) (*eventstore.Receipt, error) {
	return l.store.Load().Receipt(ctx, key)
}
func (l *log) Head(ctx context.Context) (int64, error) { return l.store.Load().Head(ctx) }
func (l *log) Notifications(ctx context.Context) <-chan struct{} {
	return l.store.Load().Notifications(ctx)
}

// write appends events numbered from the head on; the flavour goes into ids and data.
func (l *log) write(t testing.TB, n int, flavour string) {
	t.Helper()
	ctx := context.Background()
	for range n {
		head, err := l.Head(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		stream := eventstore.StreamID{Aggregate: "instance", ID: fmt.Sprintf("01J%s%d", flavour, head+1)}
		_, err = l.Append(ctx, eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Events: []eventstore.NewEvent{{
			ID: fmt.Sprintf("%s-%d", flavour, head+1), Type: "instance.requested", Schema: 1, Time: time.Unix(1700000000+head, 0).UTC(),
			Data: json.RawMessage(fmt.Sprintf(`{"n": %d, "html":"<b>"}`, head+1)),
			Meta: eventstore.Metadata{Actor: "someone", ClientAddr: "192.0.2.7"},
		}}}}})
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// restore replaces the log by its first n events, as a backup would.
func (l *log) restore(t testing.TB, n int64) {
	t.Helper()
	old := memory.New()
	for e, err := range l.ReadAll(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Position > n {
			break
		}
		_, err := old.Append(context.Background(), eventstore.Append{Writes: []eventstore.Write{{Stream: e.Stream, Expected: e.Version - 1, Events: []eventstore.NewEvent{e.NewEvent}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	l.store.Store(old)
}

// epochs is the small working fake of the Postgres table.
type epochs struct {
	mu sync.Mutex
	n  int
	at int64
}

func (e *epochs) Current(context.Context) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.n, nil
}

func (e *epochs) Begin(_ context.Context, old int, _ string, at int64) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n <= old {
		e.n, e.at = old+1, at
	}
	return e.n, nil
}

func (w *world) relay(t *testing.T, limits jetstream.StreamLimits) *jetstream.Relay {
	t.Helper()
	r, err := jetstream.NewRelay(jetstream.RelayConfig{
		Store: w.log, Conn: w.Conn, Epochs: w.epochs, Environment: "test", Limits: limits,
		Poll: 20 * time.Millisecond, Logger: logTo(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs a relay until the returned function is called, or the test ends.
func run(t *testing.T, r *jetstream.Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// settled waits until stream and log are the same.
func (w *world) settled(t *testing.T) jetstream.Counts {
	t.Helper()
	var c jetstream.Counts
	var err error
	eventually(t, func() bool {
		c, err = jetstream.Check(t.Context(), w.log, w.Conn)
		return err == nil && c.Log == c.Stream && c.Missing+c.Extra+c.Different == 0
	}, func() string { return fmt.Sprintf("%+v, %v", c, err) })
	return c
}

func (w *world) epochOfStream(t *testing.T) string {
	t.Helper()
	s, err := w.JS.Stream(t.Context(), jetstream.StreamName)
	if err != nil {
		return "" // between two streams
	}
	return s.CachedInfo().Config.Metadata["cloudbot.epoch"]
}

func eventually(t testing.TB, ok func() bool, what func() string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting: %s", what())
		}
	}
}

// reader collects what a Follow delivers.
type reader struct {
	mu     sync.Mutex
	events []eventstore.Event
	sizes  []int
	err    error
	done   chan struct{}
	stop   func()
}

func (w *world) follow(t *testing.T, after int64) *reader {
	t.Helper()
	f, err := jetstream.NewFeed(jetstream.FeedConfig{Store: w.log, Conn: w.Conn, Poll: 100 * time.Millisecond, Logger: logTo(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = f.Follow(ctx, after, func(_ context.Context, events []eventstore.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, events...)
			r.sizes = append(r.sizes, len(events))
			return nil
		})
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-r.done
	})
	t.Cleanup(r.stop)
	return r
}

func (r *reader) got() []eventstore.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// has waits for events from+1 … to and makes sure that nothing else came.
func (r *reader) has(t *testing.T, from, to int64, flavour string) {
	t.Helper()
	eventually(t, func() bool { return int64(len(r.got())) >= to-from }, func() string {
		return fmt.Sprintf("%d of %d events", len(r.got()), to-from)
	})
	for i, e := range r.got() {
		n := from + int64(i) + 1
		if e.Position != n || e.Stream.ID != fmt.Sprintf("01J%s%d", flavour, n) || string(e.Data) != fmt.Sprintf(`{"n": %d, "html":"<b>"}`, n) {
			t.Fatalf("event %d is %+v, want e.Position %v, e.Stream.ID %v and string(e.Data) %v", n, e, n, fmt.Sprintf("01J%s%d", flavour, n), fmt.Sprintf(`{"n": %d, "html":"<b>"}`, n))
		}
	}
}

func logTo(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(&tester{t: t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// tester writes to the test's log for as long as that is allowed.
type tester struct{ t *testing.T }

func (w *tester) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}
