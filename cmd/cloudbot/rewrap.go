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
		Short: "Re-encrypt all data keys with the first key of ENCRYPTION_KEY",
		Long: `Changes the key that encrypts the accounts' data keys, while servers run. To replace
ENCRYPTION_KEY:

  1. On every server, add the new key after the old one ("old,new").
  2. On every server, put the new key first ("new,old").
  3. Run this command.
  4. When all machines launched before step 2 have enrolled, remove the old key.`,
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
				fmt.Fprintf(cmd.OutOrStdout(), "%d keys re-encrypted; all use the first key now\n", n)
				return nil
			})
		},
	}
}
