package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

func rewrapCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "rewrap",
		Short: "Bring all data keys under the first key of ENCRYPTION_KEY",
		Long: `Changes the key that the accounts' data keys are wrapped with, beside the running
servers. To change ENCRYPTION_KEY: add the new key behind the old one everywhere
("old,new"), then put it first everywhere ("new,old"), then run this, then remove
the old one. Machines that were launched under the old key must have enrolled by then.`,
		Example: `  ENCRYPTION_KEY="$new,$old" cloudbot rewrap`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			return tool(cmd.Context(), func(ctx context.Context, pool *pgxpool.Pool, _ *postgres.Store) error {
				_, vault, err := openVault(ctx, cfg, pool, nil)
				if err != nil {
					return err
				}
				n, err := vault.Rewrap(ctx)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d keys rewrapped; all are under the first key now\n", n)
				return nil
			})
		},
	}
}
