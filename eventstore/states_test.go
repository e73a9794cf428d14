package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// counting counts the events read of streams.
type counting struct {
	eventstore.Store
	read atomic.Int64
}

func (c *counting) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range c.Store.ReadStream(ctx, s, after) {
			c.read.Add(1)
			if !yield(e, err) {
				return
			}
		}
	}
}

// long writes n events of 1 to the sum named id.
func long(t testing.TB, store eventstore.Store, id string, n int) {
	t.Helper()
	version, err := store.Version(t.Context(), sums.Stream(id))
	if err != nil {
		t.Fatal(err)
	}
	for n > 0 {
		w := eventstore.Write{Stream: sums.Stream(id), Expected: version}
		for range min(n, eventstore.MaxAppendEvent) {
			version++
			w.Events = append(w.Events, eventstore.NewEvent{ID: fmt.Sprint(id, "-", version), Type: "sum.added", Schema: 1, Time: now, Data: json.RawMessage(`{"N":1}`)})
		}
		if _, err := store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{w}}); err != nil {
			t.Fatal(err)
		}
		n -= len(w.Events)
	}
}

func TestLongStreamIsReadOnce(t *testing.T) {
	t.Parallel()
	store := &counting{Store: memory.New()}
	long(t, store, "a", 10_000)
	kept := eventstore.Keeping(store, eventstore.NewStates(1<<20))
	want := 10_000
	for i := range 20 {
		before := store.read.Load()
		if _, err := eventstore.Run(t.Context(), kept, stamp(), increment(t.Context(), "a", 1, func(s int) {
			if s != want {
				t.Errorf("decided on %d, want %d", s, want)
			}
		})); err != nil {
			t.Fatal(err)
		}
		want++
		if read := store.read.Load() - before; i > 0 && read > 10 {
			t.Errorf("command %d: got %d events read, want at most 10", i, read)
		}
	}
	before := store.read.Load()
	if sum, err := sums.Fold(t.Context(), kept, "a"); sum != want || err != nil {
		t.Errorf("got sum %d, %v, want %d", sum, err, want)
	}
	if read := store.read.Load() - before; read > 10 {
		t.Errorf("got %d events read by a fold, want at most 10", read)
	}
}

// Two replicas write in turn, each with its own kept states: each always sees the other's events, also when it
// decides to write nothing.
func TestTheOthersEventsAreSeen(t *testing.T) {
	t.Parallel()
	store := memory.New()
	long(t, store, "a", 100)
	replicas := []eventstore.Store{
		eventstore.Keeping(store, eventstore.NewStates(1<<20)),
		eventstore.Keeping(store, eventstore.NewStates(1<<20)),
	}
	refused := errors.New("refused")
	for i := range 40 {
		saw := 0
		_, err := eventstore.Run(t.Context(), replicas[i%2], stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			s, err := sums.Load(t.Context(), u, "a")
			saw = s
			if err != nil || i%4 > 1 {
				return nil, errors.Join(refused, err)
			}
			return nil, sums.Emit(u, "a", added{1})
		})
		if want := 100 + i/4*2 + min(i%4, 2); saw != want || i%4 > 1 != errors.Is(err, refused) {
			t.Fatalf("turn %d decided on %d, want %d: %v", i, saw, want, err)
		}
	}
}

func TestStatesUnderContention(t *testing.T) {
	t.Parallel()
	store := memory.New()
	long(t, store, "a", 50)
	var wg sync.WaitGroup
	s := stamp()
	for range 4 {
		replica := eventstore.Keeping(store, eventstore.NewStates(1<<20))
		for range 10 {
			wg.Go(func() {
				for range 5 {
					if _, err := eventstore.Run(t.Context(), replica, s, increment(t.Context(), "a", 1, nil)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	if sum, _ := sums.Fold(t.Context(), store, "a"); sum != 250 {
		t.Errorf("got sum %d, want 250", sum)
	}
}

// switched is a store whose log is replaced, as by a restored backup.
type switched struct{ eventstore.Store }

func TestARestoredLogIsFoldedAfresh(t *testing.T) {
	t.Parallel()
	restored := map[string]func(eventstore.Store){
		"shorter":                    func(s eventstore.Store) { long(t, s, "a", 50) },
		"empty":                      func(eventstore.Store) {},
		"as long, with other events": func(s eventstore.Store) { long(t, s, "a", 50); other(t, s, "a", 50) },
		"longer, with other events":  func(s eventstore.Store) { long(t, s, "a", 50); other(t, s, "a", 70) },
		"the same":                   func(s eventstore.Store) { long(t, s, "a", 100) },
	}
	for name, restore := range restored {
		first, second := memory.New(), memory.New()
		long(t, first, "a", 100)
		store := &switched{first}
		kept := eventstore.Keeping(store, eventstore.NewStates(1<<20))
		if sum, err := sums.Fold(t.Context(), kept, "a"); sum != 100 || err != nil {
			t.Fatalf("got sum %d, %v, want 100", sum, err)
		}
		restore(second)
		store.Store = second
		want, _ := sums.Fold(t.Context(), second, "a")
		for range 2 {
			if sum, err := sums.Fold(t.Context(), kept, "a"); sum != want || err != nil {
				t.Errorf("%s: %d, %v, want %d", name, sum, err, want)
			}
		}
	}
}

// other writes n events of 2, whose ids no other event has.
func other(t testing.TB, store eventstore.Store, id string, n int) {
	t.Helper()
	for range n {
		if _, err := eventstore.Run(t.Context(), store, stamp(), increment(t.Context(), id, 2, nil)); err != nil {
			t.Fatal(err)
		}
	}
}

// texts is an aggregate whose state grows with its events, and belongs to the account in its id.
var texts = eventstore.Aggregate[map[string]string, added, add]{
	Codec: adding{"text"},
	Evolve: func(s map[string]string, e added) map[string]string {
		next := maps.Clone(s)
		if next == nil {
			next = map[string]string{}
		}
		next[fmt.Sprint(len(next))] = fmt.Sprintf("%0*d", e.N, 0)
		return next
	},
	Owner: func(id string, _ map[string]string) string { return id },
}

func write(t testing.TB, store eventstore.Store, id string, n, size int) {
	t.Helper()
	for range n {
		if _, err := eventstore.Run(t.Context(), store, stamp(), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
			_, err := texts.Load(t.Context(), u, id)
			return nil, errors.Join(err, texts.Emit(u, id, added{size}))
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStatesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	states := eventstore.NewStates(limit)
	store := &counting{Store: memory.New()}
	kept := eventstore.Keeping(store, states)
	for i := range 100 {
		write(t, kept, fmt.Sprint("s", i), 12, 2000) // about 24 kB each
		if n, bytes := states.Held(); bytes > limit || bytes < min(i, 20)*20_000 {
			t.Fatalf("after %d: got %d states in %d bytes, want at most %d bytes and no fewer than %d", i+1, n, bytes, limit, min(i, 20)*20_000)
		}
	}
	// The one used last is there, the first is not.
	for id, want := range map[string]bool{"s99": true, "s0": false} {
		before := store.read.Load()
		if s, err := texts.Fold(t.Context(), kept, id); len(s) != 12 || err != nil {
			t.Errorf("got a state of %d, %v, want 12", len(s), err)
		}
		if read := store.read.Load() - before; (read <= 3) != want {
			t.Errorf("%s: got %d events read, want a kept state: %v", id, read, want)
		}
	}
	write(t, kept, "huge", 12, 20_000) // more than a sixteenth of all
	if s, err := texts.Fold(t.Context(), kept, "huge"); len(s) != 12 || err != nil {
		t.Errorf("got a state of %d, %v, want 12", len(s), err)
	}
	if n, _ := states.Held(); n < 20 {
		t.Errorf("got %d states beside a large one, want at least 20", n)
	}
	if n, _ := states.Held(); n > 0 {
		states.Drop("s99")
		if m, _ := states.Held(); m != n-1 {
			t.Errorf("%d states after a drop, want %d", m, n-1)
		}
	}
}

// A state that was being folded while its account's key was destroyed is not kept.
func TestADropMeetsAFold(t *testing.T) {
	t.Parallel()
	states := eventstore.NewStates(1 << 20)
	inner := memory.New()
	write(t, inner, "me", 12, 10)
	store := &dropping{Store: inner, drop: func() { states.Drop("me") }}
	if s, err := texts.Fold(t.Context(), eventstore.Keeping(store, states), "me"); len(s) != 12 || err != nil {
		t.Fatalf("got a state of %d, %v, want 12", len(s), err)
	}
	if n, _ := states.Held(); n != 0 {
		t.Errorf("got %d states of an erased account, want 0", n)
	}
}

// dropping calls drop at the first event read.
type dropping struct {
	eventstore.Store
	drop func()
}

func (d *dropping) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range d.Store.ReadStream(ctx, s, after) {
			d.drop()
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestShortStreamsAreNotKept(t *testing.T) {
	t.Parallel()
	states := eventstore.NewStates(1 << 20)
	store := &counting{Store: memory.New()}
	kept := eventstore.Keeping(store, states)
	for id := range 100 {
		write(t, kept, fmt.Sprint(id), 3, 10)
	}
	if n, bytes := states.Held(); n != 0 || bytes != 0 {
		t.Errorf("got %d states in %d bytes, want none", n, bytes)
	}
}

func TestAnEndedContextKeepsTheState(t *testing.T) {
	t.Parallel()
	states := eventstore.NewStates(1 << 20)
	store := memory.New()
	write(t, store, "me", 12, 10)
	kept := eventstore.Keeping(store, states)
	if _, err := texts.Fold(t.Context(), kept, "me"); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := texts.Fold(ended, kept, "me"); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("got a state of %d, %v, want %v", len(s), err, eventstore.ErrUnavailable)
	}
	if n, _ := states.Held(); n != 1 {
		t.Errorf("got %d states, want 1", n)
	}
}
