// Package pgtest gives each test its own database, migrated and empty, on a real Postgres that the tests of one
// process share. A package that uses it may declare
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// so that the server's files are removed at the end. The server itself ends with the process. If TEST_DATABASE_URL is
// set, that server is used instead; its user must be allowed to create databases.
package pgtest

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// server is the one Postgres of this process: starting one for each test would take a second each.
var server = shared{}

type shared struct {
	once     sync.Once
	err      error
	admin    string // URL of the database to create others from
	template string
	dir      string
	postgres *embedded.Postgres // nil with TEST_DATABASE_URL
	made     atomic.Int64
}

// New returns the URL of a new, migrated database that is dropped when the test ends. The test fails if no Postgres
// is installed.
func New(t testing.TB) string {
	t.Helper()
	server.once.Do(server.start)
	if server.err != nil {
		t.Fatalf("start a Postgres for the tests: %v", server.err)
	}
	return server.database(t, server.template)
}

// Empty is New without the schema.
func Empty(t testing.TB) string {
	t.Helper()
	server.once.Do(server.start)
	if server.err != nil {
		t.Fatalf("start a Postgres for the tests: %v", server.err)
	}
	return server.database(t, "template0")
}

// BinDir returns the folder of the Postgres programs behind New, for tests that need psql or
// pgbench; "" with TEST_DATABASE_URL.
func BinDir(t testing.TB) string {
	t.Helper()
	server.once.Do(server.start)
	if server.postgres == nil {
		return ""
	}
	return server.postgres.BinDir()
}

// Main runs a package's tests, stops the server and exits.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is like Main, but returns the exit code instead of exiting.
func Run(m *testing.M) int {
	code := m.Run()
	if err := server.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

func (s *shared) start() {
	s.template = fmt.Sprintf("cloudbot_test_%d_%d", os.Getpid(), time.Now().UnixNano())
	if s.admin = os.Getenv("TEST_DATABASE_URL"); s.admin == "" {
		if s.dir, s.err = os.MkdirTemp("", "cloudbot-pgtest-"); s.err != nil {
			return
		}
		// The server's user must pass through; its own folder inside is closed to others.
		if s.err = os.Chmod(s.dir, 0o711); s.err != nil {
			return
		}
		s.postgres, s.err = embedded.StartPostgres(context.Background(), embedded.PostgresConfig{
			Dir: filepath.Join(s.dir, "pg"), Ephemeral: true,
			Settings: map[string]string{"max_connections": "320"}, // tests with several servers run side by side
		})
		if s.err != nil {
			return
		}
		s.admin = s.postgres.URL()
	}
	if s.err = s.exec(s.admin, "CREATE DATABASE "+s.template); s.err != nil {
		return
	}
	s.err = migrations.Up(context.Background(), in(s.admin, s.template), slog.New(slog.DiscardHandler))
}

// database creates a database for one test.
func (s *shared) database(t testing.TB, template string) string {
	t.Helper()
	name := fmt.Sprintf("%s_%d", s.template, s.made.Add(1))
	if err := s.exec(s.admin, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec(s.admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	return in(s.admin, name)
}

func (s *shared) stop() error {
	if s.postgres != nil {
		err := s.postgres.Close()
		_ = os.RemoveAll(s.dir)
		return err
	}
	if s.admin != "" {
		return s.exec(s.admin, "DROP DATABASE IF EXISTS "+s.template+" WITH (FORCE)")
	}
	return nil
}

func (s *shared) exec(databaseURL, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}

// in returns the URL of another database on the same server.
func in(serverURL, database string) string {
	u, err := url.Parse(serverURL)
	if err != nil {
		return serverURL
	}
	u.Path = "/" + database
	return u.String()
}
