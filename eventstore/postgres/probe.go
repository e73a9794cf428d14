package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// trusted is how long a successful append stands for the next one.
const trusted = 10 * time.Second

// lately records how the last append went, and the probe after it.
type lately struct {
	worked atomic.Int64 // when one last succeeded, in Unix nanoseconds; 0: never, or one failed since
	failed atomic.Bool  // the last one could not be kept
}

func (l *lately) note(err error) {
	switch {
	case err == nil:
		l.worked.Store(time.Now().UnixNano())
		l.failed.Store(false)
	case errors.Is(err, eventstore.ErrUnavailable):
		l.worked.Store(0)
		l.failed.Store(true)
	}
}

func (l *lately) well() bool { return time.Since(time.Unix(0, l.worked.Load())) < trusted }

// Probe returns nil if an append would work. Unless one has recently succeeded, Probe sends what a batch
// sends, over the connection that appends, without a row, and rolls it back. It is all one message, so other
// replicas wait for the log only briefly. After a failed append Probe sends a row too, because a full disk
// refuses nothing else. The row is rolled back as well.
func (s *Store) Probe(ctx context.Context) error {
	c := &s.commit
	for !c.mu.TryLock() {
		if s.lately.well() {
			return nil // appends leave the lock no free moment
		}
		if retry.Sleep(ctx, 5*time.Millisecond) != nil {
			return unavailable("probe", errors.New("an append has been running for too long"))
		}
	}
	defer c.mu.Unlock()
	if c.closed {
		return unavailable("probe", errClosed)
	}
	if s.lately.well() {
		return nil
	}
	c.window.drain()
	row := s.lately.failed.Load()
	if err := c.probe(ctx, row); err != nil {
		c.drop() // the next append connects again
		return unavailable("probe", err)
	}
	if row {
		s.lately.failed.Store(false) // an append would work: the next probe needs no row
	}
	return nil
}

func (c *committer) probe(ctx context.Context, row bool) error {
	if c.conn == nil {
		err := c.reach(ctx)
		if err != nil && strings.Contains(err.Error(), "read only connection") { // target_session_attrs asks for another
			return fmt.Errorf("the database is read-only: %w", err)
		}
		if err != nil {
			return err
		}
	}
	conn := c.conn.PgConn().Conn()
	hurry := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	_, err := c.send(c.script.attempt(row))
	if !hurry() && err == nil {
		err = fmt.Errorf("it worked, but too late: %w", ctx.Err())
	}
	if denied := (*pgconn.PgError)(nil); errors.As(err, &denied) && denied.Code == "25006" {
		return fmt.Errorf("the database is read-only: %w", err)
	}
	return err
}

// attempt is a transaction that appends, with one receipt or nothing, and is rolled back.
func (s *script) attempt(row bool) []byte {
	var requests []*request
	if row {
		r := newRequest(eventstore.Append{Receipt: &eventstore.Receipt{Key: "probe " + rand.Text(), Request: []byte("probe")}})
		defer r.free()
		requests = append(requests, r)
	}
	return append(appendCopyData(slices.Clone(s.probe), requests, 0), s.rollback...)
}
