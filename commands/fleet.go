package commands

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/fleet"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// fleetID is the one stream of the fleet.
const fleetID = "all"

// ErrNotCounted refuses a create until the instances there were before the ceiling are counted.
var ErrNotCounted = &domain.Error{Kind: domain.Unavailable, Code: "fleet_not_counted", Msg: "The server is still counting its desktops. Try again in a few seconds."}

// Fleet is the ceiling over the instances of all accounts. It is optional: without one there is no
// stream and nothing to pay for. Run must be running before an instance can be created.
type Fleet struct {
	Limit int // above 0
	// Live returns the ids of the instances that are not final, as of a position of the log.
	Live   func(ctx context.Context) (ids []string, position int64, err error)
	Logger *slog.Logger
	Every  time.Duration // between two counts [10 min]

	counted atomic.Bool
	making  sync.Once
	turns   chan struct{} // holds one: see turn
}

// turn lets the creates of this process go one after the other: each of them writes to the one stream,
// and those that lost the race would read and decide again, all of them each time.
func (f *Fleet) turn(ctx context.Context) (done func(), err error) {
	if f == nil {
		return func() {}, nil
	}
	f.making.Do(func() { f.turns = make(chan struct{}, 1) })
	select {
	case f.turns <- struct{}{}:
		return func() { <-f.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run counts the instances that are there, and again now and then: a replica without the ceiling, or
// one of an earlier version, adds instances without a word.
func (f *Fleet) Run(ctx context.Context, l Log) error {
	for {
		wait := cmp.Or(f.Every, 10*time.Minute)
		switch err := f.Count(ctx, l); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			f.Logger.WarnContext(ctx, "desktop count failed, will retry", "err", err)
			wait = time.Second
		}
		if retry.Sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// Count writes down how many instances there are, where that differs. The fleet's version is read
// before the head of the log, and the read model is waited for until it has come as far: an instance that
// it does not count yet has therefore moved the version, and the count begins again.
func (f *Fleet) Count(ctx context.Context, l Log) error {
	_, err := eventstore.Run(ctx, l.Store, l.stamp(Origin{}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		if _, err := fleets.Load(ctx, u, fleetID); err != nil {
			return nil, err
		}
		head, err := l.Store.Head(ctx)
		if err != nil {
			return nil, err
		}
		ids, position, err := f.Live(ctx)
		for err == nil && position < head {
			if err := retry.Sleep(ctx, 50*time.Millisecond); err != nil {
				return nil, err
			}
			ids, position, err = f.Live(ctx)
		}
		if err != nil {
			return nil, err
		}
		_, err = fleets.Execute(ctx, u, fleetID, fleet.Count{Count: len(ids)})
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("count the fleet: %w", err)
	}
	f.counted.Store(true)
	return nil
}

// add asks for room for an instance. A nil Fleet has room for all.
func (f *Fleet) add(ctx context.Context, u *eventstore.Unit, id string) error {
	if f == nil {
		return nil
	}
	if !f.counted.Load() {
		return ErrNotCounted
	}
	_, err := fleets.Execute(ctx, u, fleetID, fleet.Add{Instance: id, Limit: f.Limit})
	return err
}

// remove gives an instance's room back.
func (f *Fleet) remove(ctx context.Context, u *eventstore.Unit, id string) error {
	if f == nil {
		return nil
	}
	_, err := fleets.Execute(ctx, u, fleetID, fleet.Remove{Instance: id})
	return err
}
