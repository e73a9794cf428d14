// Package retry waits between tries. All loops that sleep or back off use it: the loop sets the durations, and this
// package ends the wait when the context ends.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d and returns nil, or returns ctx's error once ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return ctx.Err()
	}
}

// Backoff is a growing wait: First, twice that, and so on up to Max. Its zero Max means First each time.
type Backoff struct {
	First, Max time.Duration
	Jitter     bool // waits between half and all of each duration

	next time.Duration
}

// Next returns how long to wait now, and doubles the next wait.
func (b *Backoff) Next() time.Duration {
	d := max(b.next, b.First)
	b.next = min(2*d, max(b.Max, b.First))
	if b.Jitter && d > 1 {
		d = d/2 + rand.N(d/2)
	}
	return d
}

// Sleep waits for Next; see the function Sleep.
func (b *Backoff) Sleep(ctx context.Context) error { return Sleep(ctx, b.Next()) }

// Reset makes the next wait First, after a try that worked.
func (b *Backoff) Reset() { b.next = 0 }
