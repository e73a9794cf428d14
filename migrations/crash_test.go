package migrations_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// halted is this program with a migration that waits, in its middle, for a lock that the test holds.
func halted(t *testing.T) migrations.Program {
	t.Helper()
	files := realFiles(t)
	files["0015_halts.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE read.halfway (a text);\nSELECT pg_advisory_xact_lock(7);\nCREATE TABLE read.whole (a text);")}
	return migrations.NewProgram(files, 14, nil)
}

// hold takes the lock that the migration waits for; waiting is the query for sessions that do.
func hold(t *testing.T, u string) *pgx.Conn {
	t.Helper()
	conn := connect(t, u)
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(7)`); err != nil {
		t.Fatal(err)
	}
	return conn
}

const waiting = `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

func awaitQuery(t *testing.T, u, sql string, ok func(n int) bool) (n int) {
	t.Helper()
	conn := connect(t, u)
	for deadline := time.Now().Add(60 * time.Second); ; {
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if ok(n) {
			return n
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got %d for 60 s", sql, n)
		}
	}
}

const tables = `SELECT count(*) FROM pg_tables WHERE tablename IN ('halfway', 'whole')`

// whole fails the test unless the migration is applied once, as a whole.
func whole(t *testing.T, u string) {
	t.Helper()
	if n := query[int](t, u, tables); n != 2 {
		t.Errorf("got %d of the migration's 2 tables", n)
	}
	if n := query[int](t, u, `SELECT count(*) FROM ops.schema_migrations WHERE version_id = 15`); n != 1 {
		t.Errorf("got %d rows for the migration, want 1", n)
	}
	if n := query[int](t, u, `SELECT count(*) - count(DISTINCT version_id) FROM ops.schema_migrations`); n != 0 {
		t.Errorf("got %d migrations twice", n)
	}
}

// TestKilledInTheMiddle kills a process in the middle of a migration. Nothing of it remains, its session ends although
// its statement still waits, and the next process applies the migration as a whole.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	if u := os.Getenv("MIGRATE_AND_BE_KILLED"); u != "" {
		t.Fatal(halted(t).Up(t.Context(), u, silent))
	}
	u := pgtest.New(t)
	lock := hold(t, u)
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledInTheMiddle$")
	cmd.Env = append(os.Environ(), "MIGRATE_AND_BE_KILLED="+u)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitQuery(t, u, waiting, func(n int) bool { return n != 0 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// The lock is still held, so only the end of its client ends the session.
	awaitQuery(t, u, waiting, func(n int) bool { return n == 0 })
	if n := query[int](t, u, tables); n != 0 {
		t.Errorf("after the kill: got %d tables, want none\n%s", n, said.String())
	}
	lock.Close(t.Context())
	if err := halted(t).Up(t.Context(), u, silent); err != nil {
		t.Fatal(err)
	}
	whole(t, u)
}

// TestConnectionLostInTheMiddle ends the session of a migration while another replica waits for its turn. The first
// one fails with nothing changed, and the other applies the migration.
func TestConnectionLostInTheMiddle(t *testing.T) {
	t.Parallel()
	u := pgtest.New(t)
	lock := hold(t, u)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- halted(t).Up(t.Context(), u, silent) }()
	pid := awaitQuery(t, u, waiting, func(n int) bool { return n != 0 })
	go func() { second <- halted(t).Up(t.Context(), u, silent) }()
	awaitQuery(t, u, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4801402171 % 4294967296 AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, func(n int) bool { return n == 1 })
	execute(t, u, fmt.Sprintf(`SELECT pg_terminate_backend(%d)`, pid))
	if err := <-first; err == nil || !strings.Contains(err.Error(), "0015_halts.sql") {
		t.Errorf("the first: got %v, want an error that names the file", err)
	}
	awaitQuery(t, u, waiting, func(n int) bool { return n != 0 && n != pid })
	if n := query[int](t, u, tables); n != 0 {
		t.Errorf("while the second is halfway: got %d tables, want none", n)
	}
	lock.Close(t.Context())
	if err := <-second; err != nil {
		t.Errorf("the second: %v", err)
	}
	whole(t, u)
}

// TestReplicasStartTogether has eight replicas migrate an empty database at the same time.
func TestReplicasStartTogether(t *testing.T) {
	t.Parallel()
	u := pgtest.Empty(t)
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() { ended <- migrations.Up(t.Context(), u, silent) }()
	}
	for range cap(ended) {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := query[int](t, u, `SELECT count(*) - count(DISTINCT version_id) FROM ops.schema_migrations`); n != 0 || newest(t, u) != 14 {
		t.Errorf("got %d migrations twice and schema %d, want none and 14", n, newest(t, u))
	}
}
