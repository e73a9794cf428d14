package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

func replayCmd() *cobra.Command {
	var parked bool
	var names []string
	for _, p := range projections.All() {
		names = append(names, p.Name)
	}
	cmd := &cobra.Command{
		Use:   "replay <projection>",
		Short: "Rebuild a read model from the log, or retry its parked events",
		Long: `Folds the whole log into new tables beside the live ones and switches over in one
transaction; queries are answered all the while. Safe beside a running server. It goes
past an event that cannot be applied: that one is named, and its stream stays parked.

With --parked it applies only the events that were set aside because they could
not be applied, and those of the same streams after them, in order.

Projections: ` + strings.Join(names, ", ") + `, or all.`,
		Example: "  cloudbot replay instances\n  cloudbot replay --parked all",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one projection to rebuild: %s, or all", strings.Join(names, ", "))
			}
			return nil
		},
		ValidArgs: append(names, "all"),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := projections.All()
			if args[0] != "all" {
				p, err := projections.Find(args[0])
				if err != nil {
					return err
				}
				list = []projections.Projection{p}
			}
			return tool(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error {
				for _, p := range list {
					say := func(format string, args ...any) { fmt.Fprintf(cmd.OutOrStdout(), p.Name+": "+format, args...) }
					if err := replayOne(ctx, pool, store, p, parked, say); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&parked, "parked", false, "only retry parked events")
	return cmd
}

func replayOne(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store, p projections.Projection, parked bool, say func(string, ...any)) error {
	if parked {
		applied, left, err := projections.RetryParked(ctx, pool, store, p)
		if err != nil {
			return err
		}
		say("%d parked events applied, %d left\n", applied, left)
		return sayParked(ctx, pool, p, say)
	}
	began, said := time.Now(), time.Now()
	n, err := projections.Rebuild(ctx, pool, store, p, func(position int64) {
		if time.Since(said) > time.Second {
			said = time.Now()
			say("at event %d\n", position)
		}
	})
	if err != nil {
		return err
	}
	say("rebuilt from %d events in %s\n", n, time.Since(began).Round(time.Millisecond))
	return sayParked(ctx, pool, p, say)
}

// sayParked names the events that stop their streams.
func sayParked(ctx context.Context, pool *pgxpool.Pool, p projections.Projection, say func(string, ...any)) error {
	faulty, all, err := projections.Parked(ctx, pool, p.Name)
	if err != nil {
		return err
	}
	for _, e := range faulty {
		say("event %d of %s is parked, and its stream with it: %s\n", e.Position, e.Stream, e.Cause)
	}
	if all > len(faulty) {
		say("%d events that follow them are parked, too\n", all-len(faulty))
	}
	return nil
}
