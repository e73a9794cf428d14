package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func migrateCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Migrate the database to this version's schema",
		Long:  "Migrates the database to this version's schema. `serve` does so too. Running both at the same time is safe.",
		Example: `  cloudbot migrate
  DATABASE_URL=postgres://owner@db.internal/cloudbot cloudbot migrate      as the database's owner`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			if cfg.DatabaseURL == "" {
				if r, ok := beside(ctx, cfg); ok {
					return fmt.Errorf("CloudBot runs on this data folder, at %s (process %d), and migrated the database when it started; stop it to migrate with this version", r.URL, r.PID)
				}
			}
			log := logger(cfg)
			db, err := openDatabase(context.WithoutCancel(ctx), cfg, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.close()) }()
			if err := db.migrate(ctx, cfg, log); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
			return nil
		},
	}
}
