package postgres

import (
	"sync"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// request is one caller's append on its way through the queue. The caller encodes its rows, on any free
// core, so that the leader only copies them into a batch.
type request struct {
	writes  []write
	firstID string // id of the first event: proves after a broken connection that the event is this request's
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
	stale  bool // a stream has moved on: the caller itself refuses it
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
	queued  state = iota // can be withdrawn
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
		r.rows = appendReceiptRow(r.rows, a.Receipt)
		return r
	}
	r.firstID = a.Writes[0].Events[0].ID
	left := r.events
	for k, w := range a.Writes {
		for i := range w.Events {
			var receipt *eventstore.Receipt
			if left--; left == 0 { // the last event carries it
				receipt = a.Receipt
			}
			r.rows = appendEventRow(r.rows, &r.writes[k], w.Expected+int64(i)+1, &w.Events[i], receipt)
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

// appendRows appends the request's rows with the positions after head, and returns the last.
func (r *request) appendRows(b []byte, head int64) ([]byte, int64) {
	at := len(b)
	b = append(b, r.rows...)
	start := 0
	for _, end := range r.ends {
		head++
		setPosition(b[at+start:], head)
		start = end
	}
	return b, head
}
