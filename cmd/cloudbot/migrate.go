package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/migrations"
)

func migrateCmd() *cobra.Command {
	up := func(cmd *cobra.Command, _ []string) error {
		return withDatabase(cmd.Context(), func(ctx context.Context, cfg config, db database, log *slog.Logger) error {
			if err := db.migrate(ctx, cfg, log); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the schema is up to date")
			return err
		})
	}
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Migrate the database to this version's schema; show or undo migrations",
		Long: `Migrates the database to this version's schema, as "migrate up" does. "serve" does so
too. Running both at the same time is safe. A migration that takes away what a running
server needs is refused: first replace that server by a version between the two.`,
		Example: `  cloudbot migrate
  DATABASE_URL=postgres://owner@db.internal/cloudbot cloudbot migrate      as the database's owner
  cloudbot migrate status`,
		Args: cobra.NoArgs,
		RunE: up,
	}
	cmd.AddCommand(&cobra.Command{
		Use:     "up",
		Short:   "Migrate the database to this version's schema",
		Long:    `Applies the missing migrations in order, each in its own transaction. It is safe to interrupt and to repeat.`,
		Example: `  cloudbot migrate up`,
		Args:    cobra.NoArgs,
		RunE:    up,
	}, migrateDownCmd(), migrateStatusCmd())
	return cmd
}

func migrateDownCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Undo the newest migration",
		Long: `Undoes one migration, the newest, in one transaction. It refuses, and changes nothing, if
that would lose an event, a receipt, a data key or saved chats, or if a connected server
or tool needs the migration. Read models that the migration changed are built again from
the log after the next "migrate up".

To return to an earlier version of the program, you usually need no "down": start that
version on this schema, which "migrate status" shows to support it.`,
		Example: `  cloudbot migrate status
  cloudbot migrate down`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDatabase(cmd.Context(), func(ctx context.Context, _ config, db database, _ *slog.Logger) error {
				version, name, err := migrations.Down(ctx, db.url)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "migration %d (%s) is undone; `serve` and `migrate` of this version apply it again\n", version, name)
				return err
			})
		},
	}
}

func migrateStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "List the migrations and the schema versions that this program runs on",
		Long: `Lists each migration with the time at which it was applied, and the range of schema
versions that this program runs on. CONTRACT is the migration that programs must know since
then, because the migration took something away. The command changes nothing and also runs
beside a server.`,
		Example: `  cloudbot migrate status
  cloudbot migrate status --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			db, err := findDatabase(context.WithoutCancel(cmd.Context()), cfg, logger(cfg))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, db.close()) }()
			list, found, err := migrations.Status(cmd.Context(), db.url)
			if err != nil {
				return err
			}
			return printMigrations(cmd.OutOrStdout(), list, found, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printMigrations(w io.Writer, list []migrations.Entry, found migrations.Database, asJSON bool) error {
	why := ""
	if err := found.Fits(); err != nil {
		why = err.Error()
	}
	if asJSON {
		return printJSON(w, map[string]any{
			"migrations": list, "schema": found.Version, "oldest_program": found.Oldest,
			"lowest": found.Lowest, "highest": found.Known, "runs": why == "", "reason": why,
		})
	}
	rows := [][]string{{"NUMBER", "NAME", "APPLIED", "CONTRACT"}}
	for _, m := range list {
		row := []string{fmt.Sprint(m.Version), m.Name, "pending", ""}
		if m.Name == "" {
			row[1] = "(of a newer version)"
		}
		if !m.Applied.IsZero() {
			row[2] = m.Applied.UTC().Format(time.RFC3339)
		}
		if m.Oldest > 0 {
			row[3] = fmt.Sprint(m.Oldest)
		}
		rows = append(rows, row)
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe schema is version %d. This program runs on %s.\n", found.Version, found.Range())
	if why != "" {
		fmt.Fprintf(w, "It does not run on this one: %s.\n", why)
	}
	return nil
}

// withDatabase opens the database for a command that changes its schema. It refuses if a server runs on this data folder.
func withDatabase(ctx context.Context, f func(context.Context, config, database, *slog.Logger) error) (err error) {
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
	return f(ctx, cfg, db, log)
}
