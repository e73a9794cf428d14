package main

import (
	"context"
	"time"
)

// epochEvery is how often a replica looks which epoch the log is in. Only one replica relays, and begins epochs.
const epochEvery = time.Second

// followEpoch tells the front when another epoch has begun: a client of an earlier one gets everything.
func (p *parts) followEpoch(ctx context.Context) error {
	tick := time.NewTicker(epochEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n, err := p.epochs.Current(ctx)
		if present, _ := p.epoch.Now(); err != nil || n == present {
			continue // without Postgres nothing changes
		}
		if err := p.front.LogChanged(ctx); err != nil {
			continue // the epoch stays, so that it is tried again
		}
		p.epoch.Set(n)
	}
}
