package bridge

import (
	"context"

	"golang.org/x/time/rate"
)

// pace limits the bytes that are sent to a viewer; nil does not.
type pace []*rate.Limiter

// wait returns when n bytes, at most one buffer, may be sent, or with ctx's error.
func (p pace) wait(ctx context.Context, n int) error {
	for _, l := range p {
		if err := l.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// shared is the limiter of all viewers of an account.
type shared struct {
	*rate.Limiter
	viewers int
}

// pace returns the pace of a new viewer, and leave to end its use of the account's limiter.
func (b *Bridge) pace(account string) (p pace, leave func()) {
	leave = func() {}
	if b.c.MaxVNCRate > 0 {
		p = append(p, limiter(b.c.MaxVNCRate))
	}
	if b.c.MaxVNCRatePerAccount == 0 {
		return p, leave
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.paces[account]
	if of == nil {
		of = &shared{Limiter: limiter(b.c.MaxVNCRatePerAccount)}
		b.paces[account] = of
	}
	of.viewers++
	return append(p, of.Limiter), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if of.viewers--; of.viewers == 0 {
			delete(b.paces, account)
		}
	}
}

// limiter allows a burst of one second, or one buffer if that is more.
func limiter(bytes int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytes), max(bytes, bigBuffer))
}
