package postgres

import (
	"encoding/binary"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// batch is what one transaction appends.
type batch struct {
	requests []*request
	stale    []*request // left out: their callers refuse them themselves
	events   int
	bare     int // receipts without events
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
	if r.events == 0 {
		b.bare++
	}
	b.unsure = b.unsure || unsure
}

// Names of the committer's prepared statements.
const (
	stmtBegin    = "begin"
	stmtEvents   = "events"
	stmtReceipts = "receipts"
	stmtEvent    = "event"
	stmtReceipt  = "receipt"
)

// statements is the SQL behind the names.
//
// A lone event's INSERT takes the lock in the statement that reads the head, which spares it a
// statement. If another replica held the lock, the head was read too early: the position is
// taken, its unique index refuses it, and the append goes the careful way.
func statements() map[string]string {
	return map[string]string{
		stmtBegin:    `SELECT log.begin_append()`,
		stmtEvents:   copyEvents,
		stmtReceipts: copyReceipts,
		stmtEvent: `INSERT INTO log.entries (position, ` + eventColumns + `)
			SELECT head + 1, $1::bigint, $2::timestamptz, $3::integer, $4, $5, $6, $7::json, $8, $9, $10::bytea, $11
			FROM pg_advisory_xact_lock(4801402170), (SELECT coalesce(max(position), 0) AS head FROM log.entries) h
			RETURNING position - 1, pg_notify('cloudbot_log', '')`,
		stmtReceipt: `INSERT INTO log.entries (` + receiptColumns + `) VALUES ($1, $2, $3, $4)`,
	}
}

// rivalPause is how long lone appends go like batches after one has collided with another replica.
const rivalPause = time.Second

// copyHeader opens binary COPY data: signature, flags, no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// copyTrailer ends it.
const copyTrailer = "\xff\xff"

// script is the fixed part of a batch's messages.
type script struct{ begin, events, receipts, event, receipt, execute, sync []byte }

func newScript() script {
	execute := message('E', "\x00\x00\x00\x00\x00") // the unnamed portal, all rows
	call := func(stmt string) []byte {
		return append(message('B', "\x00"+stmt+"\x00\x00\x00\x00\x00\x00\x01\x00\x01"), execute...)
	}
	return script{
		begin: call(stmtBegin), events: call(stmtEvents), receipts: call(stmtReceipts),
		event: opening(stmtEvent), receipt: opening(stmtReceipt), execute: execute, sync: message('S', ""),
	}
}

// message frames a body as the protocol wants it.
func message(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

// opening is a Bind up to its parameters, all in binary, without the frame.
func opening(stmt string) []byte { return []byte("\x00" + stmt + "\x00\x00\x01\x00\x01") }

// bind appends a statement with one COPY row as its parameters: a count and the fields, each
// with its length, are written alike in both. The result comes in binary.
func (s *script) bind(w, opening, row []byte) []byte {
	w = binary.BigEndian.AppendUint32(append(w, 'B'), uint32(4+len(opening)+len(row)+4))
	w = append(append(w, opening...), row...)
	w = append(w, 0, 1, 0, 1)
	return append(w, s.execute...)
}

// encode writes the whole transaction as one run of messages: lock and head, the events, receipts
// without events, one Sync that commits. COPY data may follow its statement unasked: the server reads
// it once it has got that far, and skips all of it up to Sync once anything has failed. COPY is
// planned never, inserts a page of rows at a time and writes one WAL record for them.
func (b *batch) encode(s *script) []byte {
	w := append(b.wire[:0], s.begin...)
	if b.events > 0 {
		w = b.copyData(append(w, s.events...), false)
	}
	if b.bare > 0 {
		w = b.copyData(append(w, s.receipts...), true)
	}
	w = append(w, s.sync...)
	b.wire = w
	return w
}

// lone tells a batch that goes as plain INSERTs: COPY costs more to set up, though hardly more
// for a hundred rows than for one.
func (b *batch) lone() bool { return len(b.requests) == 1 && b.events <= 1 }

// encodeOne is encode for a lone batch.
func (b *batch) encodeOne(s *script) []byte {
	r := b.requests[0]
	w := b.wire[:0]
	if b.events > 0 {
		w = s.bind(w, s.event, r.rows)
	} else {
		w = s.bind(w, s.receipt, r.rows)
	}
	w = append(w, s.sync...)
	b.wire = w
	return w
}

// copyData appends the rows of those requests that are bare receipts, or of those that are not.
func (b *batch) copyData(w []byte, bare bool) []byte {
	w = append(w, 'd')
	at := len(w)
	w = append(w, 0, 0, 0, 0)
	w = append(w, copyHeader...)
	for _, r := range b.requests {
		if (r.events == 0) == bare {
			w = append(w, r.rows...)
		}
	}
	w = append(w, copyTrailer...)
	binary.BigEndian.PutUint32(w[at:], uint32(len(w)-at))
	return append(w, 'c', 0, 0, 0, 4) // CopyDone
}

// settle gives the winners consecutive positions after head, and notes how far streams reach now.
func settle(k *known, winners []*request, head int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range winners {
		if r.events == 0 {
			r.settle(eventstore.Result{}, nil)
			continue
		}
		r.settle(eventstore.Result{First: head + 1, Last: head + int64(r.events)}, nil)
		head += int64(r.events)
		for i := range r.writes {
			k.set(r.writes[i].stream, r.writes[i].expected+int64(r.writes[i].count))
		}
	}
}

// fail settles all of them with one error.
func fail(requests []*request, err error) {
	for _, r := range requests {
		r.settle(eventstore.Result{}, err)
	}
}
