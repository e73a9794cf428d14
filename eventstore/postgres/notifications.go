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

// notifications wakes readers: at once after this store's own appends, by LISTEN after another process's,
// and by looking at the head now and then, because notifications can be lost with a connection.
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
	h := &s.notifications
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = map[chan struct{}]bool{}
	}
	h.subs[c] = true
	if h.cancel == nil {
		// The listener serves all subscribers and outlives each.
		listening, cancel := context.WithCancel(context.WithoutCancel(ctx))
		h.cancel, h.done = cancel, make(chan struct{})
		go h.run(listening)
	}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
		close(c)
	})
	return c
}

func (h *notifications) broadcast() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- struct{}{}:
		default: // one is waiting already
		}
	}
}

func (h *notifications) close() {
	h.mu.Lock()
	cancel, done := h.cancel, h.done
	h.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// run listens until the store closes, over as many connections as it takes.
func (h *notifications) run(ctx context.Context) {
	defer close(h.done)
	said := "" // each cause is logged once
	for ctx.Err() == nil {
		err := h.listen(ctx, func() { said = "" })
		if ctx.Err() != nil {
			return
		}
		if cause := err.Error(); cause != said {
			said = cause
			h.store.log.WarnContext(ctx, "notifications: connection lost, will reconnect", "err", err)
		}
		h.broadcast() // something may have been missed
		if retry.Sleep(ctx, h.every) != nil {
			return
		}
	}
}

// errReadOnly says that the server cannot be written to.
var errReadOnly = errors.New("the server is read-only")

// listen returns why its connection ended. well is called once it works.
func (h *notifications) listen(ctx context.Context, well func()) (err error) {
	defer crash.Caught(&err)
	config := h.store.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "cloudbot hints"
	var conn *pgx.Conn
	err = h.store.pool.first(ctx, time.Second, func() (err error) {
		conn, err = pgx.ConnectConfig(ctx, config.Copy())
		return err
	})
	if err != nil {
		return err
	}
	h.store.pool.met()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN cloudbot_log`); err != nil {
		return err
	}
	well()
	h.broadcast() // appends before LISTEN
	var head int64
	for {
		wait, stop := context.WithTimeout(ctx, h.every)
		_, err := conn.WaitForNotification(wait)
		stop()
		switch {
		case err == nil:
			h.broadcast()
		case ctx.Err() != nil || !pgconn.Timeout(err):
			return err
		default:
			var now int64
			var readOnly bool
			if err := conn.QueryRow(ctx, `SELECT coalesce(max(position), 0), current_setting('transaction_read_only')::bool FROM log.entries`).Scan(&now, &readOnly); err != nil {
				return err
			}
			if readOnly {
				return errReadOnly // the appends may be elsewhere
			}
			if now != head {
				head = now
				h.broadcast()
			}
		}
	}
}
