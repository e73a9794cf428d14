package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func TestConformancePipelined(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store {
		s := open(t, pgtest.New(t))
		s.Crowd()
		return s
	})
}

func TestTwoReplicasPipelined(t *testing.T) {
	t.Parallel()
	eventstoretest.RunShared(t, func(t *testing.T) (a, b eventstore.Store) {
		url := pgtest.New(t)
		x, y := open(t, url), open(t, url)
		x.Crowd()
		y.Crowd()
		return x, y
	})
}

// outcome is what an append gave.
type outcome struct {
	eventstore.Result
	error
}

// wire is a store whose first batch waits in the server for the log's lock, which the test holds.
type wire struct {
	t     *testing.T
	store *postgres.Store
	pool  *pgxpool.Pool
	lock  pgx.Tx
	wg    sync.WaitGroup
}

func newWire(t *testing.T, s *postgres.Store, url string) *wire {
	t.Helper()
	s.Crowd()
	w := &wire{t: t, store: s, pool: pool(t, url)}
	var err error
	if w.lock, err = w.pool.Begin(t.Context()); err == nil {
		_, err = w.lock.Exec(t.Context(), `SELECT log.begin_append()`)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// send appends in the background, and returns once that has formed batch n on the wire.
func (w *wire) send(a eventstore.Append, n int) *outcome {
	w.t.Helper()
	o := &outcome{}
	w.wg.Go(func() { o.Result, o.error = w.store.Append(context.Background(), a) })
	for deadline := time.Now().Add(time.Minute); w.store.OnTheWire() < n || w.store.Sent() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("got %d batches on the wire, want %d", w.store.OnTheWire(), n)
		}
	}
	return o
}

// release lets the server go on, after it has executed sql under the lock.
func (w *wire) release(sql string) {
	w.t.Helper()
	_, err := w.lock.Exec(context.Background(), sql)
	if err == nil {
		err = w.lock.Commit(context.Background())
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.wg.Wait()
}

func (o *outcome) want(t *testing.T, name string, first, last int64) {
	t.Helper()
	if o.error != nil || o.First != first || o.Last != last {
		t.Errorf("%s: got %+v, %v, want positions %d to %d", name, o.Result, o.error, first, last)
	}
}

// entry is SQL that another replica's append executes.
func entry(position, version int64, stream string) string {
	key := postgres.IndexKey(stream)
	return fmt.Sprintf(`INSERT INTO log.entries (position, version, time, schema, stream_key, stream, type, id, data, meta)
		VALUES (%d, %d, now(), 1, '%x', '%s', 'thing.happened', 'rival-%[1]d', '{}', '{}');`, position, version, key, stream)
}

// A batch in front is refused or not, while another one is behind it on the wire.
func TestBatchBehind(t *testing.T) {
	t.Parallel()
	usedKey := postgres.IndexKey("used")
	for name, c := range map[string]struct {
		rival       string // what another replica commits first
		front, next [2]int64
		refused     bool // the batch in front
	}{
		"both are kept": {front: [2]int64{2, 3}, next: [2]int64{4, 6}},
		// Nothing took the positions of the batch in front: without its check, the one behind would leave a gap.
		"the receipt was used": {
			rival: fmt.Sprintf(`INSERT INTO log.entries (receipt_key, receipt, request) VALUES ('%x', 'used', '')`, usedKey), refused: true, next: [2]int64{2, 4},
		},
		"another event is there":        {rival: entry(2, 1, "thing/front"), refused: true, next: [2]int64{3, 5}},
		"others took its positions":     {rival: entry(2, 1, "thing/x") + entry(3, 2, "thing/x"), front: [2]int64{7, 8}, next: [2]int64{4, 6}},
		"others took both's positions":  {rival: entry(2, 1, "thing/x") + entry(3, 2, "thing/x") + entry(4, 3, "thing/x"), front: [2]int64{5, 6}, next: [2]int64{7, 9}},
		"the one behind has a conflict": {rival: entry(2, 1, "thing/next"), front: [2]int64{3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, i := pgtest.New(t), &ids{}
			s := open(t, url)
			must(t, s, i.append("first", 0, 1))
			w := newWire(t, s, url)
			front := w.send(receipt(i.append("front", 0, 2), "used"), 1)
			next := w.send(i.append("next", 0, 3), 2)
			w.release(c.rival)
			if c.refused {
				if front.error == nil {
					t.Errorf("front: got positions %+v, want a refusal", front.Result)
				}
			} else {
				front.want(t, "front", c.front[0], c.front[1])
			}
			if c.next[0] == 0 {
				if conflict := (*eventstore.ConflictError)(nil); !errors.As(next.error, &conflict) {
					t.Errorf("behind: got %v, want a conflict", next.error)
				}
			} else {
				next.want(t, "behind", c.next[0], c.next[1])
			}
			eventstoretest.Sound(t, s)
			must(t, s, i.append("last", 0, 1)) // the connection is in order
			eventstoretest.Sound(t, s)
		})
	}
}

// Two appends to one stream are never on the wire together. The second caller waits for the first, and gets its conflict; it does
// not lead a batch that has nothing to send, so the next caller leads.
func TestOneStreamOnTheWire(t *testing.T) {
	t.Parallel()
	url, i := pgtest.New(t), &ids{}
	s := open(t, url)
	must(t, s, i.append("first", 0, 1))
	w := newWire(t, s, url)
	front := w.send(i.append("same", 0, 2), 1)
	second := &outcome{}
	w.wg.Go(func() { second.Result, second.error = s.Append(context.Background(), i.append("same", 0, 1)) })
	for deadline := time.Now().Add(time.Minute); s.Waiting() < 1 && s.OnTheWire() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("got no second caller")
		}
	}
	other := w.send(i.append("other", 0, 1), 2)
	if n := s.Waiting(); n != 1 {
		t.Errorf("got %d callers that wait, want the second one", n)
	}
	w.release(`SELECT`)
	front.want(t, "front", 2, 3)
	other.want(t, "other", 4, 4)
	if conflict := (*eventstore.ConflictError)(nil); !errors.As(second.error, &conflict) || conflict.Actual != 2 {
		t.Errorf("second: got %v, want a conflict at version 2", second.error)
	}
	eventstoretest.Sound(t, s)
}

// The connection breaks with two batches on the wire: both callers learn what became of theirs.
func TestBothRepliesLost(t *testing.T) {
	t.Parallel()
	url, i, c := pgtest.New(t), &ids{}, &cutter{}
	s := c.open(t, url)
	must(t, s, i.append("first", 0, 1))
	w := newWire(t, s, url)
	front := w.send(i.append("front", 0, 2), 1)
	next := w.send(receipt(i.append("next", 0, 1), "k"), 2)
	c.beforeReply.Store(true)
	w.release(`SELECT`)
	if front.error != nil || next.error != nil || c.cuts.Load() != 1 {
		t.Errorf("got %v, %v and %d cuts, want both kept after one", front.error, next.error, c.cuts.Load())
	}
	if log := eventstoretest.Sound(t, s); len(log) != 4 {
		t.Errorf("got %d events, want each once: 4", len(log))
	}
}

// The store is closed with two batches on the wire: no caller waits without end, and no event is there twice.
func TestClosedWithTwoOnTheWire(t *testing.T) {
	t.Parallel()
	url, i := pgtest.New(t), &ids{}
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, i.append("first", 0, 1))
	w := newWire(t, s, url)
	w.send(i.append("front", 0, 2), 1)
	w.send(i.append("next", 0, 1), 2)
	w.wg.Go(s.Close)
	w.release(`SELECT`)
	eventstoretest.Sound(t, open(t, url))
}

// halted is a log that says nothing before until is true.
type halted struct {
	slog.Handler
	until func() bool
}

func (halted) Enabled(context.Context, slog.Level) bool { return true }

func (h halted) Handle(context.Context, slog.Record) error {
	for deadline := time.Now().Add(time.Minute); !h.until() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	return nil
}

// The leader of the batch in front panics before it has read its reply. That one is kept, the one behind is not: its caller
// must not take the reply to the other one for its own.
func TestPanicInFront(t *testing.T) {
	t.Parallel()
	var s *postgres.Store
	url, i, c := pgtest.New(t), &ids{}, &cutter{trap: make(chan struct{})}
	c.log = slog.New(halted{slog.DiscardHandler, func() bool { return s.OnTheWire() == 1 }}) // the front's leader is slow to give up
	s = c.open(t, url)
	must(t, s, i.append("first", 0, 1))
	w := newWire(t, s, url)
	c.panics.Store(true)
	front := w.send(i.append("front", 0, 2), 1)
	next := w.send(receipt(i.append("next", 0, 1), "used"), 2)
	close(c.trap)
	key := postgres.IndexKey("used")
	w.release(fmt.Sprintf(`INSERT INTO log.entries (receipt_key, receipt, request) VALUES ('%x', 'used', '')`, key))
	if !errors.Is(front.error, eventstore.ErrUnavailable) {
		t.Errorf("front: got %+v, %v, want an unknown outcome", front.Result, front.error)
	}
	if used := (*eventstore.DuplicateError)(nil); !errors.As(next.error, &used) {
		t.Errorf("behind: got %+v, %v, want its receipt's key used", next.Result, next.error)
	}
	eventstoretest.Sound(t, s)
	must(t, s, i.append("last", 0, 1))
}
