package eventstoretest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

func bytesAreKept(t *testing.T, s eventstore.Store) {
	i := &ids{}
	for n, data := range []string{
		`{}`, `null`, `true`, `"text"`, `0`, `[]`,
		" {\n\t\"b\" : 1,\r\n \"a\":2 } ",
		`{"a":1,"a":2}`,
		`12345678901234567890123456789012345678901234567890.000`, `1e400`, `-0.0`, `1E+2`,
		`"\u00e9\u0000\/\ud83d\ude00"`, `"é😀<>&"`, `"\ud800"`,
		`{"\u0061":"\n"}`,
		strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
		`"` + strings.Repeat("compressible ", 20_000) + `"`,
	} {
		id := string(rune('a' + n))
		a := withReceipt(to(i, id, 0, 1), id, data)
		a.Writes[0].Events[0].Data = json.RawMessage(data)
		must(t, s, a)
		if got := history(t, s, id, 0); string(got[0].Data) != data {
			t.Errorf("got data %.80q, want %.80q", got[0].Data, data)
		}
		if got := receiptOf(t, s, id); string(got.Response) != data {
			t.Errorf("got response %.80q, want %.80q", got.Response, data)
		}
	}
}

func fieldsAreKept(t *testing.T, s eventstore.Store) {
	want := eventstore.NewEvent{
		ID: "01J8Z3K4M5N6P7Q8R9S0T1V2W3", Type: "thing.renamed", Schema: 7,
		Time: time.Date(1999, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("", 3600)),
		Data: json.RawMessage(`{"x":1}`),
		Meta: eventstore.Metadata{
			Actor: "01ACC", CommandID: "c \"quoted\" é", CorrelationID: "co", CausationID: "ca",
			TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ClientAddr: "2001:db8::1",
		},
	}
	bare := eventstore.NewEvent{ID: "x", Type: "t", Schema: 1, Time: time.Unix(0, 0), Data: json.RawMessage(`1`)}
	must(t, s, eventstore.Append{Writes: []eventstore.Write{{Stream: stream("a"), Events: []eventstore.NewEvent{want, bare}}}})
	for _, got := range [][]eventstore.Event{history(t, s, "a", 0), all(t, s)} {
		e := got[0]
		if e.ID != want.ID || e.Type != want.Type || e.Schema != want.Schema || e.Meta != want.Meta {
			t.Errorf("got %+v, want %+v", e.NewEvent, want)
		}
		// Kept to the microsecond, in UTC; a store may not round into the next second.
		if w := want.Time.UTC().Truncate(time.Microsecond); e.Time != w {
			t.Errorf("got time %v, want %v", e.Time, w)
		}
		if got[1].Meta != (eventstore.Metadata{}) || got[1].Time != time.Unix(0, 0).UTC() {
			t.Errorf("got %+v, want no metadata and time 0", got[1])
		}
	}
}

func callersKeepTheirSlices(t *testing.T, s eventstore.Store) {
	i := &ids{}
	a := withReceipt(to(i, "a", 0, 1), "k", `"before"`)
	must(t, s, a)
	copy(a.Writes[0].Events[0].Data, `XXXX`)
	copy(a.Receipt.Response, `XXXX`)
	copy(all(t, s)[0].Data, `YYYY`)
	copy(receiptOf(t, s, "k").Response, `YYYY`)
	if got := all(t, s)[0].Data; string(got) != `{"n":0}` {
		t.Errorf(`got data %s, want {"n":0}`, got)
	}
	if got := receiptOf(t, s, "k").Response; string(got) != `"before"` {
		t.Errorf(`got response %s, want "before"`, got)
	}
	// An event stays the same while the reader reads on.
	must(t, s, to(i, "a", 1, 3))
	var kept []eventstore.Event
	for e, err := range s.ReadAll(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, e)
	}
	for n, want := range []string{`{"n":0}`, `{"n":1}`, `{"n":2}`} {
		if string(kept[n].Data) != want {
			t.Errorf("event %d: got %s, want %s", n, kept[n].Data, want)
		}
	}
}

func readsStartAfter(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 3))
	must(t, s, to(i, "b", 0, 2))
	for _, after := range []int64{-5, 0, 1, 2, 3, 4, 5, 6, 1 << 40} {
		n, first := int64(0), int64(0)
		for e, err := range s.ReadAll(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; first == 0 {
				first = e.Position
			}
		}
		from := max(after, 0)
		if want := max(5-from, 0); n != want || (n > 0 && first != from+1) {
			t.Errorf("after %d: got %d events from %d, want %d from %d", after, n, first, want, from+1)
		}
		if got, want := int64(len(history(t, s, "a", after))), max(3-from, 0); got != want {
			t.Errorf("stream after %d: got %d events, want %d", after, got, want)
		}
	}
	if got := history(t, s, "a", 2); got[0].Version != 3 {
		t.Errorf("version: got %d, want 3", got[0].Version)
	}
	if got := history(t, s, "none", 0); len(got) != 0 {
		t.Errorf("got %d events of no stream, want 0", len(got))
	}
}

func iteratorsStop(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 50))
	// More unfinished reads than any pool has connections: stopping must give them back.
	for range 100 {
		for e, err := range s.ReadAll(t.Context(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Position == 2 {
				break
			}
		}
		for e, err := range s.ReadStream(t.Context(), stream("a"), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Version == 2 {
				break
			}
		}
	}
	// A reader may append, and read again, while it reads.
	version := int64(50)
	for e, err := range s.ReadAll(t.Context(), 45) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Position <= 50 {
			must(t, s, to(i, "a", version, 1))
			version++
			history(t, s, "a", 40)
		}
	}
	Sound(t, s)
}

func endedContext(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 10))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, appendErr := s.Append(ctx, to(i, "b", 0, 1))
	_, headErr := s.Head(ctx)
	_, receiptErr := s.Receipt(ctx, "k")
	errs := map[string]error{"append": appendErr, "head": headErr, "receipt": receiptErr}
	for _, err := range s.ReadAll(ctx, 0) {
		errs["read all"] = err
	}
	for _, err := range s.ReadStream(ctx, stream("a"), 0) {
		errs["read stream"] = err
	}
	if len(errs) != 5 {
		t.Errorf("got errors %v, want one of each of 5 calls", errs)
	}
	for what, err := range errs {
		if !errors.Is(err, eventstore.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want it unavailable and canceled", what, err)
		}
	}
	if n := len(Sound(t, s)); n != 10 {
		t.Errorf("got %d events, want 10: an append with an ended context was kept", n)
	}
}

func emptyLog(t *testing.T, s eventstore.Store) {
	if n := len(Sound(t, s)); n != 0 {
		t.Fatalf("got %d events, want 0", n)
	}
	if r, err := s.Receipt(t.Context(), "none"); r != nil || err != nil {
		t.Fatalf("got receipt %v, %v, want none", r, err)
	}
}

func longLog(t *testing.T, s eventstore.Store) {
	i := &ids{}
	for v := range int64(30) {
		must(t, s, to(i, "a", v*100, 100))
	}
	if n := len(Sound(t, s)); n != 3000 {
		t.Fatalf("got %d events, want 3000", n)
	}
	if n := len(history(t, s, "a", 1)); n != 2999 {
		t.Fatalf("got %d events in the stream, want 2999", n)
	}
}

func notifications(t *testing.T, s eventstore.Store) {
	i := &ids{}
	c := s.Notifications(t.Context())
	drain(c)
	must(t, s, to(i, "a", 0, 1))
	awaitNotification(t, c)
}

func notificationsClose(t *testing.T, s eventstore.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	c := s.Notifications(ctx)
	cancel()
	timeout := time.After(60 * time.Second)
	for {
		select {
		case _, open := <-c:
			if !open {
				return
			}
		case <-timeout:
			t.Fatal("got an open channel, want it closed")
		}
	}
}

func drain(c <-chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

func awaitNotification(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case _, open := <-c:
		if !open {
			t.Fatal("got a closed channel, want a notification")
		}
	case <-time.After(60 * time.Second):
		t.Fatal("got no notification, want one")
	}
}
