package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// replyPatience bounds a batch: beyond it the server counts as lost. It must exceed the lock timeout.
const replyPatience = 30 * time.Second

// committer owns the one connection that appends. Only the queue's leader uses it; the mutex is
// for Close.
type committer struct {
	store    *Store
	config   *pgx.ConnConfig
	patience time.Duration
	script   script

	window window

	mu         sync.Mutex
	conn       *pgx.Conn // nil: to be connected
	used       time.Time // end of the last batch
	closed     bool
	head       int64     // after the last batch; -1: unknown
	rival      time.Time // when another replica's append was last noticed
	alwaysSlow bool      // every batch takes the slow path: for the tests that compare both
}

// errClosed answers appends to a closed store.
var errClosed = errors.New("the store is closed")

// committerConfig returns like, changed for a connection that appends. The settings do not depend on the
// database's defaults: begin_append needs READ COMMITTED, and a leader that hangs must not keep the lock.
func committerConfig(like *pgx.ConnConfig, lockTimeout time.Duration) *pgx.ConnConfig {
	c := like.Copy()
	c.RuntimeParams["application_name"] = "cloudbot append"
	ms := strconv.FormatInt(lockTimeout.Milliseconds(), 10)
	var settings strings.Builder
	for _, s := range [][2]string{
		{"cloudbot.appending", "on"}, // lets the log's triggers pass
		{"default_transaction_isolation", "read committed"},
		{"lock_timeout", ms},
		{"idle_in_transaction_session_timeout", ms},
		// Plans made for an empty log are kept when it has grown.
		{"enable_seqscan", "off"},
		{"plan_cache_mode", "force_generic_plan"},
	} {
		fmt.Fprintf(&settings, "SET %s = '%s';", s[0], s[1])
	}
	// A pooler refuses most of them as parameters of the connection, so statements set them.
	before := c.AfterConnect
	c.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		if before != nil {
			if err := before(ctx, conn); err != nil {
				return err
			}
		}
		_, err := conn.Exec(ctx, settings.String()).ReadAll()
		return err
	}
	return c
}

// reach connects. Where the server has few connections left, this one comes before the pool's.
func (c *committer) reach(ctx context.Context) error {
	return c.store.pool.first(ctx, c.patience, func() error { return c.connect(ctx) })
}

func (c *committer) connect(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, c.config.Copy())
	if err != nil {
		return err
	}
	c.store.pool.met()
	c.script = newScript()
	for name, sql := range statements() {
		if err == nil {
			_, err = conn.PgConn().Prepare(ctx, name, sql, nil)
		}
	}
	if err != nil {
		conn.Close(ctx)
		return fmt.Errorf("prepare: %w", err)
	}
	c.conn, c.head = conn, -1
	return nil
}

func (c *committer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.drop()
}

// drop closes the connection and empties the version cache: the next connection may lead to another log.
func (c *committer) drop() {
	c.window.shut()
	if c.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.conn.Close(ctx)
	c.conn = nil
	c.store.versions.forget()
}

// answers reports whether the connection still works.
func (c *committer) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return c.conn.Ping(ctx) == nil
}

// run commits the batch and settles every request in it. It calls sent when another batch may be sent behind this
// one, and may not call it. Without a request it only waits for the batch in front.
func (c *committer) run(b *batch, sent func()) {
	if len(b.requests) == 0 && len(b.stale) > 0 {
		return
	}
	behind := len(b.requests) > 0 && c.sendBehind(b)
	c.mu.Lock()
	done := false
	defer func() {
		if !done { // it panicked: the batch behind must not find this one's reply
			c.drop()
		}
		c.mu.Unlock()
	}()
	c.runAlone(b, behind, sent)
	done = true
}

// runAlone is run with the connection.
func (c *committer) runAlone(b *batch, behind bool, sent func()) {
	if len(b.requests) == 0 {
		return
	}
	if c.closed {
		fail(b.requests, unavailable("append", errClosed))
		return
	}
	if behind {
		c.runBehind(b, sent)
		return
	}
	// Find a connection that broke while idle now: later it would leave the batch's outcome unknown.
	if c.conn != nil && time.Since(c.used) > time.Second && !c.answers() {
		c.drop()
	}
	if c.conn == nil || b.unsure || c.alwaysSlow {
		c.runSlowPath(b.requests, false)
		return
	}
	head, err := c.fast(b, sent)
	c.conclude(b, head, err)
}

// conclude settles the requests of a batch after the reply, or after its loss.
func (c *committer) conclude(b *batch, head int64, err error) {
	c.used = time.Now()
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		settle(c.store.versions, b.requests, head)
		c.head = head + int64(b.events)
		c.store.notifications.broadcast()
	case errors.As(err, &pgErr) && !c.conn.IsClosed() && !wrongServer(pgErr):
		// The transaction is rolled back and the connection is fine.
		c.runSlowPath(b.requests, false)
	default:
		c.store.log.Warn("append connection closed", "err", err, "requests", len(b.requests))
		c.drop()
		c.runSlowPath(b.requests, true)
	}
}

// fast sends the batch and returns the head it was appended after. After a *pgconn.PgError on a connection
// that is still open, nothing was kept. After any other error the outcome is unknown.
//
// As long as no other replica appends, the head is where the last batch left it. Otherwise fast asks for
// the head first, under the lock.
func (c *committer) fast(b *batch, sent func()) (head int64, err error) {
	if c.head >= 0 && time.Since(c.rival) > rivalPause {
		err := c.fly(launch(c.conn, b.encode(&c.script, c.head, first{}), c.head, b.events), sent)
		if pgErr := (*pgconn.PgError)(nil); !errors.As(err, &pgErr) || pgErr.ConstraintName != positionTaken {
			return c.head, err
		}
	}
	if head, err = c.send(c.script.begin); err != nil {
		return 0, err
	}
	if head < c.head {
		// The log was replaced by an older one.
		c.store.versions.forget()
	} else if c.head >= 0 && head > c.head {
		c.rival = time.Now()
	}
	_, err = c.send(b.encode(&c.script, head, first{begun: true}))
	return head, err
}

// send sends messages that end with a Sync. If they ask for the head, it is returned. A refused
// transaction is rolled back; the error is then a *pgconn.PgError.
func (c *committer) send(wire []byte) (head int64, err error) {
	r, err := exchange(c.conn.PgConn(), wire)
	if err != nil {
		return 0, err
	}
	if r.refusal != nil && wrongServer(r.refusal) {
		c.store.pool.suspect.Store(true)
	}
	if r.failed {
		if _, err := c.send(c.script.rollback); err != nil {
			return 0, err
		}
	}
	if r.refusal != nil {
		return r.head, r.refusal
	}
	return r.head, nil
}
