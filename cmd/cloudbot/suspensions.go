package main

import (
	"context"
	"log/slog"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// newSuspensions returns the commands that suspend and resume accounts. What a suspended account still has is read
// from the read models.
func newSuspensions(l commands.Log, pool projections.DB, log *slog.Logger) *commands.Suspensions {
	reader := &projections.Reader{Pool: pool}
	return &commands.Suspensions{Log: l, Logger: log, Leftovers: func(ctx context.Context, account string, do func(account, session, instance string) error) error {
		list, err := reader.Leftovers(ctx, account)
		if err != nil {
			return err
		}
		for _, l := range list {
			if err := do(l.Account, l.Session, l.Instance); err != nil {
				return err
			}
		}
		return nil
	}}
}
