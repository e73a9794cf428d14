package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store { return open(t, pgtest.New(t)) })
}

func TestConformanceSlowPath(t *testing.T) {
	t.Parallel()
	eventstoretest.Run(t, func(t *testing.T) eventstore.Store {
		s := open(t, pgtest.New(t))
		s.AlwaysSlowPath()
		return s
	})
}

func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	eventstoretest.RunShared(t, func(t *testing.T) (a, b eventstore.Store) {
		url := pgtest.New(t)
		return open(t, url), open(t, url)
	})
}

// Only the append path writes to the log, and nothing changes it: this binds its owner too.
func TestOnlyAppendsWrite(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s, p := open(t, url), pool(t, url)
	must(t, s, receipt((&ids{}).append("a", 0, 1), "k"))
	for _, sql := range []string{
		`INSERT INTO log.entries (position, version, time, schema, stream, type, id, data, meta)
			VALUES (2, 1, now(), 1, 'thing/b', 't', 'x', '{}', '{}')`,
		`INSERT INTO log.entries (position, receipt, request) VALUES (NULL, 'other', '')`,
		`UPDATE log.entries SET data = '{"forged":true}'`,
		`DELETE FROM log.entries`,
		`TRUNCATE log.entries`,
		`UPDATE log.events SET type = 'forged'`,
		`DELETE FROM log.events`,
		`DELETE FROM log.receipts`,
	} {
		_, err := p.Exec(t.Context(), sql)
		if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.Code != "42501" {
			t.Errorf("%s: got %v, want code 42501", sql, err)
		}
	}
	if log := eventstoretest.Sound(t, s); len(log) != 1 || string(log[0].Data) != `{}` {
		t.Fatalf("got log %v, want the one event as it was", log)
	}
}

// The reply to a commit is lost: the caller still learns that it was kept, and at which positions.
func TestReplyLost(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3} { // events: receipt only, INSERT, COPY
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			i, c := &ids{}, &cutter{}
			s := c.open(t, pgtest.New(t))
			must(t, s, i.append("first", 0, 1))
			a := receipt(eventstore.Append{}, "k")
			want := eventstore.Result{}
			if n > 0 {
				a, want = receipt(i.append("a", 0, n), "k"), eventstore.Result{First: 2, Last: int64(n) + 1}
			}
			c.beforeReply.Store(true)
			if got := must(t, s, a); got != want {
				t.Errorf("got positions %v, want %v", got, want)
			}
			c.beforeSend.Store(true)
			must(t, s, receipt(i.append("b", 0, 1), "l"))
			if c.cuts.Load() != 2 {
				t.Errorf("got %d cut connections, want 2", c.cuts.Load())
			}
			_, err := s.Append(t.Context(), a)
			if dup := (*eventstore.DuplicateError)(nil); !errors.As(err, &dup) || dup.Receipt.Position != want.Last {
				t.Errorf("the retry: got %v, want a duplicate of position %d", err, want.Last)
			}
			if log := eventstoretest.Sound(t, s); len(log) != n+2 {
				t.Errorf("got %d events, want %v", len(log), n+2)
			}
		})
	}
}

// Another writer's event at the expected version is a conflict, also after a broken connection.
func TestReplyLostAfterLosing(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	i, c := &ids{}, &cutter{}
	s, rival := c.open(t, url), open(t, url)
	must(t, rival, i.append("a", 0, 1))
	c.beforeReply.Store(true)
	_, err := s.Append(t.Context(), i.append("a", 0, 1))
	if conflict := (*eventstore.ConflictError)(nil); !errors.As(err, &conflict) || conflict.Actual != 1 {
		t.Fatalf("got %v, want a conflict at version 1", err)
	}
}

// Connections break again and again under load, and every append happens exactly once.
func TestCutsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, crowd := range []bool{false, true} {
		t.Run(fmt.Sprintf("crowd=%v", crowd), func(t *testing.T) {
			t.Parallel()
			cutUnderLoad(t, crowd)
		})
	}
}

func cutUnderLoad(t *testing.T, crowd bool) {
	i, c := &ids{}, &cutter{}
	s := c.open(t, pgtest.New(t))
	if crowd {
		s.Crowd()
	}
	const callers, each = 8, 60
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for n := range each {
				if done.Add(1)%29 == 0 {
					c.beforeReply.Store(n%2 == 0)
					c.beforeSend.Store(n%2 == 1)
				}
				a := receipt(i.append(fmt.Sprintf("w%d", w), int64(n), 1), fmt.Sprintf("%d/%d", w, n))
				for try := 0; ; try++ {
					_, err := s.Append(t.Context(), a)
					var dup *eventstore.DuplicateError
					if err == nil || errors.As(err, &dup) {
						break
					}
					// A cut may hit a look-up, too; the receipt makes trying again safe.
					if !errors.Is(err, eventstore.ErrUnavailable) || try > 20 {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	c.beforeReply.Store(false)
	c.beforeSend.Store(false)
	if log := eventstoretest.Sound(t, s); len(log) != callers*each {
		t.Fatalf("got %d events, want %d", len(log), callers*each)
	}
	if c.cuts.Load() == 0 {
		t.Fatal("got no cut connection, want some")
	}
	t.Logf("%d cuts", c.cuts.Load())
}

// Two replicas, one append in ten to a stream that all fight over: only those may fail.
func TestReplicasRace(t *testing.T) {
	t.Parallel()
	for _, crowd := range []bool{false, true} {
		t.Run(fmt.Sprintf("crowd=%v", crowd), func(t *testing.T) {
			t.Parallel()
			race(t, crowd)
		})
	}
}

func race(t *testing.T, crowd bool) {
	url := pgtest.New(t)
	i, replicas := &ids{}, []*postgres.Store{open(t, url), open(t, url)}
	if crowd {
		replicas[0].Crowd()
		replicas[1].Crowd()
	}
	var won, lost, others atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		s := replicas[w%2]
		wg.Go(func() {
			for n := range 50 {
				if n%10 != 9 {
					k := n - n/10
					if _, err := s.Append(t.Context(), receipt(i.append(fmt.Sprintf("w%d-%d", w, k/3), int64(k%3), 1), fmt.Sprintf("%d/%d", w, n))); err != nil {
						t.Errorf("a neighbour: got %v, want no error", err)
					}
					others.Add(1)
					continue
				}
				_, err := s.Append(t.Context(), i.append("contended", won.Load(), 1))
				var conflict *eventstore.ConflictError
				switch {
				case err == nil:
					won.Add(1)
				case errors.As(err, &conflict):
					lost.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	log := eventstoretest.Sound(t, replicas[0])
	if int64(len(log)) != won.Load()+others.Load() {
		t.Fatalf("got %d events, want the %d + %d acknowledged", len(log), won.Load(), others.Load())
	}
	t.Logf("%d won, %d lost, %d others", won.Load(), lost.Load(), others.Load())
}

// After a restore the log is shorter than the store remembers. What it remembered must not leave
// a gap in a stream.
func TestRestoredLog(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	i, s, p := &ids{}, open(t, url), pool(t, url)
	must(t, s, i.append("a", 0, 3))
	for _, sql := range []string{
		`ALTER TABLE log.entries DISABLE TRIGGER never_change`,
		`DELETE FROM log.entries WHERE position > 1`,
		`ALTER TABLE log.entries ENABLE TRIGGER never_change`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'cloudbot append'`,
	} {
		if _, err := p.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Append(t.Context(), i.append("a", 3, 1))
	if conflict := (*eventstore.ConflictError)(nil); !errors.As(err, &conflict) || conflict.Actual != 1 {
		t.Fatalf("got %v, want a conflict at version 1", err)
	}
	must(t, s, i.append("a", 1, 1))
	eventstoretest.Sound(t, s)
}

// Nothing is kept of a caller that gives up while another transaction holds the log.
func TestCallerLeavesTheQueue(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	i, s, p := &ids{}, open(t, url), pool(t, url)
	tx, err := p.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SELECT log.begin_append()`); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Append(t.Context(), i.append("a", 0, 2)); err != nil { // two events: by COPY, under the lock
			t.Error(err)
		}
	})
	for s.Waiting() > 0 || !locked(t, url) {
		if t.Context().Err() != nil {
			return
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := make(chan error)
	go func() {
		_, err := s.Append(ctx, i.append("b", 0, 1))
		gone <- err
	}()
	for s.Waiting() == 0 {
		if t.Context().Err() != nil {
			return
		}
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("got %v, want it unavailable and canceled", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if log := eventstoretest.Sound(t, s); len(log) != 2 {
		t.Fatalf("got %d events, want 2", len(log))
	}
}

// locked reports whether an append waits for the log.
func locked(t *testing.T, url string) (waits bool) {
	p := pool(t, url)
	defer p.Close()
	err := p.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted)`).Scan(&waits)
	if err != nil {
		t.Error(err)
	}
	return waits
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: pgtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := s.Append(t.Context(), (&ids{}).append("a", 0, 1)); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Fatalf("got %v, want %v", err, eventstore.ErrUnavailable)
	}
}

// Two replicas append while a reader follows on "position > cursor": it must miss nothing.
// LOSS_EVENTS sets how many events are written.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	total := int64(100_000)
	if testing.Short() {
		total = 10_000
	}
	if n, err := strconv.ParseInt(os.Getenv("LOSS_EVENTS"), 10, 64); err == nil {
		total = n
	}
	url := pgtest.New(t)
	i, reader := &ids{}, open(t, url)
	replicas := []*postgres.Store{open(t, url), open(t, url)}
	var begun, acked atomic.Int64
	writing, finished := context.WithCancel(t.Context())
	defer finished()
	var seen, gaps int64
	tail := make(chan error, 1)
	go func() {
		cursor := int64(0)
		for last := false; ; {
			for e, err := range reader.ReadAll(t.Context(), cursor) {
				if err != nil {
					tail <- err
					return
				}
				gaps += e.Position - cursor - 1
				cursor = e.Position
				seen++
			}
			if last {
				tail <- nil
				return
			}
			last = writing.Err() != nil
		}
	}()
	var wg sync.WaitGroup
	for w := range 32 {
		s := replicas[w%2]
		wg.Go(func() {
			for n := 0; begun.Add(1) <= total; n++ {
				id := fmt.Sprintf("w%d-%d", w, n/4)
				if _, err := s.Append(t.Context(), receipt(i.append(id, int64(n%4), 1), fmt.Sprintf("%d/%d", w, n))); err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	wg.Wait()
	finished()
	if err := <-tail; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d acknowledged, %d read, %d lost, %d gaps", acked.Load(), seen, acked.Load()-seen, gaps)
	if seen != acked.Load() || gaps != 0 {
		t.Fail()
	}
}
