package postgres

import (
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// batch is what one transaction appends.
type batch struct {
	requests []*request
	stale    []*request // left out: a stream has moved on, so their callers refuse them
	events   int
	bytes    int
	// unsure: some versions were verified in an earlier generation of the log and must be looked up.
	unsure bool
	wire   []byte // the encoded messages, reused

	streams, keys map[string]bool // of its requests
}

// batches are spare ones.
var batches = sync.Pool{New: func() any { return &batch{streams: map[string]bool{}, keys: map[string]bool{}} }}

func (b *batch) free() {
	clear(b.requests)
	clear(b.stale)
	clear(b.streams)
	clear(b.keys)
	if cap(b.wire) > 4*maxBatchBytes {
		b.wire = nil
	}
	*b = batch{requests: b.requests[:0], stale: b.stale[:0], wire: b.wire[:0], streams: b.streams, keys: b.keys}
	batches.Put(b)
}

// touches reports whether the request touches a stream or a key of the batch.
func (b *batch) touches(r *request) bool {
	if r.key != "" && b.keys[r.key] {
		return true
	}
	for i := range r.writes {
		if b.streams[r.writes[i].stream] {
			return true
		}
	}
	return false
}

func (b *batch) add(r *request, unsure bool) {
	b.requests = append(b.requests, r)
	b.events += r.events
	b.bytes += len(r.rows)
	b.unsure = b.unsure || unsure
	if r.key != "" {
		b.keys[r.key] = true
	}
	for i := range r.writes {
		b.streams[r.writes[i].stream] = true
	}
}

// Names of the committer's prepared statements.
const (
	stmtBegin    = "begin"
	stmtHead     = "head"
	stmtAfter    = "after"
	stmtCopy     = "copy"
	stmtInsert   = "insert"
	stmtCommit   = "commit"
	stmtRollback = "rollback"
)

const copyEntries = `COPY log.entries (` + rowColumns + `) FROM STDIN (FORMAT binary)`

// statements is the SQL behind the names.
//
// The entries' INSERT and COPY take the lock themselves (log.admit). They carry their positions, counted
// from the head that the last batch left. If another replica has appended since, the unique index refuses
// them. stmtAfter fails, as a division by zero, unless an entry has the position. Entries are never removed, and a restored log or another server means another connection: the head
// cannot have become lower, so no position is left out.
func statements() map[string]string {
	return map[string]string{
		stmtBegin:  `BEGIN`,
		stmtHead:   `SELECT log.begin_append()`,
		stmtAfter:  `SELECT 1 / count(*) FROM log.entries WHERE position = $1`,
		stmtCopy:   copyEntries,
		stmtInsert: `INSERT INTO log.entries (` + rowColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		stmtCommit: `COMMIT`, stmtRollback: `ROLLBACK`,
	}
}

// rivalPause is how long batches ask for the head first, once another replica has appended.
const rivalPause = time.Second

// first is what comes before a batch.
type first struct {
	begun bool // a transaction was begun, which the batch ends
	after bool // a batch without a reply yet, without which this one must be refused
}

// encode writes the whole transaction as one run of messages: the entries, and a Sync that commits. COPY
// data may follow its statement without a reply in between: the server reads it when it gets there, and
// skips all of it up to Sync once anything has failed. COPY is never planned, inserts a page of rows at a
// time and writes one WAL record for them. It costs more to set up than an INSERT, but hardly more for a
// hundred rows than for one.
//
// first says what comes before them.
func (b *batch) encode(s *script, head int64, how first) []byte {
	w := b.wire[:0]
	if how.after {
		w = s.appendAfter(w, head)
	}
	if len(b.requests) == 1 && b.events <= 1 {
		w = s.appendInsert(w, b.requests[0], head)
	} else {
		w = appendCopyData(append(w, s.copy...), b.requests, head)
	}
	if how.begun {
		w = append(w, s.commit...)
	}
	b.wire = append(w, s.sync...)
	return b.wire
}

// settle gives the winners consecutive positions after head, and caches the new versions of their streams.
func settle(versions *versionCache, winners []*request, head int64) {
	versions.mu.Lock()
	defer versions.mu.Unlock()
	for _, r := range winners {
		if r.events == 0 {
			r.settle(eventstore.Result{}, nil)
			continue
		}
		r.settle(eventstore.Result{First: head + 1, Last: head + int64(r.events)}, nil)
		head += int64(r.events)
		for i := range r.writes {
			versions.set(r.writes[i].stream, r.writes[i].expected+int64(r.writes[i].count))
		}
	}
}

// fail settles all of them with one error.
func fail(requests []*request, err error) {
	for _, r := range requests {
		r.settle(eventstore.Result{}, err)
	}
}
