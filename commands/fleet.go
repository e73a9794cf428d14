package commands

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/fleet"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// fleetID is the id of the fleet's only stream.
const fleetID = "all"

// ErrNotCounted refuses a create until the instances that existed before the limit are counted.
var ErrNotCounted = &domain.Error{Kind: domain.Unavailable, Code: "fleet_not_counted", Msg: "The server is still counting its desktops. Try again in a few seconds."}

// Fleet limits the instances of all accounts together. It is optional: without it there is no stream and no cost. An
// instance can be created only while Run is running.
type Fleet struct {
	Limit int // above 0
	// Live returns the ids of the instances that are not final, and the log position of that list.
	Live   func(ctx context.Context) (ids []string, position int64, err error)
	Logger *slog.Logger
	Every  time.Duration // between two counts [10 min]

	counted atomic.Bool
	making  sync.Once
	turns   chan struct{} // holds one: see turn
}

// turn makes the creates of this process wait for each other. All of them write to the one stream, and after each write
// all the others would have to read and decide again.
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

// Run counts the instances, immediately and then periodically: a replica without the limit, or of an earlier version,
// adds instances without counting them.
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

// Count records the number of instances if it differs from the log's. It reads the fleet's version first, then the head
// of the log, and waits until the read model has reached that head. An instance that is not counted yet has therefore
// changed the version, and the count is repeated.
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

// add reserves room for an instance. A nil Fleet has unlimited room.
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

// adopt counts an instance whose machine exists already, whatever the limit is.
func (f *Fleet) adopt(ctx context.Context, u *eventstore.Unit, id string) error {
	if f == nil {
		return nil
	}
	_, err := fleets.Execute(ctx, u, fleetID, fleet.Add{Instance: id, Limit: math.MaxInt})
	return err
}

// remove releases an instance's room.
func (f *Fleet) remove(ctx context.Context, u *eventstore.Unit, id string) error {
	if f == nil {
		return nil
	}
	_, err := fleets.Execute(ctx, u, fleetID, fleet.Remove{Instance: id})
	return err
}
