package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestReplicasMigrateTogether kills a process that migrates an empty database, in the middle. Then two servers start on it
// at the same time: both become ready, and each migration is applied once. `down` then refuses what a server needs, and
// stops before what cannot be made again.
func TestReplicasMigrateTogether(t *testing.T) {
	t.Parallel()
	database := pgtest.Empty(t)
	env := append(secretsOf(), "DATABASE_URL="+database, "NATS_URL="+startNATS(t, natsserver.RANDOM_PORT))
	a, b := newServer(t, env...), newServer(t, env...)

	// The fifth migration waits, because another session makes the same schema.
	other, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(t.Context())
	tx, err := other.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `CREATE SCHEMA relay`); err != nil {
		t.Fatal(err)
	}
	half := exec.Command(filepath.Join(bin, "cloudbot"), "migrate", "up")
	half.Dir, half.Env = a.dir, append([]string{"HOME=" + a.dir, "DATA_DIR=" + a.dir, "ENVIRONMENT=test"}, env...)
	said := &lockedBuffer{}
	half.Stdout, half.Stderr = said, said
	if err := half.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, time.Minute, "the fifth migration to wait", func() bool {
		var waits bool
		err := tx.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid() AND transactionid = pg_current_xact_id()::xid)`).Scan(&waits)
		return err == nil && waits
	})
	if err := half.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = half.Wait()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.launch()
	b.launch()
	a.waitReady()
	b.waitReady()
	status := func() (schema int, runs bool) {
		var s struct {
			Migrations []struct{ Version, Applied any }
			Schema     int
			Runs       bool
		}
		if err := json.Unmarshal([]byte(a.cli("migrate", "status", "--json")), &s); err != nil || len(s.Migrations) != 14 {
			t.Fatalf("status: got %+v, %v, want 14 migrations", s, err)
		}
		return s.Schema, s.Runs
	}
	if schema, runs := status(); schema != 14 || !runs {
		t.Fatalf("got schema %d, runs %v, want 14 and true\n%s", schema, runs, said.tail(2000))
	}
	var twice int
	if err := other.QueryRow(t.Context(), `SELECT count(*) - count(DISTINCT version_id) FROM ops.schema_migrations`).Scan(&twice); err != nil || twice != 0 {
		t.Errorf("migrations applied twice: got %d, %v, want 0", twice, err)
	}

	// Servers need schema 14, so it may not be undone beside them.
	u := signUp(t, b.URL, "joan@example.com")
	refused := func(want string) {
		t.Helper()
		if out, err := a.tool("migrate", "down"); err == nil || !strings.Contains(out, want) {
			t.Errorf("down: got %v, want %q\n%s", err, want, out)
		}
	}
	refused("migration 14 (billing) is in use: a connected server needs schema 14, and 13 would be left; stop the servers")
	u.must(http.StatusOK, "GET", "/api/instances", "")
	a.stop()
	b.stop()
	for schema := 14; schema > 5; schema-- {
		a.cli("migrate", "down")
	}
	refused("migration 5 (epochs) is never undone")
	if out, err := a.tool("events"); err == nil || !strings.Contains(out, "the schema is version 5 and this program needs 14 or newer: run `cloudbot migrate`") {
		t.Errorf("a tool on an older schema: got %v, want a refusal\n%s", err, out)
	}
	if schema, runs := status(); schema != 5 || runs {
		t.Errorf("got schema %d, runs %v, want 5 and false", schema, runs)
	}
	// All is there again, read models included.
	a.start()
	u = &client{t: t, base: a.URL}
	u.must(http.StatusOK, "POST", "/api/auth/login", `{"email":"joan@example.com","password":"a long enough pass phrase"}`)
	if out := a.cli("accounts", "list"); !strings.Contains(out, "joan@example.com") {
		t.Errorf("accounts: got %s, want the one of before", out)
	}

	// A schema that no longer supports this program: the running server is not ready, and a start is refused.
	if _, err := other.Exec(t.Context(), `INSERT INTO ops.schema_migrations (version_id, is_applied) VALUES (16, true); INSERT INTO ops.schema_contracts VALUES (16, 15)`); err != nil {
		t.Fatal(err)
	}
	const old = "the schema is version 16 and no longer supports programs that know less than 15, and this one knows 14"
	await(t, time.Minute, "the server to be not ready", func() bool {
		r, err := u.try("GET", "/ready", "")
		return err == nil && r.status == http.StatusServiceUnavailable && strings.Contains(string(r.body), old)
	})
	for _, tool := range []string{"serve", "doctor", "events"} {
		if out, err := b.tool(tool); err == nil || !strings.Contains(out, old) {
			t.Errorf("%s: got %v, want %q\n%s", tool, err, old, out)
		}
	}
}
