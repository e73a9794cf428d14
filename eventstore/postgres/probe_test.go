package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/eventstoretest"
)

// A probe tries an append and leaves nothing: no row, no event, no lock, no transaction, and no space used.
func TestProbeLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s := open(t, url)
	for range 20 {
		if err := s.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.FailedLately()
	for range 20 {
		if err := s.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p := pool(t, url)
	var rows, locks, open int
	if err := p.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM log.entries),
		(SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = current_database()),
		(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%')`).Scan(&rows, &locks, &open); err != nil {
		t.Fatal(err)
	}
	if rows+locks+open != 0 {
		t.Errorf("got %d rows, %d locks and %d transactions left, want none", rows, locks, open)
	}
	// The log continues at 1, over the same connection.
	var n ids
	if res := must(t, s, n.append("a", 0, 2)); res.First != 1 {
		t.Errorf("got the first event at position %d, want 1", res.First)
	}
}

// The probe fails whenever an append would fail, and succeeds again once the cause is removed.
func TestProbeReportsWhatAppendsCannot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ spoil, repair, says string }{
		"read-only":   {`ALTER DATABASE DATABASE_ SET default_transaction_read_only = on`, `ALTER DATABASE DATABASE_ RESET default_transaction_read_only`, "read-only"},
		"no rights":   {`REVOKE INSERT ON log.entries FROM ROLE_`, `GRANT INSERT ON log.entries TO ROLE_`, "permission denied"},
		"no function": {`REVOKE EXECUTE ON FUNCTION log.begin_append() FROM ROLE_`, `GRANT EXECUTE ON FUNCTION log.begin_append() TO ROLE_`, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			admin := pgtest.New(t)
			url := pgtest.Role(t, admin, "", "GRANT USAGE ON SCHEMA log TO ROLE_", "GRANT SELECT, INSERT ON log.entries TO ROLE_", "GRANT EXECUTE ON FUNCTION log.begin_append() TO ROLE_")
			s := open(t, url)
			role, database := names(t, url)
			change := func(sql string) {
				t.Helper()
				sql = strings.NewReplacer("ROLE_", role, "DATABASE_", database).Replace(sql)
				// Open sessions keep their defaults, so they are cut, as by a failover.
				for _, sql := range []string{sql, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '` + role + `'`} {
					if _, err := pool(t, writable(admin)).Exec(t.Context(), sql); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			change(c.spoil)
			fails := func() bool {
				err := s.Probe(t.Context())
				return err != nil && errors.Is(err, eventstore.ErrUnavailable) && strings.Contains(err.Error(), c.says)
			}
			for !fails() { // the first error may only report the broken connection
				if t.Context().Err() != nil || !within(t) {
					t.Fatalf("got %v, want %s", s.Probe(t.Context()), c.says)
				}
			}
			change(c.repair)
			for s.Probe(t.Context()) != nil {
				if !within(t) {
					t.Fatalf("got %v, want a probe that works again", s.Probe(t.Context()))
				}
			}
			var n ids
			must(t, s, n.append("a", 0, 1))
		})
	}
}

// The probe fails while another replica holds the log for too long.
func TestProbeKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s := open(t, url)
	other, err := pool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Rollback(context.Background())
	if _, err := other.Exec(t.Context(), `SELECT log.begin_append()`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Probe(ctx); err == nil {
		t.Error("got no error, want one")
	}
	if err := other.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
}

// After a recent successful append a probe sends nothing.
func TestProbeTrustsAnAppend(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	s := open(t, url)
	var n ids
	must(t, s, n.append("a", 0, 1))
	if _, err := pool(t, url).Exec(t.Context(), `DROP FUNCTION log.begin_append()`); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	s.FailedLately()
	if err := s.Probe(t.Context()); err == nil {
		t.Error("got a probe that trusts a failed append, want an error")
	}
}

// Appends go through a pooler in session mode, whose clients may set little before they are connected.
func TestSessionPooler(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.Bouncer(t, pgtest.New(t), "session"))
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n ids
	must(t, s, n.append("a", 0, 1))
	must(t, s, n.append("a", 1, 3))
	s.Crowd() // two batches on the wire
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for v := range 20 {
				if _, err := s.Append(t.Context(), n.append(fmt.Sprintf("w%d", w), int64(v), 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if log := eventstoretest.Sound(t, s); len(log) != 4+8*20 {
		t.Errorf("got %d events, want %d", len(log), 4+8*20)
	}
}

// names returns the role and the database of a URL.
func names(t *testing.T, url string) (role, database string) {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return c.User, c.Database
}

// writable returns the URL for a session that may write, whatever the database's default is.
func writable(url string) string { return url + "&default_transaction_read_only=off" }

// within waits briefly, and returns false when the test has waited long enough.
func within(t *testing.T) bool {
	deadline, ok := t.Deadline()
	wait, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	<-wait.Done()
	return !ok || time.Until(deadline) > time.Minute
}

// A panic of one append is its callers' error. Later appends work.
func TestPanicOfAnAppend(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.New(t))
	var n ids
	repair := s.Sabotage()
	if _, err := s.Append(t.Context(), n.append("a", 0, 1)); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("the append that panicked: got %v, want %v", err, eventstore.ErrUnavailable)
	}
	repair()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.Append(ctx, n.append("a", 0, 1)); err != nil {
		t.Error(err)
	}
}
