package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/domain/restore"
)

// withPool adds a parameter that only a pool knows.
func withPool(url string) string {
	if strings.Contains(url, "?") {
		return url + "&pool_max_conns=6"
	}
	return url + "?pool_max_conns=6"
}

// A URL with the pool's parameters serves for backup and restore, as it does for the server.
func TestBackupTakesAPoolsURL(t *testing.T) {
	run := tools(t)
	t.Setenv("DATABASE_URL", withPool(os.Getenv("DATABASE_URL")))
	if out, err := run("accounts", "invite"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "backup")
	if out, err := run("backup", dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("DATABASE_URL", withPool(pgtest.New(t)))
	if out, err := run("restore", dir); err != nil || !strings.Contains(out, "Restored: ") {
		t.Errorf("got %v, want a restore\n%s", err, out)
	}
}

// server connects to the database as a server does, when something that a restore prints contains a text.
type server struct {
	t     *testing.T
	when  string
	conn  *pgx.Conn
	lines bytes.Buffer
}

func (s *server) Write(b []byte) (int, error) {
	if s.conn == nil && strings.Contains(string(b), s.when) {
		cfg, err := pgx.ParseConfig(os.Getenv("DATABASE_URL"))
		if err != nil {
			s.t.Fatal(err)
		}
		cfg.RuntimeParams["application_name"] = "cloudbot hints"
		if s.conn, err = pgx.ConnectConfig(s.t.Context(), cfg); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.lines.Write(b)
}

// A server that starts while a backup is loaded does not know of the restore. The restore then waits for the operator,
// the database can be neither used nor backed up, and only the same command finishes it.
func TestServerStartsDuringARestore(t *testing.T) {
	run := tools(t)
	backup := func() (dir string) {
		dir = filepath.Join(t.TempDir(), "backup")
		if out, err := run("backup", dir); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return dir
	}
	if out, err := run("accounts", "invite"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir, other := backup(), backup()
	t.Setenv("DATABASE_URL", pgtest.New(t))
	s := &server{t: t, when: "rows restored"}
	if _, err := (restoreOptions{from: dir}).run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "started on the database while it was restored") {
		t.Fatalf("got %v, want a refusal that names the server\n%s", err, s.lines.String())
	}
	if err := s.conn.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"the restore of this database was interrupted": {"backup", filepath.Join(t.TempDir(), "half")},
		"this database was interrupted; run the same":  {"accounts", "list"},
		"the restore of another backup":                {"restore", other},
		"run the same command again":                   {"restore", "--restored-to", time.Now().Add(-time.Second).Format(time.RFC3339Nano)},
	} {
		if out, err := run(args...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: got %v, want %q\n%s", args, err, says, out)
		}
	}
	if out, err := run("restore", dir); err != nil || !strings.Contains(out, "Restored: ") {
		t.Errorf("the same command: got %v, want the restore finished\n%s", err, out)
	}
}

// A log that ends before the time to which its database was said to be restored has lost what happened since its end.
func TestRestoredToALaterTimeThanTheLogs(t *testing.T) {
	run := tools(t)
	if out, err := run("accounts", "invite"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	to := time.Now()
	out, err := run("restore", "--json", "--restored-to", to.Format(time.RFC3339Nano))
	var done restore.Finished
	if err != nil || json.Unmarshal([]byte(out), &done) != nil || !done.MadeAt.Before(to) || done.Position != 1 {
		t.Errorf("got %s, %v, want the time of the log's last event, before %v", out, err, to)
	}
	if out, err := run("restore", "--restored-to", to.Format(time.RFC3339Nano)); err != nil { // its own connections are no server
		t.Errorf("a second restore: got %v\n%s", err, out)
	}
}

// A misspelled bucket is not a folder of this computer, where the operator would not look for the backup.
func TestBackupIntoAMisspelledBucket(t *testing.T) {
	run := tools(t)
	for _, place := range []string{"s3:/my-backups/one", "S3://my-backups/one", "s3:my-backups", "https://my-backups.example/one"} {
		for _, command := range []string{"backup", "restore"} {
			if out, err := run(command, place); err == nil || !strings.Contains(err.Error(), "is not of the form s3://bucket/prefix") {
				t.Errorf("%s %s: got %v, want a refusal that names the form\n%s", command, place, err, out)
			}
		}
	}
}
