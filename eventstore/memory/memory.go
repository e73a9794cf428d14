// Package memory is the log in memory, for tests and simulations only. It passes the same suite as the
// Postgres store. The zero value of Store is an empty log.
package memory

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/internal/check"
)

// Store is an eventstore.Store in memory, safe for concurrent use.
type Store struct {
	mu            sync.RWMutex
	events        []eventstore.Event // index n holds position n+1; elements never change
	streams       map[eventstore.StreamID][]int64
	receipts      map[string]eventstore.Receipt
	notifications map[chan struct{}]bool
}

var _ eventstore.Store = (*Store)(nil)

// New returns an empty log.
func New() *Store { return &Store{} }

// Append implements eventstore.Store.
func (s *Store) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	if err := check.Append(a); err != nil {
		return eventstore.Result{}, err
	}
	if err := ended(ctx); err != nil {
		return eventstore.Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Receipt != nil {
		if r, ok := s.receipts[a.Receipt.Key]; ok {
			return eventstore.Result{}, &eventstore.DuplicateError{Receipt: cloneReceipt(r)}
		}
	}
	for _, w := range a.Writes {
		if actual := int64(len(s.streams[w.Stream])); actual != w.Expected {
			return eventstore.Result{}, &eventstore.ConflictError{Stream: w.Stream, Expected: w.Expected, Actual: actual}
		}
	}
	var res eventstore.Result
	for _, w := range a.Writes {
		for _, e := range w.Events {
			s.insert(w.Stream, e)
		}
		res.Last = int64(len(s.events))
		res.First = cmp.Or(res.First, res.Last-int64(len(w.Events))+1)
	}
	if a.Receipt != nil {
		r := cloneReceipt(*a.Receipt)
		r.Position = res.Last
		if s.receipts == nil {
			s.receipts = map[string]eventstore.Receipt{}
		}
		s.receipts[r.Key] = r
	}
	for c := range s.notifications {
		select {
		case c <- struct{}{}:
		default: // a value is waiting already
		}
	}
	return res, nil
}

func (s *Store) insert(stream eventstore.StreamID, e eventstore.NewEvent) {
	e.Data = slices.Clone(e.Data)
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	position := int64(len(s.events)) + 1
	if s.streams == nil {
		s.streams = map[eventstore.StreamID][]int64{}
	}
	s.streams[stream] = append(s.streams[stream], position)
	s.events = append(s.events, eventstore.Event{
		Position: position, Stream: stream, Version: int64(len(s.streams[stream])), NewEvent: e,
	})
}

// ReadStream implements eventstore.Store.
func (s *Store) ReadStream(ctx context.Context, stream eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	return s.read(ctx, after, func(after int64) (e eventstore.Event, ok bool) {
		if positions := s.streams[stream]; after < int64(len(positions)) {
			return s.events[positions[after]-1], true
		}
		return e, false
	})
}

// ReadAll implements eventstore.Store.
func (s *Store) ReadAll(ctx context.Context, after int64) iter.Seq2[eventstore.Event, error] {
	return s.read(ctx, after, func(after int64) (e eventstore.Event, ok bool) {
		if after < int64(len(s.events)) {
			return s.events[after], true
		}
		return e, false
	})
}

// read yields what next finds, holding the lock for one event at a time.
func (s *Store) read(ctx context.Context, after int64, next func(after int64) (eventstore.Event, bool)) iter.Seq2[eventstore.Event, error] {
	return func(yield func(eventstore.Event, error) bool) {
		for at := max(after, 0); ; at++ {
			if err := ended(ctx); err != nil {
				yield(eventstore.Event{}, err)
				return
			}
			s.mu.RLock()
			e, ok := next(at)
			s.mu.RUnlock()
			if !ok {
				return
			}
			e.Data = slices.Clone(e.Data)
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Version implements eventstore.Store.
func (s *Store) Version(ctx context.Context, stream eventstore.StreamID) (int64, error) {
	if err := ended(ctx); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(len(s.streams[stream])), nil
}

// Receipt implements eventstore.Store.
func (s *Store) Receipt(ctx context.Context, key string) (*eventstore.Receipt, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.receipts[key]
	if !ok {
		return nil, nil
	}
	r = cloneReceipt(r)
	return &r, nil
}

// Head implements eventstore.Store.
func (s *Store) Head(ctx context.Context) (int64, error) {
	if err := ended(ctx); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return int64(len(s.events)), nil
}

// Notifications implements eventstore.Store.
func (s *Store) Notifications(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.notifications == nil {
		s.notifications = map[chan struct{}]bool{}
	}
	s.notifications[c] = true
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.notifications, c)
		close(c)
	})
	return c
}

func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
	return nil
}

func cloneReceipt(r eventstore.Receipt) eventstore.Receipt {
	r.Request, r.Response = slices.Clone(r.Request), slices.Clone(r.Response)
	return r
}
