package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/fair"
)

const (
	maxLarge        = 8        // browsers' frames above 256 KiB that are held at a time, up to 26 MiB each
	largePerAccount = 2        // of them, those of one account
	minLargeRate    = 64 << 10 // bytes a second at which such a frame must arrive, and then reach the machine
)

var (
	errCrowded     = &ending{CloseNotReady, "too many large messages are in transit; send it again in a few seconds"}
	errSlow        = &ending{websocket.StatusPolicyViolation, "a large message must arrive at 64 KiB a second or faster; send a smaller one"}
	errSlowMachine = &ending{CloseUnreachable, "the desktop accepts a large message too slowly; send it again, or a smaller one"}
)

// room is a set of places that a session can wait for.
type room struct {
	places *fair.Places
	mu     sync.Mutex
	freed  chan struct{} // closed and replaced when a place is given back
}

func newRoom(total int) *room {
	return &room{places: fair.NewPlaces(total), freed: make(chan struct{})}
}

func (r *room) next() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.freed
}

// take waits for a place; it returns nil if none was free in time or ctx ended.
func (r *room) take(ctx context.Context, within time.Duration, claims ...fair.Claim) (leave func()) {
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		freed := r.next()
		if leave, v := r.places.Take(claims...); v == fair.Taken {
			return func() {
				leave()
				r.mu.Lock()
				defer r.mu.Unlock()
				close(r.freed)
				r.freed = make(chan struct{})
			}
		}
		select {
		case <-freed:
		case <-late.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// watch calls slow if twice in a row fewer bytes were counted than minLargeRate requires, until stop is
// called. A single time may be a pause of this server.
func (b *Bridge) watch(counted *atomic.Int64, slow func()) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(b.c.LargeLook)
		defer tick.Stop()
		for seen, before := counted.Load(), false; ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := counted.Load()
			late := now-seen < int64(b.c.LargeLook.Seconds()*minLargeRate)
			if late && before {
				slow()
				return
			}
			seen, before = now, late
		}
	})
	return func() { close(done); all.Wait() }
}

// counter counts what passes through it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
