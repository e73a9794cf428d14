package eventstoretest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// oneStreamManyWriters has every writer append its own increments, deciding again after each conflict.
func oneStreamManyWriters(t *testing.T, s eventstore.Store) {
	writeOneStream(t, []eventstore.Store{s}, 8, 10)
}

func bothWriteOneStream(t *testing.T, a, b eventstore.Store) {
	writeOneStream(t, []eventstore.Store{a, b}, 6, 10)
}

func writeOneStream(t *testing.T, stores []eventstore.Store, writers, each int) {
	i := &ids{}
	var wg sync.WaitGroup
	var won atomic.Int64
	for w := range writers {
		s := stores[w%len(stores)]
		wg.Go(func() {
			version := int64(0)
			for done := 0; done < each; {
				res, err := s.Append(t.Context(), to(i, "contended", version, 1))
				var conflict *eventstore.ConflictError
				switch {
				case err == nil:
					if res.First != res.Last || res.Last == 0 {
						t.Errorf("got positions %v, want one", res)
					}
					version++
					done++
					won.Add(1)
				case errors.As(err, &conflict):
					for e, err := range s.ReadStream(t.Context(), stream("contended"), version) {
						if err != nil {
							t.Error(err)
							return
						}
						version = e.Version
					}
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(Sound(t, stores[0])); int64(n) != won.Load() || n != writers*each {
		t.Fatalf("got %d events and %d successes, want %d of each", n, won.Load(), writers*each)
	}
}

func tailingReader(t *testing.T, s eventstore.Store) { tail(t, []eventstore.Store{s}, s, 16, 30) }

func nothingIsLost(t *testing.T, a, b eventstore.Store) {
	tail(t, []eventstore.Store{a, b}, b, 16, 40)
}

// tail runs writers against a reader on "position > cursor", which must see every event once and
// in order although it reads while they write.
func tail(t *testing.T, stores []eventstore.Store, reader eventstore.Store, writers, each int) {
	i := &ids{}
	ctx, finished := context.WithCancel(t.Context())
	defer finished()
	seen := make(chan map[string]int, 1)
	go func() {
		got, cursor := map[string]int{}, int64(0)
		for last := false; ; {
			for e, err := range reader.ReadAll(t.Context(), cursor) {
				if err != nil {
					t.Error(err)
					break
				}
				if e.Position != cursor+1 {
					t.Errorf("got position %d after %d, want %d", e.Position, cursor, cursor+1)
				}
				cursor = e.Position
				got[e.ID]++
			}
			if last {
				seen <- got
				return
			}
			last = ctx.Err() != nil
		}
	}()
	var mu sync.Mutex
	acked := map[string]bool{}
	var wg sync.WaitGroup
	for w := range writers {
		s := stores[w%len(stores)]
		wg.Go(func() {
			for n := range each {
				a := withReceipt(to(i, fmt.Sprintf("w%d-%d", w, n/3), int64(n%3), 1), fmt.Sprintf("%d/%d", w, n), `1`)
				if _, err := s.Append(t.Context(), a); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[a.Writes[0].Events[0].ID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	finished()
	got := <-seen
	for id := range acked {
		if got[id] != 1 {
			t.Errorf("event %s: got it %d times, want once", id, got[id])
		}
	}
	if len(got) != len(acked) {
		t.Errorf("got %d events, want the %d acknowledged", len(got), len(acked))
	}
	Sound(t, reader)
}

// losersLeaveNeighbours sends stale and fresh appends at the same time: only the stale may fail.
func losersLeaveNeighbours(t *testing.T, s eventstore.Store) {
	i := &ids{}
	must(t, s, withReceipt(to(i, "old", 0, 2), "used", `1`))
	var wg sync.WaitGroup
	for w := range 24 {
		wg.Go(func() {
			var conflict *eventstore.ConflictError
			var dup *eventstore.DuplicateError
			for n := range 5 {
				id := fmt.Sprintf("w%d-%d", w, n)
				switch w % 4 {
				case 0:
					if _, err := s.Append(t.Context(), to(i, "old", int64(n%2), 1)); !errors.As(err, &conflict) {
						t.Errorf("a stale append: got %v, want a conflict", err)
					}
				case 1:
					if _, err := s.Append(t.Context(), withReceipt(to(i, id, 0, 1), "used", `2`)); !errors.As(err, &dup) {
						t.Errorf("a used key: got %v, want a duplicate", err)
					}
				default:
					if _, err := s.Append(t.Context(), withReceipt(to(i, id, 0, 2), id, `3`)); err != nil {
						t.Errorf("a neighbour: got %v, want no error", err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(Sound(t, s)); n != 2+12*5*2 {
		t.Fatalf("got %d events, want %v", n, 2+12*5*2)
	}
}

func oneKeyManyCallers(t *testing.T, s eventstore.Store) {
	i := &ids{}
	var wg sync.WaitGroup
	var won atomic.Int64
	for w := range 16 {
		wg.Go(func() {
			id := fmt.Sprintf("w%d", w)
			_, err := s.Append(t.Context(), withReceipt(to(i, id, 0, 1), "once", `"`+id+`"`))
			var dup *eventstore.DuplicateError
			switch {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &dup) || dup.Receipt.Position != 1:
				t.Errorf("got %v, want a duplicate of position 1", err)
			}
		})
	}
	wg.Wait()
	log := Sound(t, s)
	if won.Load() != 1 || len(log) != 1 {
		t.Fatalf("got %d winners and %d events, want 1 of each", won.Load(), len(log))
	}
	if r := receiptOf(t, s, "once"); string(r.Response) != `"`+log[0].Stream.ID+`"` {
		t.Fatalf("got the receipt of %s, want that of the event, %s", r.Response, log[0].Stream.ID)
	}
}

func eachSeesTheOthers(t *testing.T, a, b eventstore.Store) {
	i := &ids{}
	must(t, a, withReceipt(to(i, "x", 0, 2), "k", `1`))
	must(t, b, to(i, "x", 2, 1)) // b never read x
	must(t, b, to(i, "x", 3, 1))
	_, err := a.Append(t.Context(), to(i, "x", 2, 1)) // what a believes
	wantConflict(t, err, "x", 2, 4)
	must(t, a, to(i, "x", 4, 1))
	if r := receiptOf(t, b, "k"); r.Position != 2 {
		t.Fatalf("got receipt %+v, want position 2", r)
	}
	if n := len(Sound(t, b)); n != 5 {
		t.Fatalf("got %d events, want 5", n)
	}
}

func notificationsCross(t *testing.T, a, b eventstore.Store) {
	i := &ids{}
	c := b.Notifications(t.Context())
	drain(c)
	must(t, a, to(i, "x", 0, 1))
	awaitNotification(t, c)
}
