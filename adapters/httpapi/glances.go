package httpapi

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// glanceWithin bounds the query of a glance. A request whose glance fails reads everything instead.
const glanceWithin = 5 * time.Second

// glances find out at which position an account's latest event is, as the read models have it after the call began. Requests
// that arrive while a query runs share the next one, so their number is that of the queries, not of the requests.
type glances struct {
	latest func(ctx context.Context, accounts []string) (map[string]int64, error)
	turn   chan struct{} // held by the glance whose query runs

	mu   sync.Mutex
	next *glance // its query has not begun
}

// glance is one query, for the requests that wait for it. Its results may be read once done is closed.
type glance struct {
	accounts []string
	done     chan struct{}
	latest   map[string]int64
	err      error
}

var errNoGlance = errors.New("the query did not return")

// at returns the position of an account's latest event, 0 for none.
func (g *glances) at(ctx context.Context, account string) (int64, error) {
	g.mu.Lock()
	if g.next == nil {
		g.next = &glance{done: make(chan struct{}), err: errNoGlance}
	}
	mine := g.next
	mine.accounts = append(mine.accounts, account)
	first := len(mine.accounts) == 1
	g.mu.Unlock()
	if first {
		g.take(ctx, mine)
		return mine.latest[account], mine.err
	}
	select {
	case <-mine.done:
		return mine.latest[account], mine.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// take sends the query once the one before it has returned. Others wait for it, so it does not end with its caller's request.
func (g *glances) take(ctx context.Context, mine *glance) {
	g.turn <- struct{}{}
	runtime.Gosched() // the requests that are about to ask can join
	defer func() { <-g.turn; close(mine.done) }()
	g.mu.Lock()
	g.next = nil // who comes now may know of a later event than the query returns
	g.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), glanceWithin)
	defer cancel()
	mine.latest, mine.err = g.latest(ctx, mine.accounts)
}
