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
		Long: `Builds new tables from the whole log beside the live ones, then switches to them in one
transaction. Queries are answered throughout, and it is safe beside a running server. If
an event cannot be applied, the command names it and continues; its stream stays parked.

With --parked, the command only retries parked events: those that could not be applied,
and the later events of the same streams, in order.

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

// sayParked names the events at which streams stopped.
func sayParked(ctx context.Context, pool *pgxpool.Pool, p projections.Projection, say func(string, ...any)) error {
	faulty, all, err := projections.Parked(ctx, pool, p.Name)
	if err != nil {
		return err
	}
	for _, e := range faulty {
		say("event %d of %s is parked, and its stream with it: %s\n", e.Position, e.Stream, e.Cause)
	}
	if all > len(faulty) {
		say("%d later events of these streams are parked too\n", all-len(faulty))
	}
	return nil
}
