package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	priceAge   = time.Hour   // after it, Stripe is asked again
	priceRetry = time.Minute // after Stripe did not answer
)

// PriceBoard knows what prices cost. It asks Stripe in the background, so that no request waits for that.
type PriceBoard struct {
	Find   func(ctx context.Context, id string) (commands.Price, error)
	IDs    []string
	Logger *slog.Logger

	mu     sync.Mutex
	prices map[string]commands.Price
}

// Run keeps the prices up to date until ctx ends.
func (b *PriceBoard) Run(ctx context.Context) error {
	for {
		wait := priceAge
		if !b.look(ctx) {
			wait = priceRetry
		}
		if retry.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// look asks for all prices, and reports whether Stripe answered. A price that Stripe does not have any more is not shown, and
// one about which it did not answer stays.
func (b *PriceBoard) look(ctx context.Context) (known bool) {
	known = true
	for _, id := range b.IDs {
		price, err := b.Find(ctx, id)
		if ctx.Err() != nil {
			return false
		}
		b.mu.Lock()
		switch {
		case err == nil && b.prices == nil:
			b.prices = map[string]commands.Price{id: price}
		case err == nil:
			b.prices[id] = price
		case errors.Is(err, commands.ErrNotAtStripe), errors.As(err, new(*commands.RefusedError)):
			delete(b.prices, id)
		default:
			known = false
		}
		b.mu.Unlock()
		if err != nil {
			b.Logger.Warn("price of a plan not found at Stripe, will retry", "price", id, "err", err)
		}
	}
	return known
}

// price returns what a price costs; nil: that is not known.
func (b *PriceBoard) price(id string) *planPriceView {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.prices[id]
	if !ok {
		return nil
	}
	return &planPriceView{p.Amount, p.Currency, p.Interval}
}
