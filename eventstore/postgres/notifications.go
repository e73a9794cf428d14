package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// notifications wakes readers: immediately after this store's own appends, and by LISTEN after another
// process's. A notification can be lost with its connection, so the head is polled as well.
type notifications struct {
	store *Store
	every time.Duration

	mu     sync.Mutex
	subs   map[chan struct{}]bool
	cancel context.CancelFunc // of the listener; nil: not started
	done   chan struct{}
}

// Notifications implements eventstore.Store.
func (s *Store) Notifications(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	n := &s.notifications
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = map[chan struct{}]bool{}
	}
	n.subs[c] = true
	if n.cancel == nil {
		// The listener serves all subscribers and outlives each.
		listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
		n.cancel, n.done = cancel, make(chan struct{})
		go n.run(listening)
	}
	context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, c)
		close(c)
	})
	return c
}

func (n *notifications) broadcast() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.subs {
		select {
		case c <- struct{}{}:
		default: // a value is waiting already
		}
	}
}

func (n *notifications) close() {
	n.mu.Lock()
	cancel, done := n.cancel, n.done
	n.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// run listens until the store closes, and reconnects as often as it must.
func (n *notifications) run(ctx context.Context) {
	defer close(n.done)
	said := "" // each cause is logged once
	for ctx.Err() == nil {
		err := n.listen(ctx, func() { said = "" })
		if ctx.Err() != nil {
			return
		}
		if cause := err.Error(); cause != said {
			said = cause
			n.store.log.WarnContext(ctx, "notification connection lost, reconnecting", "err", err)
		}
		n.broadcast() // something may have been missed
		if retry.Sleep(ctx, n.every) != nil {
			return
		}
	}
}

// errReadOnly says that the server cannot be written to.
var errReadOnly = errors.New("the server is read-only")

// listen returns why its connection ended. It calls well once the connection works.
func (n *notifications) listen(ctx context.Context, well func()) (err error) {
	defer crash.Caught(&err)
	config := n.store.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "cloudbot hints"
	var conn *pgx.Conn
	err = n.store.pool.first(ctx, time.Second, func() (err error) {
		conn, err = pgx.ConnectConfig(ctx, config.Copy())
		return err
	})
	if err != nil {
		return err
	}
	n.store.pool.met()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN cloudbot_log`); err != nil {
		return err
	}
	well()
	n.broadcast() // appends before LISTEN
	var head int64
	for {
		wait, stop := context.WithTimeout(ctx, n.every)
		_, err := conn.WaitForNotification(wait)
		stop()
		switch {
		case err == nil:
			n.broadcast()
		case ctx.Err() != nil || !pgconn.Timeout(err):
			return err
		default:
			var at int64
			var readOnly bool
			if err := conn.QueryRow(ctx, `SELECT coalesce(max(position), 0), current_setting('transaction_read_only')::bool FROM log.entries`).Scan(&at, &readOnly); err != nil {
				return err
			}
			if readOnly {
				return errReadOnly // the appends may be elsewhere
			}
			if at != head {
				head = at
				n.broadcast()
			}
		}
	}
}
