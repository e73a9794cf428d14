// Package eventstore is the contract of the log: what an event is, how events are appended,
// how they are read back. Implementations are postgres (the truth) and memory (tests); both
// pass the one suite in eventstoretest.
//
// The one thing to know: the log has a single gapless order. Position order, commit order and
// the order within each stream are the same thing, so "position > cursor" is a safe read.
package eventstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Limits of one append; a store refuses what exceeds them with ErrTooLarge.
const (
	MaxEventBytes  = 512 << 10 // Data of one event
	MaxAppendEvent = 100       // events of one append
)

// StreamID names a stream: one aggregate's history.
type StreamID struct {
	Aggregate string // lower-case letters: "instance"
	ID        string // letters, digits, '-' and '_': mostly an ULID
}

// String gives "instance/01J…", the form the store keeps.
func (s StreamID) String() string { return s.Aggregate + "/" + s.ID }

// Metadata says where an event came from. It never holds secrets.
type Metadata struct {
	Actor         string `json:"actor,omitempty"`          // account id, or "system"
	CommandID     string `json:"command_id,omitempty"`     // the client's Idempotency-Key, or minted
	CorrelationID string `json:"correlation_id,omitempty"` // request that began it all
	CausationID   string `json:"causation_id,omitempty"`   // event or command that led to this one
	TraceParent   string `json:"traceparent,omitempty"`    // W3C trace context
	ClientAddr    string `json:"client_addr,omitempty"`    // address without port
}

// NewEvent is a fact on its way into the log.
type NewEvent struct {
	ID     string          // ULID, unique by construction
	Type   string          // wire name: "instance.requested"
	Schema int             // version of Data's shape, from 1
	Time   time.Time       // UTC, kept to the microsecond; informative, order is by Position
	Data   json.RawMessage // a JSON value, kept byte for byte
	Meta   Metadata
}

// Event is a fact as it stands in the log.
type Event struct {
	Position int64 // 1, 2, 3 … over the whole log, without a gap
	Stream   StreamID
	Version  int64 // 1, 2, 3 … within the stream, without a gap
	NewEvent
	// Damage says what of the row cannot be read, nil for a sound one. The other fields hold what can
	// be: at least the position, and names that stand for those that are missing. A damaged event is
	// never applied to anything: its stream stops there, and everything else continues.
	Damage error
}

// Write is one stream's part of an append.
type Write struct {
	Stream   StreamID
	Expected int64 // the stream's version as the caller read it; 0: must not exist yet
	Events   []NewEvent
}

// Receipt proves that a command was accepted, and keeps its first answer.
type Receipt struct {
	Key      string          // who and which command: "<account>/<command id>", at most 200 bytes
	Request  []byte          // SHA-256 of the request, to refuse the same key with another body
	Response json.RawMessage // what the first answer said, kept byte for byte
	Position int64           // last position its append wrote, 0 if it wrote none; set by the store
}

// Append is all or nothing: every write meets its expected version, or nothing is kept.
// Writes may be empty when there is a receipt: an accepted command that changed nothing.
type Append struct {
	Writes  []Write
	Receipt *Receipt // nil: none
}

// Result tells where an append went. Both are 0 if it wrote no event.
type Result struct{ First, Last int64 }

// Store is the log.
type Store interface {
	// Append writes a's events at consecutive positions, together with its receipt.
	// Errors: *DuplicateError, which takes precedence over *ConflictError; ErrTooLarge; ErrInvalid, also
	// for a write without events; or ErrUnavailable, which includes "unknown whether it
	// committed": ask Receipt. When ctx ends, the error is both ErrUnavailable and ctx's.
	Append(ctx context.Context, a Append) (Result, error)
	// ReadStream yields the stream's events with Version > after, in order. An error ends it; a row
	// that cannot be read is no error but an event with its Damage.
	ReadStream(ctx context.Context, s StreamID, after int64) iter.Seq2[Event, error]
	// ReadAll yields the events with Position > after, in order, up to the head as of the call or later.
	ReadAll(ctx context.Context, after int64) iter.Seq2[Event, error]
	// Version returns the version of the stream's last event, 0 for a stream without one. It reads no event.
	Version(ctx context.Context, s StreamID) (int64, error)
	// Receipt returns the receipt kept under key, or nil.
	Receipt(ctx context.Context, key string) (*Receipt, error)
	// Head returns the last position, 0 for an empty log.
	Head(ctx context.Context) (int64, error)
	// Notifications returns a channel that receives a value some time after an append, by any process.
	// Values may be merged or lost, so poll as well. It is closed when ctx ends.
	Notifications(ctx context.Context) <-chan struct{}
}

var (
	// ErrTooLarge refuses an append beyond the limits above.
	ErrTooLarge = errors.New("event store: append too large")
	// ErrInvalid refuses an append that is malformed: no stream id, Data that is not JSON, two writes to one stream.
	ErrInvalid = errors.New("event store: invalid append")
	// ErrDamaged says that a stream cannot be folded, because one of its events cannot be read or is
	// unknown. Trying again does not help: an operator has to look at it.
	ErrDamaged = errors.New("event store: a stored event cannot be read")
	// ErrUnavailable wraps every failure of the store itself.
	ErrUnavailable = errors.New("event store: unavailable")
)

// ConflictError says that a stream was not at the version its writer expected.
type ConflictError struct {
	Stream           StreamID
	Expected, Actual int64 // Actual is -1 where it was not looked up
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("event store: %s is at version %d, not %d", e.Stream, e.Actual, e.Expected)
}

// DuplicateError says that the receipt's key was used before; the command has had its outcome.
type DuplicateError struct{ Receipt Receipt }

func (e *DuplicateError) Error() string { return "event store: command was already accepted" }
