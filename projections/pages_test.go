package projections_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/projections"
)

// counted is a store that counts the events that are read of the whole log.
type counted struct {
	eventstore.Store
	read atomic.Int64
}

func (c *counted) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.Store.ReadAll(ctx, after) {
			c.read.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// signUpMany appends the events of n accounts, each with a sign-up and a change of its password.
func signUpMany(t testing.TB, store eventstore.Store, n int) {
	t.Helper()
	for at := 0; at < n; {
		var a eventstore.Append
		for ; at < n && len(a.Writes) < eventstore.MaxAppendEvent/2; at++ {
			w := eventstore.Write{Stream: eventstore.StreamID{Aggregate: "account", ID: fmt.Sprintf("acc%06d", at)}}
			for i, e := range []account.Event{account.SignedUp{Email: []byte("e"), At: began}, account.PasswordChanged{}} {
				typ, schema, data, err := account.Codec.Encode(e)
				if err != nil {
					t.Fatal(err)
				}
				w.Events = append(w.Events, eventstore.NewEvent{ID: fmt.Sprintf("01EVENT%019d%d", at, i), Type: typ, Schema: schema, Time: began, Data: data})
			}
			a.Writes = append(a.Writes, w)
		}
		if _, err := store.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
}

// trips counts the transactions and the batches of a pool.
type trips struct{ transactions, batches, others atomic.Int64 }

func (c *trips) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	switch sql := strings.ToLower(q.SQL); {
	case strings.HasPrefix(sql, "begin"):
		c.transactions.Add(1)
	case strings.HasPrefix(sql, "commit"):
	default:
		c.others.Add(1)
	}
	return ctx
}
func (c *trips) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *trips) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.batches.Add(1)
	return ctx
}
func (c *trips) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *trips) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

// All read models that are far behind share one reading of the log, and write many events by one transaction.
func TestCatchUpCostsFewRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	store := &counted{Store: w.store}
	const events = 30_000
	signUpMany(t, store, events/2)
	config, err := pgxpool.ParseConfig(w.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	var cost trips
	config.ConnConfig.Tracer = &cost
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := projections.CatchUp(t.Context(), pool, store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	models := int64(len(projections.All()))
	pages := int64((events + projections.PageEvents - 1) / projections.PageEvents)
	if n := cost.transactions.Load(); n > models*pages {
		t.Errorf("got %d transactions for %d events, want at most %d: one for each page and read model", n, events, models*pages)
	}
	if n := cost.batches.Load(); n > 2*models*pages {
		t.Errorf("got %d batches, want at most two a transaction, %d", n, 2*models*pages)
	}
	if n := cost.others.Load(); n > models*(2+pages) {
		t.Errorf("got %d other statements, want at most %d: two for a checkpoint, one to load rows for a page", n, models*(2+pages))
	}
	if n := store.read.Load(); n > 2*events {
		t.Errorf("got %d events read, want about %d, once for all read models", n, events)
	}
	if n := w.number(`SELECT count(*) FROM read.accounts`); n != events/2 {
		t.Errorf("got %d accounts, want %d", n, events/2)
	}
	if n := w.number(`SELECT count(*) FROM read.history`); n != events {
		t.Errorf("got %d entries, want %d", n, events)
	}
}

// A reader that stands still is left behind, so what is kept is bounded. It still gets every event, in order.
func TestSlowReaderOfPages(t *testing.T) {
	t.Parallel()
	store := memory.New()
	const events = 10 * projections.PageEvents
	signUpMany(t, store, events/2)
	synctest.Test(t, func(t *testing.T) {
		pages := &projections.Pages{Store: store}
		release := make(chan struct{})
		var all sync.WaitGroup
		reader := func(each func(at int64)) {
			at := int64(0)
			err := pages.Read(t.Context(), 0, func(_ context.Context, list []*projections.Event) error {
				for _, e := range list {
					if at++; e.Position != at {
						return fmt.Errorf("got event %d, want %d", e.Position, at)
					}
				}
				if n := pages.Kept(); n > projections.KeptPages {
					t.Errorf("got %d pages kept, want at most %d", n, projections.KeptPages)
				}
				each(at)
				return nil
			})
			if err != nil || at != events {
				t.Errorf("got %v after event %d, want all %d", err, at, events)
			}
		}
		began, quick := time.Now(), time.Duration(0)
		all.Go(func() {
			first := true
			reader(func(int64) {
				if first {
					first = false
					<-release
				}
			})
		})
		synctest.Wait()
		all.Go(func() {
			reader(func(int64) {})
			quick = time.Since(began)
			close(release)
		})
		all.Wait()
		if quick > 10*time.Second { // of the bubble's time
			t.Errorf("the other reader waited %v for it, want it left behind once", quick)
		}
		if n := pages.Kept(); n != 0 {
			t.Errorf("got %d pages kept after the last reader, want none", n)
		}
	})
}

// hung is a store that answers the first reader of the log only once that gives up.
type hung struct {
	eventstore.Store
	asked chan struct{}
	once  sync.Once
}

func (h *hung) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	first := false
	h.once.Do(func() { first = true })
	if !first {
		return h.Store.ReadAll(ctx, after)
	}
	return func(yield func(eventstore.Event, error) bool) {
		close(h.asked)
		<-ctx.Done()
		yield(eventstore.Event{}, ctx.Err())
	}
}

// A reader ends with its context, also while the database does not answer it. The others do not end with it.
func TestReaderOfPagesEnds(t *testing.T) {
	t.Parallel()
	store := &hung{Store: memory.New(), asked: make(chan struct{})}
	signUpMany(t, store, 10)
	synctest.Test(t, func(t *testing.T) {
		store.asked = make(chan struct{})
		pages := &projections.Pages{Store: store}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		ended, got := false, 0
		all.Go(func() {
			if err := pages.Read(ctx, 0, func(context.Context, []*projections.Event) error { return nil }); err == nil {
				t.Error("got no error of the reader that was ended")
			}
			ended = true
		})
		<-store.asked
		all.Go(func() {
			err := pages.Read(t.Context(), 0, func(_ context.Context, list []*projections.Event) error { got += len(list); return nil })
			if err != nil {
				t.Errorf("got %v of the other reader", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !ended || got != 20 {
			t.Fatalf("ended: %v, and the other reader got %d events; want it ended and all 20", ended, got)
		}
	})
}

// near is a Feed that reports where it is followed from.
type near struct {
	*follower
	from chan int64
}

func (n near) Follow(ctx context.Context, after int64, fn func(context.Context, []eventstore.Event) error) error {
	n.from <- after
	return n.follower.Follow(ctx, after, fn)
}

// A projector reads pages while it is far behind, and follows the feed from the end.
func TestFarBehindReadsPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const events = 3 * projections.FarBehind
	signUpMany(t, w.store, events/2)
	feed := near{&follower{store: w.store}, make(chan int64, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	p := &projections.Projector{
		Projection: find(t, "accounts"), Pool: w.pool, Feed: feed, Pages: &projections.Pages{Store: w.store}, Progress: w.progress, Logger: slog.New(slog.DiscardHandler),
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	w.progress.Set("accounts", 0)
	w.caughtUp()
	if from := <-feed.from; from != events {
		t.Errorf("got the feed followed from %d, want %d", from, events)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Postgres refuses a row of a large batch: its event is parked with what follows in its stream, and the rest is applied.
func TestRefusedRowIsFoundInALargeBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const bad = "acc000777"
	p := find(t, "accounts")
	refusing, save := *p.Fold, p.Fold.Save
	refusing.Save = func(rows []any) projections.Statement {
		s := save(rows)
		for _, id := range s.Args[0].([]string) {
			if id == bad {
				return projections.Statement{SQL: `SELECT 1/0`}
			}
		}
		return s
	}
	p.Fold = &refusing
	signUpMany(t, w.store, 2000)
	w.project(p)
	w.caughtUp()
	if n := w.number(`SELECT count(*) FROM read.accounts`); n != 1999 {
		t.Errorf("got %d accounts, want 1999", n)
	}
	if n := w.number(`SELECT count(*) FROM read.parked WHERE stream = 'account/` + bad + `'`); n != 2 || w.number(`SELECT count(*) FROM read.parked`) != 2 {
		t.Errorf("got these parked, want the two events of %s: %s", bad, w.dump("parked"))
	}
}
