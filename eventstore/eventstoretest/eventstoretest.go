// Package eventstoretest is the one suite that every store passes: it checks each promise of the contract. A
// store that passes it can replace any other.
package eventstoretest

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Run runs the suite. open returns a store on an empty log of its own, closed with the test.
func Run(t *testing.T, open func(t *testing.T) eventstore.Store) {
	cases := []struct {
		name string
		run  func(*testing.T, eventstore.Store)
	}{
		{"positions have no gap", positionsHaveNoGap},
		{"versions have no gap", versionsHaveNoGap},
		{"a stale writer conflicts", staleWriterConflicts},
		{"a version from the future conflicts", futureVersionConflicts},
		{"several streams all or nothing", severalStreamsAllOrNothing},
		{"first receipt wins", firstReceiptWins},
		{"receipt without events", receiptWithoutEvents},
		{"a conflict keeps no receipt", conflictKeepsNoReceipt},
		{"a duplicate comes before a conflict", duplicateBeforeConflict},
		{"bytes are kept", bytesAreKept},
		{"fields are kept", fieldsAreKept},
		{"callers keep their slices", callersKeepTheirSlices},
		{"reads start after", readsStartAfter},
		{"versions", versions},
		{"iterators stop", iteratorsStop},
		{"an ended context", endedContext},
		{"limits", limits},
		{"malformed appends", malformedAppends},
		{"an empty log", emptyLog},
		{"long log", longLog},
		{"notifications", notifications},
		{"notifications close with their context", notificationsClose},
		{"one stream, many writers", oneStreamManyWriters},
		{"many streams, a tailing reader", tailingReader},
		{"losers leave their neighbours alone", losersLeaveNeighbours},
		{"one key, many callers", oneKeyManyCallers},
		{"agrees with a model", agreesWithModel},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

// RunShared checks two stores opened on one log, as two replicas have it.
func RunShared(t *testing.T, open func(t *testing.T) (a, b eventstore.Store)) {
	cases := []struct {
		name string
		run  func(*testing.T, eventstore.Store, eventstore.Store)
	}{
		{"each sees the other's events", eachSeesTheOthers},
		{"each knows the other's versions", versionsCross},
		{"one stream, both write", bothWriteOneStream},
		{"nothing is lost", nothingIsLost},
		{"notifications cross over", notificationsCross},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := open(t)
			c.run(t, a, b)
		})
	}
}

// ids makes the suite's event ids; their values do not matter, only that they differ.
type ids struct{ n atomic.Int64 }

func (i *ids) next() string { return fmt.Sprintf("01TEST%020d", i.n.Add(1)) }

func stream(id string) eventstore.StreamID { return eventstore.StreamID{Aggregate: "thing", ID: id} }

func events(i *ids, n int) []eventstore.NewEvent {
	all := make([]eventstore.NewEvent, n)
	for k := range all {
		all[k] = eventstore.NewEvent{
			ID: i.next(), Type: "thing.happened", Schema: 1,
			Time: time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC),
			Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, k)),
			Meta: eventstore.Metadata{Actor: "system"},
		}
	}
	return all
}

// to is an append of n events to one stream.
func to(i *ids, id string, expected int64, n int) eventstore.Append {
	return eventstore.Append{Writes: []eventstore.Write{{Stream: stream(id), Expected: expected, Events: events(i, n)}}}
}

func withReceipt(a eventstore.Append, key, response string) eventstore.Append {
	a.Receipt = &eventstore.Receipt{Key: key, Request: []byte("hash of " + key), Response: json.RawMessage(response)}
	return a
}

func must(t *testing.T, s eventstore.Store, a eventstore.Append) eventstore.Result {
	t.Helper()
	res, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return res
}

func all(t *testing.T, s eventstore.Store) []eventstore.Event {
	t.Helper()
	var got []eventstore.Event
	for e, err := range s.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatalf("read all: %v", err)
		}
		got = append(got, e)
	}
	return got
}

func history(t *testing.T, s eventstore.Store, id string, after int64) []eventstore.Event {
	t.Helper()
	var got []eventstore.Event
	for e, err := range s.ReadStream(t.Context(), stream(id), after) {
		if err != nil {
			t.Fatalf("read stream: %v", err)
		}
		got = append(got, e)
	}
	return got
}

func head(t *testing.T, s eventstore.Store) int64 {
	t.Helper()
	h, err := s.Head(t.Context())
	if err != nil {
		t.Fatalf("head: %v", err)
	}
	return h
}

// Sound returns the log. It fails the test unless the log has positions 1..n and every stream has versions
// 1..m.
func Sound(t *testing.T, s eventstore.Store) []eventstore.Event {
	t.Helper()
	log := all(t, s)
	versions := map[eventstore.StreamID]int64{}
	for i, e := range log {
		if e.Position != int64(i)+1 {
			t.Fatalf("event %d: got position %d, want %d", i+1, e.Position, i+1)
		}
		if versions[e.Stream]++; e.Version != versions[e.Stream] {
			t.Fatalf("position %d: got version %d of %s, want %d", e.Position, e.Version, e.Stream, versions[e.Stream])
		}
	}
	if h := head(t, s); h != int64(len(log)) {
		t.Fatalf("got head %d, want %d", h, len(log))
	}
	return log
}
