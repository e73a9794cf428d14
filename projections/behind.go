package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

const (
	// farBehind is how many events a projector may be behind the log before it reads pages of it, together with others.
	farBehind = 4096
	// largeBatch is a batch of Feed after which a projector looks how far behind it is.
	largeBatch = 400
)

// errFarBehind ends a Follow, because reading pages of the log is faster.
var errFarBehind = errors.New("far behind the log")

// read calls do with every event after a position, in order, until do fails or ctx ends: in pages while the projector is far
// behind, else as they come.
func (p *Projector) read(ctx context.Context, at int64, do func(context.Context, []*Event) error) error {
	for {
		if behind, err := p.behind(ctx, at); err != nil {
			return err
		} else if behind {
			err := p.Pages.follow(ctx, at, func(ctx context.Context, events []*Event) error {
				at = events[len(events)-1].Position
				return do(ctx, events)
			})
			if err != nil {
				return err
			}
		}
		err := p.Feed.Follow(ctx, at, func(ctx context.Context, events []eventstore.Event) error {
			if err := do(ctx, eventsOf(events)); err != nil {
				return err
			}
			at = events[len(events)-1].Position
			if len(events) < largeBatch {
				return nil
			}
			if behind, err := p.behind(ctx, at); err != nil || !behind {
				return err
			}
			return errFarBehind
		})
		if !errors.Is(err, errFarBehind) {
			return err
		}
	}
}

// behind reports whether the projector is far behind the log.
func (p *Projector) behind(ctx context.Context, at int64) (bool, error) {
	if p.Pages == nil {
		return false, nil
	}
	head, err := p.Pages.Store.Head(ctx)
	if err != nil {
		return false, fmt.Errorf("read the head of the log: %w", err)
	}
	return head-at > farBehind, nil
}
