package migrations_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var silent = slog.New(slog.DiscardHandler)

// Each of these databases is refused before anything is written to it, by Check and by Up alike,
// in a sentence that says what to do.
func TestRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		open func(t *testing.T) string
		says string
	}{
		"pooler by transaction": {func(t *testing.T) string { return pgtest.Bouncer(t, pgtest.Empty(t), "transaction") }, "session mode"},
		"pooler by statement":   {func(t *testing.T) string { return pgtest.Bouncer(t, pgtest.Empty(t), "statement") }, "session mode"},
		"pooler of one server": {func(t *testing.T) string {
			return pgtest.Bouncer(t, pgtest.Empty(t), "transaction", "max_db_connections = 1")
		}, "session mode"},
		"pooler that goes round": {func(t *testing.T) string {
			u := pgtest.Bouncer(t, pgtest.Empty(t), "transaction", "server_round_robin = 1", "min_pool_size = 5")
			busy(t, u, 5)
			return u
		}, "session mode"},
		"no right to create": {func(t *testing.T) string { return pgtest.Role(t, pgtest.Empty(t), "") }, "GRANT CREATE ON DATABASE"},
		"read-only role": {func(t *testing.T) string {
			return pgtest.Role(t, pgtest.Empty(t), "", owns, "ALTER ROLE ROLE_ SET default_transaction_read_only = on")
		}, "read-only"},
		"standby asked for another": {func(t *testing.T) string {
			return pgtest.Role(t, pgtest.Empty(t), "", owns, "ALTER ROLE ROLE_ SET default_transaction_read_only = on") + "&target_session_attrs=read-write"
		}, "read-only"},
		"two connections": {func(t *testing.T) string { return pgtest.Role(t, pgtest.Empty(t), "CONNECTION LIMIT 2", owns) }, "may open only 2 connections"},
		"another role's schema": {func(t *testing.T) string {
			u := pgtest.New(t)
			execute(t, u, `DELETE FROM ops.schema_migrations WHERE version_id = (SELECT max(version_id) FROM ops.schema_migrations)`)
			return pgtest.Role(t, u, "", "GRANT CREATE ON DATABASE DATABASE_ TO ROLE_", "GRANT USAGE ON SCHEMA log, ops TO ROLE_", "GRANT SELECT ON ALL TABLES IN SCHEMA ops TO ROLE_")
		}, "cloudbot migrate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := c.open(t)
			if _, err := migrations.Check(t.Context(), u, 0); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Check: got %v, want it to say %q", err, c.says)
			}
			if err := migrations.Up(t.Context(), u, silent); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Up: got %v, want it to say %q", err, c.says)
			}
		})
	}
}

// A role whose connections are all in use: Check and Up wait until one is released, and say what is wrong
// if none is.
func TestWaitsForAConnection(t *testing.T) {
	t.Parallel()
	u := pgtest.Role(t, pgtest.Empty(t), "CONNECTION LIMIT 6", owns)
	var held []*pgx.Conn
	for range 6 {
		conn, err := pgx.Connect(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second) // for one try at least
	defer cancel()
	if _, err := migrations.Check(short, u, 0); err == nil || !strings.Contains(err.Error(), "too many connections") {
		t.Errorf("without a connection: got %v, want too many connections", err)
	}
	done := make(chan error, 1)
	go func() { done <- migrations.Up(t.Context(), u, silent) }()
	select {
	case err := <-done:
		t.Fatalf("got %v at once, want it to wait", err)
	case <-time.After(300 * time.Millisecond): // it may be slower to fail than this, and then only shows less
	}
	for _, conn := range held[:2] {
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, conn := range held[2:] {
		conn.Close(t.Context())
	}
}

// owns makes a role the owner of its database, as a production database's role usually is.
const owns = "ALTER DATABASE DATABASE_ OWNER TO ROLE_"

// A pooler that was refused is left without a lock that would keep the next start waiting.
func TestPoolerIsLeftWithoutALock(t *testing.T) {
	t.Parallel()
	direct := pgtest.Empty(t)
	pooled := pgtest.Bouncer(t, direct, "transaction")
	for range 3 {
		if err := migrations.Up(t.Context(), pooled, silent); err == nil {
			t.Fatal("got a migration through the pooler, want a refusal")
		}
	}
	if n := query[int](t, direct, `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = current_database()`); n != 0 {
		t.Errorf("got %d locks left behind, want none", n)
	}
	if n := query[int](t, direct, `SELECT count(*) FROM pg_namespace WHERE nspname IN ('log', 'ops', 'cloudbot_check')`); n != 0 {
		t.Errorf("got %d schemas left behind, want none", n)
	}
	if err := migrations.Up(t.Context(), direct, silent); err != nil {
		t.Error(err)
	}
}

// These work: what is unusual about them does no harm.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) string{
		"superuser":      func(t *testing.T) string { return pgtest.Empty(t) },
		"session pooler": func(t *testing.T) string { return pgtest.Bouncer(t, pgtest.Empty(t), "session") },
		"pool's own parameters": func(t *testing.T) string {
			u, _ := url.Parse(pgtest.Empty(t))
			q := u.Query()
			q.Set("pool_max_conns", "9")
			u.RawQuery = q.Encode()
			return u.String()
		},
		"few connections": func(t *testing.T) string { return pgtest.Role(t, pgtest.Empty(t), "CONNECTION LIMIT 10", owns) },
		// The database belongs to another role, and public is closed, as it is from PostgreSQL 15 on.
		"right to create in the database only": func(t *testing.T) string {
			return pgtest.Role(t, pgtest.Empty(t), "", "GRANT CREATE ON DATABASE DATABASE_ TO ROLE_")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := open(t)
			before, err := migrations.Check(t.Context(), u, 0)
			if err != nil || before.Version != 0 || before.Pending == 0 {
				t.Fatalf("before: got %+v, %v, want version 0 and pending migrations", before, err)
			}
			for range 2 {
				if err := migrations.Up(t.Context(), u, silent); err != nil {
					t.Fatal(err)
				}
			}
			after, err := migrations.Check(t.Context(), u, 0)
			if err != nil || after.Pending != 0 || after.Version == 0 {
				t.Errorf("after: got %+v, %v, want a version and nothing pending", after, err)
			}
		})
	}
}

// After a rollback the schema is a newer program's: Check reports that, and the older program starts on it.
func TestNewerSchemaIsAccepted(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	execute(t, u, `INSERT INTO ops.schema_migrations (version_id, is_applied) VALUES (9999, true)`)
	if found, err := migrations.Check(t.Context(), u, 0); err != nil || found.Version != 9999 || found.Known == 0 || found.Known >= 9999 || found.Pending != 0 {
		t.Errorf("got %+v, %v, want version 9999, a known one below it and nothing pending", found, err)
	}
	if err := migrations.Up(t.Context(), u, silent); err != nil {
		t.Error(err)
	}
}

// With nothing to do, a role needs no right to create anything.
func TestMigratedForAnother(t *testing.T) {
	t.Parallel()
	u := pgtest.Role(t, pgtest.New(t), "", "GRANT USAGE ON SCHEMA ops TO ROLE_", "GRANT SELECT ON ops.schema_migrations TO ROLE_")
	if err := migrations.Up(t.Context(), u, silent); err != nil {
		t.Error(err)
	}
}

func TestOldPostgresIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := migrations.Check(t.Context(), pgtest.Empty(t), 99); err == nil || !strings.Contains(err.Error(), "use version 99 or newer") {
		t.Error(err)
	}
}

// A database of an earlier program keeps its list of applied migrations: the rows are taken over, and
// the former table stays for that program.
func TestFormerTableIsTakenOver(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	execute(t, u, `ALTER TABLE ops.schema_migrations SET SCHEMA public`)
	const list = `SELECT string_agg(concat_ws(' ', id, version_id, is_applied, tstamp), E'\n' ORDER BY id) FROM `
	former := query[string](t, u, list+`public.schema_migrations`)
	found, err := migrations.Check(t.Context(), u, 0)
	if err != nil || found.Pending != 0 || found.Version == 0 {
		t.Errorf("before: got %+v, %v, want a version and nothing pending", found, err)
	}
	for range 2 {
		if err := migrations.Up(t.Context(), u, silent); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"ops.schema_migrations", "public.schema_migrations"} {
		if got := query[string](t, u, list+table); got != former {
			t.Errorf("%s: got\n%s\nwant\n%s", table, got, former)
		}
	}
	// The next migration finds a free number.
	execute(t, u, `INSERT INTO ops.schema_migrations (version_id, is_applied) VALUES (1, true)`)
}

// Another program's table of the same name in a database that is shared is not ours to read.
func TestForeignTableIsLeftAlone(t *testing.T) {
	t.Parallel()
	u := pgtest.Empty(t)
	execute(t, u, `CREATE TABLE public.schema_migrations (version bigint PRIMARY KEY, dirty boolean NOT NULL)`)
	execute(t, u, `INSERT INTO public.schema_migrations VALUES (20260101, false)`)
	if err := migrations.Up(t.Context(), u, silent); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, u, `SELECT count(*) FROM public.schema_migrations`); n != 1 {
		t.Errorf("got %d rows, want 1", n)
	}
}

// Replicas that start together on a database of an earlier program end with one table.
func TestReplicasTakeOverTogether(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	execute(t, u, `ALTER TABLE ops.schema_migrations SET SCHEMA public`)
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() { ended <- migrations.Up(t.Context(), u, silent) }()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// busy opens transactions on n connections at once, so that a pooler has as many servers.
func busy(t *testing.T, u string, n int) {
	t.Helper()
	for range n {
		conn := connect(t, u)
		if _, err := conn.Exec(t.Context(), `BEGIN`, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		defer conn.Exec(context.Background(), `ROLLBACK`, pgx.QueryExecModeSimpleProtocol)
	}
}

func connect(t *testing.T, u string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, u, sql string) {
	t.Helper()
	if _, err := connect(t, u).Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, u, sql string) (v T) {
	t.Helper()
	if err := connect(t, u).QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
