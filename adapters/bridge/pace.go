package bridge

import (
	"context"

	"golang.org/x/time/rate"
)

// pace bounds the bytes that a viewer is sent; nil does not.
type pace []*rate.Limiter

// wait returns when n bytes, of one buffer at most, may be sent, or with ctx's error.
func (p pace) wait(ctx context.Context, n int) error {
	for _, l := range p {
		if err := l.WaitN(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// shared is a limiter of all viewers of an account.
type shared struct {
	*rate.Limiter
	viewers int
}

// pace returns that of a new viewer, and how to give up its part in its account's.
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

// limiter lets a second's worth through at once, and at least what is read at once.
func limiter(bytes int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytes), max(bytes, bigBuffer))
}
