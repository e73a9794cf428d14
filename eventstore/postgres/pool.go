package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Bounds of a pool whose URL does not say pool_max_conns.
const (
	minPool = 2
	maxPool = 24
	// outside is how many connections one server uses outside its pool: appends, notifications, leases, and
	// one for the operator's tools.
	outside = 4
)

// fullPatience bounds the wait for a connection while the server has none left. It is for callers without
// a deadline.
const fullPatience = 30 * time.Second

// fullPause is the shortest pause between two tries to connect to a server that has no connection left.
const fullPause = 20 * time.Millisecond

// Pool is a pgxpool.Pool for a server with few connections and for one that fails over:
//
//   - Where the server has no connection left, a call waits for one instead of failing.
//   - Appends, notifications and what Reserve returns come first: the pool gives up a connection for them.
//   - A connection is closed when its server says that it cannot be written to. Once a writable server was
//     found, the older connections are closed as well.
type Pool struct {
	*pgxpool.Pool
	parent  *Pool         // of a reserved one
	urgent  atomic.Int32  // how many connections are being opened that come before the pool's own
	full    atomic.Int64  // until when, in Unix nanoseconds, no connection is tried
	waiting atomic.Int32  // callers in line for a connection
	turn    chan struct{} // the first of them
	suspect atomic.Bool   // a read-only server was met
	begin   []string      // what each connection executes first
}

// ReadWrite returns the connection string changed so that it finds the writable server, also after a
// failover. A string that says itself which server it is for stays as it is.
func ReadWrite(url string) string {
	const key, value = "target_session_attrs", "read-write"
	switch {
	case strings.Contains(url, key) || os.Getenv("PGTARGETSESSIONATTRS") != "":
		return url
	case !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://"): // as pgx tells them apart
		return strings.TrimSpace(url + " " + key + "=" + value)
	case strings.HasSuffix(url, "?") || strings.HasSuffix(url, "&"): // pgx refuses an empty parameter
		return url + key + "=" + value
	case strings.Contains(url, "?"):
		return url + "&" + key + "=" + value
	}
	return url + "?" + key + "=" + value
}

// errURL stands for the parser's error about a URL that is not readable: it can quote a part of the password.
var errURL = errors.New("the URL cannot be read; use postgres://user:password@host:5432/database, and write special characters of the password as %XX: @ is %40")

func readable(text string) bool {
	_, err := url.Parse(text)
	return err == nil || !strings.Contains(text, "://")
}

// OpenPool opens a pool on the writable server. Without pool_max_conns in the URL, the pool takes half of
// what the server allows, because a second replica may start. Each connection executes begin first.
func OpenPool(ctx context.Context, url string, log *slog.Logger, begin ...string) (*Pool, error) {
	cfg, err := pgxpool.ParseConfig(ReadWrite(url))
	if err != nil && !readable(url) {
		return nil, errURL
	} else if err != nil {
		return nil, err
	}
	p := &Pool{turn: make(chan struct{}, 1), begin: begin}
	if !strings.Contains(url, "pool_max_conns") {
		allowed, err := p.allowed(ctx, cfg.ConnConfig)
		if err != nil {
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
		cfg.MaxConns = int32(min(max(allowed/2-outside, minPool), maxPool))
		log.InfoContext(ctx, "database connections chosen", "pool", cfg.MaxConns, "outside_pool", outside, "server_allows", allowed)
	}
	if !strings.Contains(url, "pool_max_conn_idle_time") {
		cfg.MaxConnIdleTime = time.Minute // other servers may need it
	}
	if err := p.open(ctx, cfg); err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return p, nil
}

// Wrap makes a Pool of an existing one, which keeps its own hooks: it decides when a connection is closed.
func Wrap(pool *pgxpool.Pool) *Pool { return &Pool{Pool: pool, turn: make(chan struct{}, 1)} }

// Reserve opens a pool of one connection and holds it, so that its user never queues behind the pool's
// callers.
func (p *Pool) Reserve(ctx context.Context, name string) (*Pool, error) {
	cfg := p.Config()
	cfg.ConnConfig.RuntimeParams["application_name"] = name
	cfg.MaxConns, cfg.MinConns, cfg.MinIdleConns, cfg.MaxConnLifetime = 1, 1, 0, 0
	r := &Pool{parent: p, turn: make(chan struct{}, 1)}
	if err := r.open(ctx, cfg); err != nil {
		return nil, err
	}
	if err := r.Ping(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open sets the pool's hooks and makes it.
func (p *Pool) open(ctx context.Context, cfg *pgxpool.Config) (err error) {
	whole := p
	if p.parent != nil {
		whole = p.parent
	}
	cfg.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if p.urgent.Load() > 0 || time.Now().UnixNano() < p.full.Load() {
			return errFull
		}
		return nil
	}
	cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		whole.met()
		for _, sql := range whole.begin {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("begin a connection: %w", err)
			}
		}
		return nil
	}
	keep := cfg.ConnConfig.OnPgError
	cfg.ConnConfig.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		wrong := wrongServer(err)
		if wrong {
			whole.suspect.Store(true)
		}
		return keep(conn, err) && !wrong
	}
	p.Pool, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// met notes that a connection to a server was made. If a read-only server was met before, the connections
// that are left from then must not be read from either.
func (p *Pool) met() {
	if p.suspect.CompareAndSwap(true, false) {
		go p.Reset() // of this connection as well: pgx is about to take it into the pool
	}
}

// allowed asks how many connections this role may have.
func (p *Pool) allowed(ctx context.Context, cfg *pgx.ConnConfig) (n int, err error) {
	err = p.patiently(ctx, func() error {
		conn, err := pgx.ConnectConfig(ctx, cfg.Copy())
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		// Limits of role and database do not bind a superuser; least leaves out what is null.
		return conn.QueryRow(ctx, `
			SELECT least(
				CASE WHEN NOT r.rolsuper AND r.rolconnlimit >= 0 THEN r.rolconnlimit END,
				CASE WHEN NOT r.rolsuper AND d.datconnlimit >= 0 THEN d.datconnlimit END,
				current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
					- coalesce(current_setting('reserved_connections', true), '0')::int)
			FROM pg_roles r, pg_database d WHERE r.rolname = session_user AND d.datname = current_database()`).Scan(&n)
	})
	return n, err
}

// wrongServer reports whether an error says that writes must go to another server, or to this one over
// another connection: it is read-only, in recovery or shutting down, or the connection failed.
func wrongServer(err *pgconn.PgError) bool {
	switch err.Code {
	case "25006", "57P01", "57P02", "57P03":
		return true
	}
	return strings.HasPrefix(err.Code, "08")
}

// errFull refuses a connection while others come first, or too soon after the server had none left.
var errFull error = full{}

type full struct{}

func (full) Error() string { return "the server has no connection left" }

// SQLState is too_many_connections, as the server itself would say.
func (full) SQLState() string { return tooManyConnections }

const tooManyConnections = "53300"

// isFull reports whether an error says that the server, the database or the role has no connection left.
func isFull(err error) bool {
	var pgErr *pgconn.PgError
	return errors.Is(err, errFull) || errors.As(err, &pgErr) && pgErr.Code == tooManyConnections
}

// patiently calls do until it finds a connection. It gives up when ctx ends, and after fullPatience. While
// one caller waits, all wait in one line: otherwise callers that ask again immediately get every connection.
func (p *Pool) patiently(ctx context.Context, do func() error) error {
	began := time.Now()
	for queue := p.waiting.Load() > 0; ; queue = true {
		if queue {
			if err := p.queue(ctx); err != nil {
				return fmt.Errorf("wait for a connection: %w", err)
			}
		}
		err := do()
		if !isFull(err) {
			return err
		}
		now := time.Now()
		if !errors.Is(err, errFull) {
			p.full.Store(now.Add(fullPause).UnixNano())
		}
		if now.Sub(began) > fullPatience || ctx.Err() != nil {
			return err
		}
	}
}

// queue returns when it is the caller's turn and a connection is idle or may be opened.
func (p *Pool) queue(ctx context.Context) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.turn }()
	for until := time.Now().Add(fullPause); p.Stat().IdleConns() == 0 && time.Now().Before(until); {
		if err := retry.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// first opens a connection that comes before the pool's own. Each try that finds none left closes one of
// the pool's connections, and the pool opens none meanwhile. It gives up after patience.
func (p *Pool) first(ctx context.Context, patience time.Duration, connect func() error) error {
	err := connect()
	if !isFull(err) {
		return err
	}
	p.urgent.Add(1)
	defer p.urgent.Add(-1)
	for began := time.Now(); isFull(err) && time.Since(began) < patience; err = connect() {
		p.giveUpOne(ctx)
		if retry.Sleep(ctx, fullPause/2+rand.N(fullPause)) != nil {
			return err
		}
	}
	return err
}

// giveUpOne closes the first of the pool's connections that is idle or released. The last one stays:
// closing it would only help another server, whose pool would take it.
func (p *Pool) giveUpOne(ctx context.Context) {
	for range 100 {
		s := p.Stat()
		if s.TotalConns()-s.ConstructingConns() <= 1 {
			return
		}
		idle := p.AcquireAllIdle(ctx)
		if len(idle) == 0 && s.TotalConns() == s.MaxConns() { // nothing becomes idle while others wait for it
			soon, stop := context.WithTimeout(ctx, time.Second)
			if c, err := p.Pool.Acquire(soon); err == nil {
				idle = append(idle, c)
			}
			stop()
		}
		for i, c := range idle {
			if i == 0 {
				_ = c.Conn().Close(ctx)
			}
			c.Release()
		}
		if len(idle) > 0 || retry.Sleep(ctx, time.Millisecond) != nil {
			return
		}
	}
}

// wait is patiently for the pool's callers. A reserved pool takes a connection from its parent.
func (p *Pool) wait(ctx context.Context, do func() error) error {
	if p.parent != nil {
		return p.parent.first(ctx, fullPatience, do)
	}
	return p.patiently(ctx, do)
}

// Acquire is pgxpool's, but waits while the server has no connection left.
func (p *Pool) Acquire(ctx context.Context) (c *pgxpool.Conn, err error) {
	err = p.wait(ctx, func() error {
		c, err = p.Pool.Acquire(ctx)
		return err
	})
	return c, err
}

// Exec is as Acquire.
func (p *Pool) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = p.wait(ctx, func() error {
		tag, err = p.Pool.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

// Query is as Acquire.
func (p *Pool) Query(ctx context.Context, sql string, args ...any) (rows pgx.Rows, err error) {
	err = p.wait(ctx, func() error {
		rows, err = p.Pool.Query(ctx, sql, args...)
		return err
	})
	return rows, err
}

// QueryRow is as Acquire. The query is sent by Scan.
func (p *Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return scanner(func(dest ...any) error {
		return p.wait(ctx, func() error { return p.Pool.QueryRow(ctx, sql, args...).Scan(dest...) })
	})
}

// scanner is a pgx.Row.
type scanner func(dest ...any) error

// Scan implements pgx.Row.
func (s scanner) Scan(dest ...any) error { return s(dest...) }

// Begin is as Acquire.
func (p *Pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

// BeginTx is as Acquire.
func (p *Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (tx pgx.Tx, err error) {
	err = p.wait(ctx, func() error {
		tx, err = p.Pool.BeginTx(ctx, options)
		return err
	})
	return tx, err
}

// Ping is as Acquire.
func (p *Pool) Ping(ctx context.Context) error {
	return p.wait(ctx, func() error { return p.Pool.Ping(ctx) })
}
