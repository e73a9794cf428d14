package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// added is the event of the smallest aggregate there is: a sum.
type added struct{ N int }

// adding is the table of its one event.
type adding struct{ name string }

func (a adding) Aggregate() string { return a.name }

func (adding) Encode(e added) (string, int, []byte, error) {
	if e.N == 0 {
		return "", 0, nil, errors.New("nothing was added")
	}
	data, err := json.Marshal(e)
	return "sum.added", 1, data, err
}

func (adding) Decode(_ string, schema int, data []byte) (e added, err error) {
	if schema != 1 {
		return e, fmt.Errorf("unknown schema %d", schema)
	}
	err = json.Unmarshal(data, &e)
	return e, err
}

// add asks for an addition below a limit.
type add struct{ n, limit int }

var errLimit = errors.New("beyond the limit")

func decideAdd(s int, c add) ([]added, error) {
	switch {
	case c.n == 0:
		return nil, nil
	case s+c.n > c.limit:
		return nil, errLimit
	}
	return []added{{c.n}}, nil
}

var sums = eventstore.Aggregate[int, added, add]{
	Codec:  adding{"sum"},
	Evolve: func(s int, e added) int { return s + e.N },
	Decide: decideAdd,
}

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func stamp() eventstore.Stamp {
	var n atomic.Int64
	return eventstore.Stamp{NewID: func() string { return fmt.Sprint("id", n.Add(1)) }, Now: now, Meta: eventstore.Metadata{Actor: "me"}}
}

// scripted answers the first appends itself and then does as the store does.
type scripted struct {
	*memory.Store
	answers []error
	appends int
}

func (s *scripted) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	s.appends++
	if len(s.answers) > 0 {
		err := s.answers[0]
		s.answers = s.answers[1:]
		return eventstore.Result{}, err
	}
	return s.Store.Append(ctx, a)
}

// increment adds n to the sum named id and tells each sum it decided on.
func increment(ctx context.Context, id string, n int, saw func(int)) func(*eventstore.Unit) (*eventstore.Receipt, error) {
	return func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := sums.Load(ctx, u, id)
		if err != nil {
			return nil, err
		}
		if saw != nil {
			saw(s)
		}
		return nil, sums.Emit(u, id, added{n})
	}
}

func TestRunDecidesAfreshOnConflict(t *testing.T) {
	t.Parallel()
	store := memory.New()
	var saw []int
	res, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), "a", 1, func(s int) {
		if saw = append(saw, s); len(saw) <= 2 { // another writer is quicker, twice
			if _, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), "a", 10, nil)); err != nil {
				t.Error(err)
			}
		}
	}))
	if err != nil || res != (eventstore.Result{First: 3, Last: 3}) || fmt.Sprint(saw) != "[0 10 20]" {
		t.Errorf("%+v, %v, decided on %v", res, err, saw)
	}
	if sum, err := sums.Fold(t.Context(), store, "a"); sum != 21 || err != nil {
		t.Errorf("sum is %d, %v", sum, err)
	}
}

func TestRunLosesNothingUnderContention(t *testing.T) {
	t.Parallel()
	store := memory.New()
	s := stamp()
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, err := eventstore.Run(t.Context(), store, s, increment(t.Context(), "a", 1, nil)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sum, _ := sums.Fold(t.Context(), store, "a"); sum != 40 {
		t.Errorf("sum is %d of 40", sum)
	}
}

func TestRunDoesNotRepeatOtherErrors(t *testing.T) {
	t.Parallel()
	mine := errors.New("mine")
	for name, answer := range map[string]error{
		"unavailable": fmt.Errorf("%w: cut", eventstore.ErrUnavailable),
		"duplicate":   &eventstore.DuplicateError{},
		"too large":   eventstore.ErrTooLarge,
		"invalid":     eventstore.ErrInvalid,
		"mine":        mine,
	} {
		store := &scripted{Store: memory.New(), answers: []error{answer}}
		decided := 0
		_, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), "a", 1, func(int) { decided++ }))
		if !errors.Is(err, answer) || decided != 1 || store.appends != 1 {
			t.Errorf("%s: %v after %d decisions and %d appends", name, err, decided, store.appends)
		}
	}
}

func TestRunReturnsTheDecidersError(t *testing.T) {
	t.Parallel()
	store := &scripted{Store: memory.New()}
	refused := errors.New("refused")
	_, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, _ = sums.Load(t.Context(), u, "a")
		_ = sums.Emit(u, "a", added{1})
		return &eventstore.Receipt{Key: "k"}, refused
	})
	if err != refused || store.appends != 0 {
		t.Errorf("%v after %d appends", err, store.appends)
	}
}

func TestRunWritesNothingForNothing(t *testing.T) {
	t.Parallel()
	store := &scripted{Store: memory.New()}
	load := func(r *eventstore.Receipt) func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		return func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			_, err := sums.Load(t.Context(), u, "a")
			return r, errors.Join(err, sums.Emit(u, "a"), sums.Emit(u, "never loaded"))
		}
	}
	if res, err := eventstore.Run(t.Context(), store, stamp(), load(nil)); err != nil || res != (eventstore.Result{}) || store.appends != 0 {
		t.Errorf("%+v, %v, %d appends", res, err, store.appends)
	}
	res, err := eventstore.Run(t.Context(), store, stamp(), load(&eventstore.Receipt{Key: "k", Request: []byte("h")}))
	if err != nil || res != (eventstore.Result{}) || store.appends != 1 {
		t.Errorf("receipt alone: %+v, %v, %d appends", res, err, store.appends)
	}
	if r, err := store.Receipt(t.Context(), "k"); err != nil || r == nil || string(r.Request) != "h" {
		t.Errorf("receipt %+v, %v", r, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conflict := &eventstore.ConflictError{Actual: -1}
		store := &scripted{Store: memory.New()}
		for range 100 {
			store.answers = append(store.answers, conflict)
		}
		ctx, cancel := context.WithCancel(t.Context())
		decided := 0
		_, err := eventstore.Run(ctx, store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			if decided++; decided == 3 {
				cancel()
			}
			return &eventstore.Receipt{Key: "k"}, nil
		})
		// The wait after the third conflict may be over at the same moment, hence a few more.
		if !errors.Is(err, context.Canceled) || decided > 20 {
			t.Errorf("%v after %d decisions", err, decided)
		}
	})
}

func TestRunGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &scripted{Store: memory.New()}
		for range 10_000 {
			store.answers = append(store.answers, &eventstore.ConflictError{})
		}
		_, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), "a", 1, nil))
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) || store.appends < 50 || store.appends > 1000 {
			t.Errorf("%v after %d appends", err, store.appends)
		}
	})
}

func TestUnitStampsEvents(t *testing.T) {
	t.Parallel()
	store := memory.New()
	if _, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		for _, id := range []string{"a", "b"} {
			if _, err := sums.Load(t.Context(), u, id); err != nil {
				return nil, err
			}
		}
		return nil, errors.Join(sums.Emit(u, "b", added{2}), sums.Emit(u, "a", added{1}, added{3}), sums.Emit(u, "b", added{4}))
	}); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	var order string
	for e, err := range store.ReadAll(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type != "sum.added" || e.Schema != 1 || !e.Time.Equal(now) || e.Meta.Actor != "me" || ids[e.ID] {
			t.Errorf("%+v", e)
		}
		ids[e.ID] = true
		order += fmt.Sprint(e.Stream.ID, e.Version, string(e.Data), " ")
	}
	if order != `a1{"N":1} a2{"N":3} b1{"N":2} b2{"N":4} ` {
		t.Error(order)
	}
}

func TestUnitRefusesMisuse(t *testing.T) {
	t.Parallel()
	store := &scripted{Store: memory.New()}
	for name, decide := range map[string]func(u *eventstore.Unit) error{
		"loaded twice": func(u *eventstore.Unit) error {
			_, err1 := sums.Load(t.Context(), u, "a")
			_, err2 := sums.Load(t.Context(), u, "a")
			return errors.Join(err1, err2)
		},
		"emitted unloaded": func(u *eventstore.Unit) error { return sums.Emit(u, "a", added{1}) },
	} {
		_, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) { return nil, decide(u) })
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), "a", 0, nil))
	if err == nil || store.appends != 0 {
		t.Errorf("what cannot be encoded: %v, %d appends", err, store.appends)
	}
}

func TestFoldTellsWhatItCannotRead(t *testing.T) {
	t.Parallel()
	store := memory.New()
	event := eventstore.NewEvent{ID: "x", Type: "sum.added", Schema: 2, Time: now, Data: json.RawMessage(`{}`)}
	w := eventstore.Write{Stream: sums.Stream("a"), Events: []eventstore.NewEvent{event}}
	if _, err := store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{w}}); err != nil {
		t.Fatal(err)
	}
	if _, err := sums.Fold(t.Context(), store, "a"); err == nil {
		t.Error("a schema from the future was folded")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sums.Fold(ended, store, "a"); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("unreadable store: %v", err)
	}
}

func TestErrorsSayWhat(t *testing.T) {
	t.Parallel()
	c := &eventstore.ConflictError{Stream: sums.Stream("a"), Expected: 1, Actual: 2}
	if c.Error() != "event store: sum/a is at version 2, not 1" {
		t.Error(c)
	}
	if (&eventstore.DuplicateError{}).Error() == "" {
		t.Error("a duplicate says nothing")
	}
}

// counts is an aggregate whose events each say the whole count, and of which one ends all.
var counts = eventstore.Aggregate[int, added, add]{
	Codec: adding{"count"}, Evolve: func(_ int, e added) int { return e.N }, Closes: func(s int) bool { return s == 100 },
}

func TestASnapshotReadsTheStreamsEndAlone(t *testing.T) {
	t.Parallel()
	last := counts
	last.Snapshot = true
	store := &reading{Store: memory.New()}
	for n := range 20 {
		if _, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			s, err := last.Load(t.Context(), u, "a")
			if s != n {
				t.Errorf("count %d, want %d", s, n)
			}
			return nil, errors.Join(err, last.Emit(u, "a", added{s + 1}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if store.read != 19 {
		t.Errorf("%d events read, want 19: one a load", store.read)
	}
	if s, err := last.Fold(t.Context(), store, "a"); s != 20 || err != nil {
		t.Errorf("%d, %v", s, err)
	}
}

// reading counts the events read.
type reading struct {
	*memory.Store
	read int
}

func (r *reading) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range r.Store.ReadStream(ctx, s, after) {
			r.read++
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestALastWordCanBeSaidAndReadBehindADamagedEvent(t *testing.T) {
	t.Parallel()
	store := memory.New()
	damage := func(expected int64) {
		t.Helper()
		if _, err := store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: counts.Stream("a"), Expected: expected,
			Events: []eventstore.NewEvent{{ID: fmt.Sprint("damaged", expected), Type: "sum.added", Schema: 9, Time: now, Data: json.RawMessage(`{}`)}}}}}); err != nil {
			t.Fatal(err)
		}
	}
	say := func(n int) {
		t.Helper()
		if _, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			return nil, errors.Join(counts.LoadUnread(t.Context(), u, "a"), counts.Emit(u, "a", added{n}))
		}); err != nil {
			t.Fatal(err)
		}
	}
	damage(0)
	say(7)
	if _, err := counts.Fold(t.Context(), store, "a"); err == nil {
		t.Error("a stream with a damaged event was folded")
	}
	say(100)
	if s, err := counts.Fold(t.Context(), store, "a"); s != 100 || err != nil {
		t.Errorf("%d, %v after the last word", s, err)
	}
	damage(3)
	if _, err := counts.Fold(t.Context(), store, "a"); err == nil {
		t.Error("the last word was not the last")
	}
}

func TestExecute(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), memory.New()
	run := func(do func(u *eventstore.Unit) error) error {
		_, err := eventstore.Run(ctx, store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) { return nil, do(u) })
		return err
	}
	execute := func(u *eventstore.Unit, id string, c add, want int, wantErr error) error {
		got, err := sums.Execute(ctx, u, id, c)
		if got != want || !errors.Is(err, wantErr) {
			t.Errorf("add %d of at most %d to %s: got %d, %v, want %d, %v", c.n, c.limit, id, got, err, want, wantErr)
		}
		return nil
	}
	if err := run(func(u *eventstore.Unit) error {
		return errors.Join(
			execute(u, "a", add{3, 10}, 3, nil),
			execute(u, "a", add{5, 10}, 8, nil), // on the state that the unit leaves, not on the stored one
			execute(u, "a", add{3, 10}, 8, errLimit),
			execute(u, "a", add{0, 10}, 8, nil),
			execute(u, "b", add{1, 10}, 1, nil))
	}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{"a": 8, "b": 1} {
		if got, err := sums.Fold(ctx, store, id); got != want || err != nil {
			t.Errorf("%s: got %d, %v, want %d", id, got, err, want)
		}
	}
	if err := run(func(u *eventstore.Unit) error {
		if got, err := sums.Load(ctx, u, "a"); got != 8 || err != nil {
			t.Errorf("load: got %d, %v, want 8", got, err)
		}
		return errors.Join(sums.Emit(u, "a", added{1}), execute(u, "a", add{1, 10}, 10, nil)) // sees what was emitted
	}); err != nil {
		t.Fatal(err)
	}
	if err := run(func(u *eventstore.Unit) error {
		if err := sums.LoadUnread(ctx, u, "a"); err != nil {
			return err
		}
		return execute(u, "a", add{1, 100}, 0, eventstore.ErrInvalid)
	}); err != nil {
		t.Fatal(err)
	}
}
