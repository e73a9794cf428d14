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

// linger is the longest a batch waits for callers that the last one has just released. It never
// happens to a lone caller.
const (
	linger   = 200 * time.Microsecond
	patience = 40 * time.Microsecond // without anybody joining
)

// queue holds the appends that wait for the next batch. There is no committing goroutine: the
// first waiting caller leads, runs one batch, and hands over to the first of those left. A lone
// caller therefore does everything itself, without a switch.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	led     bool // somebody leads

	// Only the leader touches these.
	crowd   int // callers around when the last batch ended
	batch   batch
	streams map[string]bool
	keys    map[string]bool
}

// wait returns when the request's outcome is settled. The error is the caller's own, for a ctx
// that ended while the request could still be taken back.
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

// leave takes a request out again; false if its batch has begun.
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
		// The front answers a caller's panic and goes on: those behind it must not wait for ever.
		s.log.Error("append: panic", "panic", err, "stack", crash.Of(err).Stack)
		s.commit.abandon()
		fail(b.requests, unavailable("append: outcome unknown", err))
	}
	released := len(b.requests) + len(b.stale)

	q.mu.Lock()
	q.crowd = released + len(q.waiting)
	// b is the next leader's from the moment of hand-over, so the followers are woken from a copy.
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

// gather lets the callers of the last batch come back, if there were several, so that batches do
// not settle at half of the callers. It gives way to them instead of sleeping: timers are far
// too coarse for this.
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

// take forms the next batch. Of the requests for one stream or with one key only the first goes;
// the others wait, and find out next time. It returns the first in line, the leader's own.
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
