package postgres

import (
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A batch is sent before the reply to the one in front of it, if there are many callers: then the server works
// on one while the callers of the other one come back. Two are on the wire at most.
//
// The server may refuse the batch in front. The one behind must then not be kept either, because it would leave
// a gap. So it begins with a statement that fails unless the position before its first one exists (stmtAfter).
// Both are transactions of one connection: the second one sees what the first one committed.

// flight is a batch on the wire.
type flight struct {
	conn   *pgx.Conn
	head   int64 // the position before its events
	events int
	landed bool // reply and err are known
	reply  reply
	err    error // the connection cannot be used any longer
}

func launch(conn *pgx.Conn, wire []byte, head int64, events int) *flight {
	f := &flight{conn: conn, head: head, events: events}
	f.err = transmit(conn.PgConn(), wire)
	return f
}

// land waits for the reply, unless it is known.
func (f *flight) land() {
	if f.err == nil && !f.landed {
		f.reply, f.err = receive(f.conn.PgConn())
	}
	f.landed = true
}

// window is open while a batch waits for its reply, and lets one other batch be sent behind it.
type window struct {
	mu     sync.Mutex
	conn   *pgx.Conn // nil: closed
	head   int64     // after the batch in front
	behind *flight   // what was sent, until its leader fetches it
}

func (w *window) open(f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, w.head, w.behind = f.conn, f.head+int64(f.events), nil
}

func (w *window) shut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn = nil
}

// fetch returns what was sent behind the batch in front, and forgets it; nil: nothing.
func (w *window) fetch() *flight {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.behind
	w.behind = nil
	return f
}

// drain receives the reply to the batch behind, before anything else is sent over the connection. Its leader finds
// it there.
func (w *window) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind != nil {
		w.behind.land()
	}
}

// sendBehind sends the batch behind the one in front, and reports whether it could.
func (c *committer) sendBehind(b *batch) bool {
	w := &c.window
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil || w.behind != nil || b.unsure {
		return false
	}
	w.behind = launch(w.conn, b.encode(&c.script, w.head, first{after: true}), w.head, b.events)
	return true
}

// fly waits for the reply to a batch on the wire, and calls sent when another one may be sent behind it. Its errors
// are those of fast.
func (c *committer) fly(f *flight, sent func()) error {
	if !f.landed && f.err == nil {
		c.window.open(f)
		sent()
		f.land()
		c.window.shut()
	}
	if f.err != nil {
		return f.err
	}
	if f.reply.refusal == nil {
		return nil
	}
	c.window.drain()
	if wrongServer(f.reply.refusal) {
		c.store.pool.suspect.Store(true)
	}
	if f.reply.refusal.ConstraintName == positionTaken {
		c.rival = time.Now()
	}
	return f.reply.refusal
}

// positionTaken is the index that refuses a batch after another replica's append.
const positionTaken = "entries_position"

// runBehind ends a batch that was sent behind another one, whose leader has released the connection.
func (c *committer) runBehind(b *batch, sent func()) {
	f := c.window.fetch()
	if f == nil || f.conn != c.conn { // the connection broke
		c.runSlowPath(b.requests, true)
		return
	}
	drained := f.landed
	c.conclude(b, f.head, c.fly(f, sent))
	if drained {
		c.head = -1 // the batch in front was appended after this one
	}
}
