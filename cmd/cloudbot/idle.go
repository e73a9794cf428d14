package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/keeper"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// newReports returns what receives the machines' reports about their use. A use that is not written yet must not look like
// idleness, so a short idle limit has the reports written more often.
func newReports(cfg config, table *activity.Table, log *slog.Logger) *activity.Reports {
	return &activity.Reports{Put: table.Put, Logger: log, Every: min(activity.WriteEvery, max(time.Second, cfg.idleShortest()/4))}
}

// newKeeper returns the role that warns of idle stops, stops desktops and starts them for their agents' jobs. It looks more
// often if users may set an idle limit of seconds.
func newKeeper(cfg config, events commands.Log, table *activity.Table, budgets keeper.Budgets, log *slog.Logger) *keeper.Keeper {
	return &keeper.Keeper{
		Log: events, Desks: table, Budgets: budgets, Logger: log, Every: min(5*time.Second, max(time.Second, cfg.idleShortest()/10)),
	}
}

// activitySweeper drops what is known of the use of desktops that have ended. The follower drops most of it at once.
type activitySweeper struct {
	table *activity.Table
	log   *slog.Logger
}

func (s activitySweeper) Run(ctx context.Context) error {
	for {
		if err := s.table.DropEnded(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("dropping the activity of ended desktops failed, will retry", "err", err)
		}
		if retry.Sleep(ctx, sweepEvery) != nil {
			return nil
		}
	}
}
