package postgres

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/crash"
)

// Bounds of one batch. A single append may exceed them: it then goes alone.
const (
	maxBatchEvents = 2000
	maxBatchBytes  = 4 << 20
)

// linger is the longest that a batch waits for the callers that the batch before it released. A lone
// caller never waits.
const (
	linger   = 200 * time.Microsecond
	patience = 40 * time.Microsecond // without a new caller
)

// queue holds the appends that wait for the next batch. There is no committing goroutine: the first waiting
// caller leads, runs one batch, and hands over to the first caller that is left. A lone caller therefore
// does everything itself, without a switch of goroutines.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	led     bool // a caller leads

	// Only the leader touches these.
	crowd   int // callers around when the last batch ended
	batch   batch
	streams map[string]bool
	keys    map[string]bool
}

// wait returns when the request's outcome is settled. Its error says that the caller's ctx ended while the
// request could still be withdrawn.
func (s *Store) wait(ctx context.Context, r *request) error {
	q := &s.queue
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	lead := !q.led
	if lead {
		q.led, r.state = true, leading
	}
	q.mu.Unlock()
	if !lead {
		select {
		case <-r.wake:
		case <-ctx.Done():
			if q.leave(r) {
				return unavailable("append", ctx.Err())
			}
			<-r.wake
		}
		if r.state != leading {
			return nil
		}
	}
	s.lead()
	return nil
}

// leave withdraws a request and reports whether it could: its batch must not have begun.
func (q *queue) leave(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.state != queued {
		return false
	}
	for i, other := range q.waiting {
		if other == r {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// lead runs one batch, which settles the leader's own request too: it is the first in line.
func (s *Store) lead() {
	q := &s.queue
	q.gather()
	own, b := q.take(s.versions)
	if err := crash.Guard(func() error { s.commit.run(b); return nil })(); err != nil {
		// The front recovers from a caller's panic, so the callers behind it would otherwise wait without end.
		s.log.Error("append panicked", "panic", err, "stack", crash.Of(err).Stack)
		s.commit.abandon()
		fail(b.requests, unavailable("append: outcome unknown", err))
	}
	released := len(b.requests) + len(b.stale)

	q.mu.Lock()
	q.crowd = released + len(q.waiting)
	// The next leader uses b from the hand-over on, so the followers are woken from a copy.
	followers := append(append(make([]*request, 0, released), b.requests...), b.stale...)
	for _, r := range followers {
		r.state = settled
	}
	if len(q.waiting) > 0 {
		next := q.waiting[0]
		next.state = leading
		next.wake <- struct{}{}
	} else {
		q.led = false
	}
	q.mu.Unlock()
	for _, r := range followers {
		if r != own {
			r.wake <- struct{}{}
		}
	}
}

// gather waits for the callers of the last batch to come back, if there were several: otherwise batches
// settle at half of the callers. It yields to them instead of sleeping, because timers are far too coarse.
func (q *queue) gather() {
	if q.crowd < 2 {
		return
	}
	begun := time.Now()
	joined, last := 0, begun
	for {
		q.mu.Lock()
		n := len(q.waiting)
		q.mu.Unlock()
		now := time.Now()
		if n > joined {
			joined, last = n, now
		}
		if n >= q.crowd || now.Sub(begun) > linger || now.Sub(last) > patience {
			return
		}
		runtime.Gosched()
	}
}

// take forms the next batch. Of the requests for one stream or with one key only the first goes; the others
// wait for the next batch. take also returns the first request in line, which is the leader's own.
func (q *queue) take(versions *versionCache) (own *request, b *batch) {
	b = &q.batch
	b.reset()
	q.mu.Lock()
	defer q.mu.Unlock()
	own = q.waiting[0]
	if q.streams == nil {
		q.streams, q.keys = map[string]bool{}, map[string]bool{}
	}
	clear(q.streams)
	clear(q.keys)
	versions.mu.Lock()
	defer versions.mu.Unlock()
	left := q.waiting[:0]
	for i, r := range q.waiting {
		if len(b.requests) > 0 && (b.events+r.events > maxBatchEvents || b.bytes+len(r.rows) > maxBatchBytes) {
			left = append(left, q.waiting[i:]...)
			break
		}
		switch q.judge(versions, r) {
		case refused:
			r.stale, r.state = true, taken
			b.stale = append(b.stale, r)
		case later:
			left = append(left, r)
		default:
			r.state = taken
			b.add(r, r.generation != versions.gen)
		}
	}
	clear(q.waiting[len(left):])
	q.waiting = left
	return own, b
}

type verdict int

const (
	now verdict = iota
	later
	refused
)

func (q *queue) judge(versions *versionCache, r *request) verdict {
	if r.key != "" && q.keys[r.key] {
		return later
	}
	for i := range r.writes {
		if q.streams[r.writes[i].stream] {
			return later
		}
	}
	for i := range r.writes {
		if at, ok := versions.look(r.writes[i].stream); ok && at > r.writes[i].expected {
			return refused
		}
	}
	if r.key != "" {
		q.keys[r.key] = true
	}
	for i := range r.writes {
		q.streams[r.writes[i].stream] = true
	}
	return now
}
