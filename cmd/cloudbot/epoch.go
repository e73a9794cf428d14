package main

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
)

// epochEvery is how often a replica reads the log's epoch. Only the replica that relays begins a new one.
const epochEvery = time.Second

// epochFollower informs the front when a new epoch has begun: clients of an earlier one get all events again.
type epochFollower struct {
	epochs jetstream.Epochs
	epoch  *httpapi.Epoch
	front  *httpapi.Server
}

func (f epochFollower) Run(ctx context.Context) error {
	tick := time.NewTicker(epochEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n, err := f.epochs.Current(ctx)
		if present, _ := f.epoch.Now(); err != nil || n == present {
			continue // without Postgres nothing changes
		}
		if err := f.front.LogChanged(ctx); err != nil {
			continue // the epoch stays as it is, so the next tick tries again
		}
		f.epoch.Set(n)
	}
}
