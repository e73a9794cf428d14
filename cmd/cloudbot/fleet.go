package main

import (
	"context"
	"log/slog"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// newFleet returns the limit that MAX_INSTANCES_TOTAL sets; nil without one.
func newFleet(cfg config, pool projections.DB, log *slog.Logger) *commands.Fleet {
	if cfg.MaxTotal == 0 {
		return nil
	}
	return &commands.Fleet{Limit: cfg.MaxTotal, Live: (&projections.Reader{Pool: pool}).Live, Logger: log}
}

// fleetCount keeps the count of all instances right, if there is a limit on it.
type fleetCount struct {
	fleet  *commands.Fleet
	events commands.Log
}

func (c fleetCount) Run(ctx context.Context) error {
	if c.fleet == nil {
		return nil
	}
	return c.fleet.Run(ctx, c.events)
}
