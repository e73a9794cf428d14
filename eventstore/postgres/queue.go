package postgres

import (
	"context"
	"runtime"
	"slices"
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
// caller leads, runs one batch, and hands over to the first caller that is left; in a crowd already when its batch
// is sent. A lone caller therefore does everything itself, without a switch of goroutines.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	led     bool // a caller leads; otherwise no caller waits, or what all wait for is on the wire

	flying  []*batch // taken and not settled
	crowd   int      // callers around when the last batch ended
	crowded int      // so many callers keep two batches on the wire
}

// crowded is where two halves begin to cost less than one batch.
const crowded = 32

// wait returns when the request's outcome is settled. Its error says that the caller's ctx ended while the
// request could still be withdrawn.
func (s *Store) wait(ctx context.Context, r *request) error {
	q := &s.queue
	q.mu.Lock()
	q.waiting = append(q.waiting, r)
	lead := !q.led && !q.airborne(r)
	if lead {
		q.led, r.state = true, leading
	}
	q.mu.Unlock()
	for {
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
		s.lead(r)
		q.mu.Lock()
		done := r.state == settled
		q.mu.Unlock()
		if done {
			return nil
		}
		lead = false
	}
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

// lead runs one batch. That settles the leader's own request too, unless a batch on the wire has its stream or key.
func (s *Store) lead(own *request) {
	q := &s.queue
	q.gather()
	b := q.take(s.versions)
	handed := false
	sent := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.crowd >= q.crowded && own.state == taken {
			handed = true
			q.handOver()
		}
	}
	if err := crash.Guard(func() error { s.commit.run(b, sent); return nil })(); err != nil {
		// The front recovers from a caller's panic, so the callers behind it would otherwise wait without end.
		s.log.Error("append panicked", "panic", err, "stack", crash.Of(err).Stack)
		fail(b.requests, unavailable("append: outcome unknown", err))
	}
	followers := slices.Concat(b.requests, b.stale)
	q.mu.Lock()
	q.flying = slices.DeleteFunc(q.flying, func(other *batch) bool { return other == b })
	q.crowd = len(followers) + len(q.waiting) + q.aloft()
	for _, r := range followers {
		r.state = settled
	}
	if !handed || !q.led {
		q.handOver()
	}
	q.mu.Unlock()
	b.free()
	for _, r := range followers {
		if r != own {
			r.wake <- struct{}{}
		}
	}
}

// aloft is the number of requests in batches.
func (q *queue) aloft() (n int) {
	for _, b := range q.flying {
		n += len(b.requests) + len(b.stale)
	}
	return n
}

// handOver makes the first caller that waits the next leader, of those whose streams and keys are not on the wire: its batch
// would lack its own request, and perhaps every other. The batch that has them hands over when it is settled.
func (q *queue) handOver() {
	i := slices.IndexFunc(q.waiting, func(r *request) bool { return !q.airborne(r) })
	if q.led = i >= 0; !q.led {
		return
	}
	next := q.waiting[i]
	copy(q.waiting[1:], q.waiting[:i])
	q.waiting[0] = next
	next.state = leading
	next.wake <- struct{}{}
}

// airborne reports whether a batch on the wire has the request's stream or key.
func (q *queue) airborne(r *request) bool {
	return slices.ContainsFunc(q.flying, func(b *batch) bool { return b.touches(r) })
}

// gather waits for the callers of the last batch to come back, if there were several: otherwise batches
// settle at half of the callers. It yields to them instead of sleeping, because timers are far too coarse. In a
// crowd, one half is enough: the other half is on the wire meanwhile.
func (q *queue) gather() {
	q.mu.Lock()
	all := q.crowd - q.aloft()
	if q.crowd >= q.crowded {
		all = min(all, (q.crowd+1)/2)
	}
	q.mu.Unlock()
	if all < 2 {
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
		if n >= all || now.Sub(begun) > linger || now.Sub(last) > patience {
			return
		}
		runtime.Gosched()
	}
}

// take forms the next batch. Of the requests for one stream or with one key only the first goes; the others
// wait for a later batch, also while the first is on the wire.
func (q *queue) take(versions *versionCache) *batch {
	b := batches.Get().(*batch)
	q.mu.Lock()
	defer q.mu.Unlock()
	versions.mu.Lock()
	defer versions.mu.Unlock()
	left := q.waiting[:0]
	for i, r := range q.waiting {
		if len(b.requests) > 0 && (b.events+r.events > maxBatchEvents || b.bytes+len(r.rows) > maxBatchBytes) {
			left = append(left, q.waiting[i:]...)
			break
		}
		switch q.judge(b, versions, r) {
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
	q.flying = append(q.flying, b)
	return b
}

type verdict int

const (
	now verdict = iota
	later
	refused
)

func (q *queue) judge(b *batch, versions *versionCache, r *request) verdict {
	if b.touches(r) || q.airborne(r) {
		return later
	}
	for i := range r.writes {
		if at, ok := versions.look(r.writes[i].stream); ok && at > r.writes[i].expected {
			return refused
		}
	}
	return now
}
