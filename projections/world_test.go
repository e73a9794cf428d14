package projections_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/projections"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// world is a log, read models on a database of their own, and a reader.
type world struct {
	t        testing.TB
	pool     *pgxpool.Pool
	store    eventstore.Store
	feed     projections.Feed
	progress *projections.Progress
	reader   *projections.Reader
	parked   atomic.Int64
	ids      atomic.Int64
}

var began = time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)

func newWorld(t testing.TB) *world {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := &world{t: t, pool: pool, store: memory.New(), progress: &projections.Progress{}}
	w.feed = &follower{store: w.store}
	w.reader = &projections.Reader{Pool: pool, Open: open, NameLabel: label, AddressLabel: addressLabel, Progress: w.progress}
	return w
}

// open replaces a vault: it removes what seal added.
func open(_ context.Context, account, label string, sealed []byte) ([]byte, error) {
	prefix := "sealed for " + account + " as " + label + ": "
	if len(sealed) < len(prefix) || string(sealed[:len(prefix)]) != prefix {
		return nil, fmt.Errorf("does not open: %q", sealed)
	}
	return sealed[len(prefix):], nil
}

func seal(account, label, plain string) []byte {
	return []byte("sealed for " + account + " as " + label + ": " + plain)
}

func label(id string) string { return "name of " + id }

func addressLabel(id string) string { return "address of " + id }

// follower is a Feed over a store, which can be made to misbehave.
type follower struct {
	store  eventstore.Store
	tamper func([]eventstore.Event) []eventstore.Event // nil: deliver as it is
	mu     sync.Mutex
	begun  int
}

func (f *follower) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	f.mu.Lock()
	f.begun++
	f.mu.Unlock()
	notifications := f.store.Notifications(ctx)
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		var batch []eventstore.Event
		for e, err := range f.store.ReadAll(ctx, after) {
			if err != nil {
				return err
			}
			if batch = append(batch, e); len(batch) == 100 {
				break
			}
		}
		if len(batch) > 0 {
			after = batch[len(batch)-1].Position
			if f.tamper != nil {
				batch = f.tamper(batch)
			}
			if err := fn(ctx, batch); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-notifications:
		case <-poll.C:
		}
	}
}

func (f *follower) times() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.begun
}

// project lets the projections run until the test ends or the returned function is called.
func (w *world) project(list ...projections.Projection) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	for _, p := range list {
		projector := &projections.Projector{
			Projection: p, Pool: w.pool, Feed: w.feed, Progress: w.progress, Logger: slog.New(slog.DiscardHandler),
			Parked: func(string) { w.parked.Add(1) },
		}
		w.progress.Set(p.Name, 0)
		wg.Go(func() {
			if err := projector.Run(ctx); err != nil {
				w.t.Errorf("projector: %v", err)
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	w.t.Cleanup(stop)
	return stop
}

// write is an event on its way into the log.
type write struct {
	stream eventstore.StreamID
	typ    string
	schema int
	data   []byte
}

// encoded makes writes of domain events.
func encoded[E any](w *world, aggregate, id string, encode func(E) (string, int, []byte, error), events ...E) (list []write) {
	w.t.Helper()
	for _, e := range events {
		typ, schema, data, err := encode(e)
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, write{eventstore.StreamID{Aggregate: aggregate, ID: id}, typ, schema, data})
	}
	return list
}

// append writes to the log, each event an append of its own a second after the one before, and returns the head.
func (w *world) append(writes ...write) (head int64) {
	w.t.Helper()
	for _, x := range writes {
		head = w.appendAt(began.Add(time.Duration(w.ids.Load()+1)*time.Second), x)
	}
	return head
}

// appendAt writes one event of that time.
func (w *world) appendAt(at time.Time, x write) (head int64) {
	w.t.Helper()
	var version int64
	for e, err := range w.store.ReadStream(w.t.Context(), x.stream, 0) {
		if err != nil {
			w.t.Fatal(err)
		}
		version = e.Version
	}
	res, err := w.store.Append(w.t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: x.stream, Expected: version, Events: []eventstore.NewEvent{{
		ID: fmt.Sprintf("01EVENT%020d", w.ids.Add(1)), Type: x.typ, Schema: x.schema, Time: at, Data: json.RawMessage(x.data),
		Meta: eventstore.Metadata{Actor: "ada", ClientAddr: "192.0.2.7"},
	}}}}})
	if err != nil {
		w.t.Fatal(err)
	}
	return res.Last
}

// caughtUp waits until every projection that runs has the whole log.
func (w *world) caughtUp() {
	w.t.Helper()
	head, err := w.store.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 60*time.Second)
	defer cancel()
	if err := w.progress.Wait(ctx, head); err != nil {
		w.t.Fatalf("got the projections at %d, want %d: %v", w.progress.Position(), head, err)
	}
}

// dump gives a table's rows as text, in order.
func (w *world) dump(table string) string {
	w.t.Helper()
	var text string
	err := w.pool.QueryRow(w.t.Context(), `SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r::text COLLATE "C"), '') FROM read.`+table+` r`).Scan(&text)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) dumps() (all string) {
	for _, p := range projections.All() {
		for _, table := range p.Tables {
			all += table + ":\n" + w.dump(table) + "\n"
		}
	}
	return all
}

// same compares two dumps and shows the first difference.
func same(t testing.TB, got, want string) {
	t.Helper()
	x, y := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(x), len(y)) {
		if i >= len(x) || i >= len(y) || x[i] != y[i] {
			t.Errorf("row %d of %d and %d: got\n%s\nwant\n%s", i, len(x), len(y), strings.Join(x[min(i, len(x)):min(i+1, len(x))], ""), strings.Join(y[min(i, len(y)):min(i+1, len(y))], ""))
			return
		}
	}
}

func (w *world) number(query string, args ...any) (n int64) {
	w.t.Helper()
	if err := w.pool.QueryRow(w.t.Context(), query, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}
