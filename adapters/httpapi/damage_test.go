package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A desktop with an unreadable event can be viewed. Changes of it are refused with an explanation for its owner
// and the operator, and other desktops are not affected.
func TestDamagedStream(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	create := call{method: "POST", path: "/api/instances", body: map[string]string{}, token: ada.access}
	bad, fine := f.want(202, create).field(t, "id"), f.want(202, create).field(t, "id")
	stream := eventstore.StreamID{Aggregate: "instance", ID: bad}
	if _, err := f.store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: 1, Events: []eventstore.NewEvent{{
		ID: "01X", Type: "instance.from_the_future", Schema: 9, Time: time.Now(), Data: json.RawMessage(`{}`),
	}}}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []call{
		{method: "PATCH", path: "/api/instances/" + bad, body: map[string]string{"name": "other"}}, {method: "DELETE", path: "/api/instances/" + bad},
		{method: "POST", path: "/api/instances/" + bad + "/stop"}, {method: "POST", path: "/api/instances/" + bad + "/start"},
	} {
		c.token = ada.access
		if a := f.want(409, c); a.field(t, "code") != "stream_damaged" {
			t.Errorf("%s: got %s, want stream_damaged", c.path, a.body)
		}
	}
	f.want(200, call{method: "GET", path: "/api/instances/" + bad, token: ada.access})
	f.want(200, call{method: "GET", path: "/api/instances", token: ada.access})
	f.want(202, call{method: "DELETE", path: "/api/instances/" + fine, token: ada.access})
}

// Every error of an unavailable, full or read-only database asks the client to try again, and is not internal.
func TestDatabaseTroublesAreUnavailable(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"read-only": &pgconn.PgError{Code: "25006"}, "no room for connections": &pgconn.PgError{Code: "53300"},
		"ending": &pgconn.PgError{Code: "57P01"}, "starting": &pgconn.PgError{Code: "57P03"}, "lost": &pgconn.PgError{Code: "08006"},
		"cut while read": io.ErrUnexpectedEOF, "cut between messages": io.EOF,
		"reset": &net.OpError{Op: "read", Err: syscall.ECONNRESET}, "pipe": &net.OpError{Op: "write", Err: syscall.EPIPE},
		"closed": &net.OpError{Op: "read", Err: net.ErrClosed}, "too slow": context.DeadlineExceeded,
	} {
		if r := refused(fmt.Errorf("read: %w", err)); r.status != 503 || r.retryAfter == 0 {
			t.Errorf("%s: %T %v: got %+v, want 503 with a time to retry", name, err, err, r)
		}
	}
	for name, err := range map[string]error{"a missing table": &pgconn.PgError{Code: "42P01"}, "a bug": errors.New("a bug"), "no row": pgx.ErrNoRows} {
		if r := refused(err); r.status != 500 {
			t.Errorf("%s: got %+v, want 500", name, r)
		}
	}
}

// TestDatabaseTroublesOfTheDriver uses the driver's own errors for a server that is unavailable.
func TestDatabaseTroublesOfTheDriver(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	ctx := t.Context()
	for name, fail := range map[string]func(c *pgx.Conn, pool *pgxpool.Pool) error{
		"ended by the server": func(c *pgx.Conn, _ *pgxpool.Pool) error {
			_, err := c.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return err
		},
		"after it was ended": func(c *pgx.Conn, _ *pgxpool.Pool) error {
			_, _ = c.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			_, err := c.Exec(ctx, `SELECT 1`)
			return err
		},
		"commit after it was ended": func(c *pgx.Conn, _ *pgxpool.Pool) error {
			tx, err := c.Begin(ctx)
			if err != nil {
				return err
			}
			_, _ = tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
			return tx.Commit(ctx)
		},
		"cut": func(c *pgx.Conn, _ *pgxpool.Pool) error {
			_ = c.PgConn().Conn().Close()
			_, err := c.Exec(ctx, `SELECT 1`)
			return err
		},
		"closed here": func(c *pgx.Conn, _ *pgxpool.Pool) error {
			_ = c.Close(ctx)
			return c.QueryRow(ctx, `SELECT 1`).Scan(new(int))
		},
		"pool closed": func(_ *pgx.Conn, pool *pgxpool.Pool) error {
			pool.Close()
			_, err := pool.Exec(ctx, `SELECT 1`)
			return err
		},
		"nothing listens": func(*pgx.Conn, *pgxpool.Pool) error {
			_, err := pgx.Connect(ctx, "postgres://127.0.0.1:1/none?sslmode=disable")
			return err
		},
		"no socket": func(*pgx.Conn, *pgxpool.Pool) error {
			_, err := pgx.Connect(ctx, "postgres:///none?sslmode=disable&host="+t.TempDir())
			return err
		},
		"hangs up on a greeting": func(*pgx.Conn, *pgxpool.Pool) error {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			defer ln.Close()
			go func() {
				if conn, err := ln.Accept(); err == nil {
					conn.Close()
				}
			}()
			_, err = pgx.Connect(ctx, "postgres://"+ln.Addr().String()+"/none?sslmode=disable")
			return err
		},
	} {
		conn, err := pgx.Connect(ctx, database)
		if err != nil {
			t.Fatal(err)
		}
		pool, err := pgxpool.New(ctx, database)
		if err != nil {
			t.Fatal(err)
		}
		err = fail(conn, pool)
		if r := refused(fmt.Errorf("read: %w", err)); err == nil || r.status != 503 || r.retryAfter == 0 {
			t.Errorf("%s: %T %v: got %+v, want 503 with a time to retry", name, err, err, r)
		}
		_ = conn.Close(ctx)
		pool.Close()
	}
}
