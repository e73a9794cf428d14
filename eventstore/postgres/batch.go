package postgres

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// batch is what one transaction appends.
type batch struct {
	requests []*request
	stale    []*request // left out: their callers refuse them themselves
	events   int
	bytes    int
	// unsure: some versions were verified in an earlier life of the log and must be looked up.
	unsure bool
	wire   []byte // the encoded messages, reused
}

func (b *batch) reset() {
	clear(b.requests)
	clear(b.stale)
	if cap(b.wire) > 4*maxBatchBytes {
		b.wire = nil
	}
	*b = batch{requests: b.requests[:0], stale: b.stale[:0], wire: b.wire[:0]}
}

func (b *batch) add(r *request, unsure bool) {
	b.requests = append(b.requests, r)
	b.events += r.events
	b.bytes += len(r.rows)
	b.unsure = b.unsure || unsure
}

// Names of the committer's prepared statements.
const (
	stmtBegin    = "begin"
	stmtHead     = "head"
	stmtCopy     = "copy"
	stmtInsert   = "insert"
	stmtCommit   = "commit"
	stmtRollback = "rollback"
)

// statements is the SQL behind the names.
//
// The entries' INSERT and COPY take the lock themselves (log.admit) and bring their positions
// along, counted from the head that the last batch left. If another replica has appended since,
// the unique index refuses them. Entries are never removed, and a restored log or another server
// means another connection: the head cannot have become lower, so no position is left out.
func statements() map[string]string {
	return map[string]string{
		stmtBegin:  `BEGIN`,
		stmtHead:   `SELECT log.begin_append()`,
		stmtCopy:   copyEntries,
		stmtInsert: `INSERT INTO log.entries (` + rowColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		stmtCommit: `COMMIT`, stmtRollback: `ROLLBACK`,
	}
}

// rivalPause is how long batches ask for the head first after another replica has appended.
const rivalPause = time.Second

// copyHeader opens binary COPY data: signature, flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copyTrailer ends it.
const copyTrailer = "\xff\xff"

// script is the fixed part of a batch's messages.
type script struct{ begin, copy, insert, execute, commit, rollback, probe, sync []byte }

func newScript() script {
	execute := message('E', "\x00\x00\x00\x00\x00") // the unnamed portal, all rows
	call := func(stmt string) []byte {
		return append(message('B', "\x00"+stmt+"\x00\x00\x00\x00\x00\x00\x01\x00\x01"), execute...)
	}
	sync := message('S', "")
	return script{
		begin: slices.Concat(call(stmtBegin), call(stmtHead), sync),
		copy:  call(stmtCopy), insert: opening(stmtInsert), execute: execute,
		commit: call(stmtCommit), rollback: append(call(stmtRollback), sync...), sync: sync,
		probe: slices.Concat(call(stmtBegin), call(stmtHead), call(stmtCopy)),
	}
}

// message frames a body as the protocol wants it.
func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// opening is a Bind up to its parameters, all in binary, without the frame.
func opening(stmt string) []byte { return []byte("\x00" + stmt + "\x00\x00\x01\x00\x01") }

// encode writes the whole transaction as one run of messages: the entries, and a Sync that
// commits. COPY data may follow its statement unasked: the server reads it once it has got that
// far, and skips all of it up to Sync once anything has failed. COPY is planned never, inserts a
// page of rows at a time and writes one WAL record for them. It costs more to set up than an
// INSERT, though hardly more for a hundred rows than for one.
//
// begun says that a transaction was begun before, and ends here.
func (b *batch) encode(s *script, head int64, begun bool) []byte {
	w := b.wire[:0]
	if len(b.requests) == 1 && b.events <= 1 {
		w = b.requests[0].bind(w, s, head)
	} else {
		w = b.copyData(append(w, s.copy...), head)
	}
	if begun {
		w = append(w, s.commit...)
	}
	b.wire = append(w, s.sync...)
	return b.wire
}

// bind appends an INSERT of the request's one row. A COPY row is also a statement's parameters: a
// count and the fields, each with its length, are written alike in both.
func (r *request) bind(w []byte, s *script, head int64) []byte {
	w = binary.BigEndian.AppendUint32(append(w, 'B'), uint32(4+len(s.insert)+len(r.rows)+2))
	w, _ = r.appendRows(append(w, s.insert...), head)
	return append(append(w, 0, 0), s.execute...)
}

func (b *batch) copyData(w []byte, head int64) []byte {
	w = append(w, 'd')
	at := len(w)
	w = append(w, 0, 0, 0, 0)
	w = append(w, copyHeader...)
	for _, r := range b.requests {
		w, head = r.appendRows(w, head)
	}
	w = append(w, copyTrailer...)
	binary.BigEndian.PutUint32(w[at:], uint32(len(w)-at))
	return append(w, 'c', 0, 0, 0, 4) // CopyDone
}

// settle gives the winners consecutive positions after head, and notes how far streams reach now.
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
