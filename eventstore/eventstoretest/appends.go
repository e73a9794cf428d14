package eventstoretest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

func positionsHaveNoGap(t *testing.T, s eventstore.Store) {
	i := &ids{}
	for n, want := range []eventstore.Result{{First: 1, Last: 1}, {First: 2, Last: 4}, {First: 5, Last: 6}} {
		got := must(t, s, to(i, string(rune('a'+n)), 0, int(want.Last-want.First+1)))
		if got != want {
			t.Fatalf("append %d: got positions %v, want %v", n, got, want)
		}
		// A refused append takes no position.
		if _, err := s.Append(t.Context(), to(i, "a", 0, 3)); err == nil {
			t.Fatal("a stale append: got no error, want a conflict")
		}
	}
	Sound(t, s)
}

func versionsHaveNoGap(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 2))
	must(t, s, to(i, "b", 0, 1))
	must(t, s, to(i, "a", 2, 3))
	got := history(t, s, "a", 0)
	if len(got) != 5 {
		t.Fatalf("got %d events, want 5", len(got))
	}
	for n, e := range got {
		if e.Version != int64(n)+1 || e.Stream != stream("a") {
			t.Errorf("event %d: got version %d of %s, want %d of %s", n, e.Version, e.Stream, n+1, stream("a"))
		}
	}
	Sound(t, s)
}

func staleWriterConflicts(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 3))
	for _, expected := range []int64{0, 1, 2} {
		_, err := s.Append(t.Context(), to(i, "a", expected, 1))
		wantConflict(t, err, "a", expected, 3)
	}
	must(t, s, to(i, "a", 3, 1))
	if n := len(Sound(t, s)); n != 4 {
		t.Fatalf("got %d events, want 4", n)
	}
}

func futureVersionConflicts(t *testing.T, s eventstore.Store) {
	i := &ids{}
	_, err := s.Append(t.Context(), to(i, "a", 1, 1))
	wantConflict(t, err, "a", 1, 0)
	must(t, s, to(i, "a", 0, 2))
	_, err = s.Append(t.Context(), to(i, "a", 4, 1))
	wantConflict(t, err, "a", 4, 2)
	if n := len(Sound(t, s)); n != 2 {
		t.Fatalf("got %d events, want 2", n)
	}
}

func wantConflict(t *testing.T, err error, id string, expected, actual int64) {
	t.Helper()
	var c *eventstore.ConflictError
	if !errors.As(err, &c) {
		t.Fatalf("got %v, want a conflict", err)
	}
	if c.Stream != stream(id) || c.Expected != expected || (c.Actual != actual && c.Actual != -1) {
		t.Fatalf("got %v, want a conflict of %s at version %d, expected %d", err, stream(id), actual, expected)
	}
}

func severalStreamsAllOrNothing(t *testing.T, s eventstore.Store) {
	i := &ids{}
	a := to(i, "a", 0, 2)
	a.Writes = append(a.Writes, to(i, "b", 0, 1).Writes...)
	a.Writes = append(a.Writes, to(i, "c", 0, 2).Writes...)
	if got := must(t, s, a); got != (eventstore.Result{First: 1, Last: 5}) {
		t.Fatalf("got positions %v, want %v", got, eventstore.Result{First: 1, Last: 5})
	}
	var order []string
	for _, e := range all(t, s) {
		order = append(order, e.Stream.ID)
	}
	if !slices.Equal(order, []string{"a", "a", "b", "c", "c"}) {
		t.Fatalf("order: got %v, want %v", order, []string{"a", "a", "b", "c", "c"})
	}
	stale := to(i, "a", 2, 1)
	stale.Writes = append(stale.Writes, to(i, "d", 0, 1).Writes...)
	stale.Writes = append(stale.Writes, to(i, "b", 0, 1).Writes...)
	_, err := s.Append(t.Context(), stale)
	wantConflict(t, err, "b", 0, 1)
	if n := len(Sound(t, s)); n != 5 {
		t.Fatalf("got %d events, want 5: part of a refused append was kept", n)
	}
	must(t, s, to(i, "a", 2, 1))
	must(t, s, to(i, "d", 0, 1))
}

func firstReceiptWins(t *testing.T, s eventstore.Store) {
	i := &ids{}
	response := `{ "id":1,  "id":2 }`
	res := must(t, s, withReceipt(to(i, "a", 0, 3), "acc/1", response))
	_, err := s.Append(t.Context(), withReceipt(to(i, "b", 0, 1), "acc/1", `"another"`))
	var dup *eventstore.DuplicateError
	if !errors.As(err, &dup) {
		t.Fatalf("a key used twice: got %v, want a duplicate", err)
	}
	for _, r := range []*eventstore.Receipt{&dup.Receipt, receiptOf(t, s, "acc/1")} {
		if r.Key != "acc/1" || string(r.Response) != response || string(r.Request) != "hash of acc/1" || r.Position != res.Last {
			t.Fatalf("got receipt %+v, want that of acc/1 at position %d with response %s", r, res.Last, response)
		}
	}
	must(t, s, withReceipt(to(i, "b", 0, 1), "acc/2", `{}`))
	if n := len(Sound(t, s)); n != 4 {
		t.Fatalf("got %d events, want 4", n)
	}
}

func receiptOf(t *testing.T, s eventstore.Store, key string) *eventstore.Receipt {
	t.Helper()
	r, err := s.Receipt(t.Context(), key)
	if err != nil {
		t.Fatalf("receipt: %v", err)
	}
	if r == nil {
		t.Fatalf("got no receipt under %q, want one", key)
	}
	return r
}

func receiptWithoutEvents(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 1))
	if res := must(t, s, withReceipt(eventstore.Append{}, "k", `true`)); res != (eventstore.Result{}) {
		t.Fatalf("got positions %v, want %v", res, eventstore.Result{})
	}
	if r := receiptOf(t, s, "k"); string(r.Response) != "true" || r.Position != 0 {
		t.Fatalf("got receipt %+v, want response true and position 0", r)
	}
	none := withReceipt(eventstore.Append{}, "silent", "")
	none.Receipt.Response = nil
	must(t, s, none)
	if r := receiptOf(t, s, "silent"); len(r.Response) != 0 {
		t.Fatalf("got receipt %+v, want no response", r)
	}
	_, err := s.Append(t.Context(), withReceipt(eventstore.Append{}, "k", `false`))
	if dup := (*eventstore.DuplicateError)(nil); !errors.As(err, &dup) || string(dup.Receipt.Response) != "true" {
		t.Fatalf("second use: got %v, want a duplicate with response true", err)
	}
	if n := len(Sound(t, s)); n != 1 {
		t.Fatalf("got %d events, want 1", n)
	}
}

func conflictKeepsNoReceipt(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, to(i, "a", 0, 1))
	if _, err := s.Append(t.Context(), withReceipt(to(i, "a", 0, 1), "k", `1`)); err == nil {
		t.Fatal("got no error, want a conflict")
	}
	if r, err := s.Receipt(t.Context(), "k"); r != nil || err != nil {
		t.Fatalf("got receipt %v, %v, want none", r, err)
	}
	must(t, s, withReceipt(to(i, "a", 1, 1), "k", `2`))
}

// A retried command is stale as well. It must learn that it succeeded, not that it lost.
func duplicateBeforeConflict(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, withReceipt(to(i, "a", 0, 1), "k", `1`))
	_, err := s.Append(t.Context(), withReceipt(to(i, "a", 0, 1), "k", `1`))
	if dup := (*eventstore.DuplicateError)(nil); !errors.As(err, &dup) {
		t.Fatalf("the retry: got %v, want a duplicate", err)
	}
}

func limits(t *testing.T, s eventstore.Store) {
	i := &ids{}
	big := to(i, "big", 0, 1)
	big.Writes[0].Events[0].Data = []byte(`"` + strings.Repeat("x", eventstore.MaxEventBytes-2) + `"`)
	must(t, s, big)
	must(t, s, to(i, "many", 0, eventstore.MaxAppendEvent))

	tooBig := to(i, "big", 1, 1)
	tooBig.Writes[0].Events[0].Data = []byte(`"` + strings.Repeat("x", eventstore.MaxEventBytes-1) + `"`)
	tooMany := to(i, "many", eventstore.MaxAppendEvent, 60)
	tooMany.Writes = append(tooMany.Writes, to(i, "other", 0, 41).Writes...)
	for _, a := range []eventstore.Append{tooBig, tooMany} {
		if _, err := s.Append(t.Context(), a); !errors.Is(err, eventstore.ErrTooLarge) {
			t.Errorf("got %v, want %v", err, eventstore.ErrTooLarge)
		}
	}
	if n := len(Sound(t, s)); n != 1+eventstore.MaxAppendEvent {
		t.Fatalf("got %d events, want %v", n, 1+eventstore.MaxAppendEvent)
	}
}

func malformedAppends(t *testing.T, s eventstore.Store) {
	i := &ids{}
	spoil := map[string]func(*eventstore.Append){
		"nothing at all":      func(a *eventstore.Append) { *a = eventstore.Append{} },
		"no aggregate":        func(a *eventstore.Append) { a.Writes[0].Stream.Aggregate = "" },
		"aggregate's letters": func(a *eventstore.Append) { a.Writes[0].Stream.Aggregate = "Thing" },
		"no stream id":        func(a *eventstore.Append) { a.Writes[0].Stream.ID = "" },
		"slash in id":         func(a *eventstore.Append) { a.Writes[0].Stream.ID = "a/b" },
		"long id":             func(a *eventstore.Append) { a.Writes[0].Stream.ID = strings.Repeat("x", 3000) },
		"negative version":    func(a *eventstore.Append) { a.Writes[0].Expected = -1 },
		"no events":           func(a *eventstore.Append) { a.Writes[0].Events = nil },
		"one stream twice":    func(a *eventstore.Append) { a.Writes = append(a.Writes, a.Writes[0]) },
		"no event id":         func(a *eventstore.Append) { a.Writes[0].Events[0].ID = "" },
		"no type":             func(a *eventstore.Append) { a.Writes[0].Events[0].Type = "" },
		"zero in type":        func(a *eventstore.Append) { a.Writes[0].Events[0].Type = "a\x00b" },
		"no schema":           func(a *eventstore.Append) { a.Writes[0].Events[0].Schema = 0 },
		"time out of range":   func(a *eventstore.Append) { a.Writes[0].Events[0].Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no data":             func(a *eventstore.Append) { a.Writes[0].Events[0].Data = nil },
		"half an object":      func(a *eventstore.Append) { a.Writes[0].Events[0].Data = []byte(`{"a":`) },
		"two values":          func(a *eventstore.Append) { a.Writes[0].Events[0].Data = []byte(`1 2`) },
		"not UTF-8":           func(a *eventstore.Append) { a.Writes[0].Events[0].Data = []byte("\"\xff\"") },
		"no receipt key":      func(a *eventstore.Append) { a.Receipt = &eventstore.Receipt{Response: []byte(`1`)} },
		"long receipt key":    func(a *eventstore.Append) { a.Receipt = &eventstore.Receipt{Key: strings.Repeat("k", 201)} },
		"response not JSON":   func(a *eventstore.Append) { a.Receipt = &eventstore.Receipt{Key: "k", Response: []byte(`<p>`)} },
	}
	for what, f := range spoil {
		a := to(i, "a", 0, 1)
		f(&a)
		if _, err := s.Append(t.Context(), a); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", what, err, eventstore.ErrInvalid)
		}
	}
	if h := head(t, s); h != 0 {
		t.Fatalf("head: got %d, want 0", h)
	}
}
