package postgres

import (
	"encoding/binary"
	"encoding/json"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// request is one caller's append on its way through the queue. Its rows are encoded by the
// caller, on whatever core is free, so that a batch is only copied together.
type request struct {
	writes  []write
	firstID string // id of the first event: proof of authorship after a broken connection
	key     string // receipt's key, "" if none
	digest  []byte // the receipt's request hash and response, for the same proof
	answer  []byte
	events  int    // in all writes
	rows    []byte // COPY rows: the events, the last with the receipt; or the receipt alone
	ends    []int  // where each event's row ends; none for a receipt alone

	generation uint64 // of the version cache, when the versions were verified

	// What the queue decides, read by the caller once wake has fired.
	wake   chan struct{}
	state  state
	stale  bool // a stream has moved on: to be refused by the caller itself
	result eventstore.Result
	err    error
}

type write struct {
	id       eventstore.StreamID
	stream   string
	key      [16]byte // stream's indexKey
	expected int64
	count    int
}

func (w write) conflict(actual int64) error {
	return &eventstore.ConflictError{Stream: w.id, Expected: w.expected, Actual: actual}
}

type state uint8

const (
	queued  state = iota // may still leave
	leading              // woken to run the next batch
	taken                // in a batch
	settled              // outcome known
)

// requests is shared by all stores: it holds nothing but spare memory.
var requests = sync.Pool{New: func() any { return &request{wake: make(chan struct{}, 1)} }}

// spare is the largest buffer worth keeping for the next append.
const spare = 64 << 10

// newRequest encodes a valid append.
func newRequest(a eventstore.Append) *request {
	r := requests.Get().(*request)
	for _, w := range a.Writes {
		stream := w.Stream.String()
		r.writes = append(r.writes, write{id: w.Stream, stream: stream, key: indexKey(stream), expected: w.Expected, count: len(w.Events)})
		r.events += len(w.Events)
	}
	if a.Receipt != nil {
		r.key, r.digest, r.answer = a.Receipt.Key, a.Receipt.Request, a.Receipt.Response
	}
	if r.events == 0 {
		r.rows = binary.BigEndian.AppendUint16(r.rows, columnCount)
		for range columnCount - receiptColumns {
			r.rows = appendNull(r.rows)
		}
		r.rows = appendReceipt(r.rows, a.Receipt)
		return r
	}
	r.firstID = a.Writes[0].Events[0].ID
	left := r.events
	for k, w := range a.Writes {
		for i := range w.Events {
			left--
			r.rows = appendEvent(r.rows, &r.writes[k], w.Expected+int64(i)+1, &w.Events[i])
			if left == 0 && a.Receipt != nil {
				r.rows = appendReceipt(r.rows, a.Receipt)
			} else {
				r.rows = appendNull(appendNull(appendNull(appendNull(r.rows))))
			}
			r.ends = append(r.ends, len(r.rows))
		}
	}
	return r
}

func (r *request) free() {
	if cap(r.rows) > spare {
		return
	}
	clear(r.writes)
	*r = request{wake: r.wake, writes: r.writes[:0], rows: r.rows[:0], ends: r.ends[:0]}
	requests.Put(r)
}

// settle notes the outcome for the caller.
func (r *request) settle(res eventstore.Result, err error) {
	r.result, r.err = res, err
}

// rowColumns match the rows below. The receipt's come last.
const (
	rowColumns = `position, version, time, schema, stream_key, stream, type, id, data, meta,
		receipt_key, receipt, request, response`
	columnCount    = 14
	receiptColumns = 4
)

const copyEntries = `COPY log.entries (` + rowColumns + `) FROM STDIN (FORMAT binary)`

// positionAt is where in its row an event's position stands: behind two lengths.
const positionAt = 2 + 4

// appendRows appends the request's rows with the positions after head, and returns the last.
func (r *request) appendRows(b []byte, head int64) ([]byte, int64) {
	at := len(b)
	b = append(b, r.rows...)
	start := 0
	for _, end := range r.ends {
		head++
		binary.BigEndian.PutUint64(b[at+start+positionAt:], uint64(head))
		start = end
	}
	return b, head
}

// postgresEpoch is where Postgres' timestamps count from, in Unix microseconds.
const postgresEpoch = 946_684_800_000_000

// appendEvent begins a row, which appendReceipt or nulls complete.
func appendEvent(b []byte, w *write, version int64, e *eventstore.NewEvent) []byte {
	b = binary.BigEndian.AppendUint16(b, columnCount)
	b = appendInt64(b, 0) // the position, for appendRows
	b = appendInt64(b, version)
	b = appendInt64(b, e.Time.Truncate(time.Microsecond).UnixMicro()-postgresEpoch)
	b = binary.BigEndian.AppendUint32(b, 4)
	b = binary.BigEndian.AppendUint32(b, uint32(e.Schema))
	b = appendField(b, w.key[:])
	b = appendField(b, w.stream)
	b = appendField(b, e.Type)
	b = appendField(b, e.ID)
	b = appendField(b, e.Data)
	at := len(b)
	b = appendMeta(append(b, 0, 0, 0, 0), &e.Meta)
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

func appendReceipt(b []byte, r *eventstore.Receipt) []byte {
	key := indexKey(r.Key)
	b = appendField(appendField(appendField(b, key[:]), r.Key), r.Request)
	if len(r.Response) == 0 {
		return appendNull(b)
	}
	return appendField(b, r.Response)
}

func appendField[T string | []byte | json.RawMessage](b []byte, v T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
}

func appendInt64(b []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(v))
}

func appendNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }
