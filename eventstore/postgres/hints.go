package postgres

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/crash"
)

// hints wakes readers: at once after this store's own appends, by LISTEN after another process's,
// and by looking at the head now and then, because notifications can be lost with a connection.
type hints struct {
	store *Store
	every time.Duration

	mu     sync.Mutex
	subs   map[chan struct{}]bool
	cancel context.CancelFunc // of the listener; nil: not started
	done   chan struct{}
}

// Hints implements eventstore.Store.
func (s *Store) Hints(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	h := &s.hints
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

func (h *hints) broadcast() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		select {
		case c <- struct{}{}:
		default: // one is waiting already
		}
	}
}

func (h *hints) close() {
	h.mu.Lock()
	cancel, done := h.cancel, h.done
	h.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

// run listens until the store closes, over as many connections as it takes.
func (h *hints) run(ctx context.Context) {
	defer close(h.done)
	for ctx.Err() == nil {
		err := h.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		h.store.log.WarnContext(ctx, "hints: connection lost", "err", err)
		h.broadcast() // something may have been missed
		pause, stop := context.WithTimeout(ctx, h.every)
		<-pause.Done()
		stop()
	}
}

func (h *hints) listen(ctx context.Context) (err error) {
	defer crash.Caught(&err)
	config := h.store.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "cloudbot hints"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN cloudbot_log`); err != nil {
		return err
	}
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
			if err := conn.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM log.entries`).Scan(&now); err != nil {
				return err
			}
			if now != head {
				head = now
				h.broadcast()
			}
		}
	}
}
