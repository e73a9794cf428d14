// Package migrations holds the database's schema as embedded SQL and brings a database up to it.
// The numbered files are the schema's history: an applied file is never edited, a change is a
// new file. Each room owns a schema of its own: log, read, ops.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib" // for database/sql, which goose needs
	"github.com/pressly/goose/v3"
)

//go:embed *.sql
var files embed.FS

// lockID is the session advisory lock under which replicas migrate one after the other.
const lockID = 4801402171

// Up applies what is missing, in order, each file in its own transaction. Replicas that start
// together wait for one another; the later ones find nothing to do.
func Up(ctx context.Context, databaseURL string, log *slog.Logger) error {
	return with(ctx, databaseURL, func(db *sql.DB, p *goose.Provider) error {
		lock, err := db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		// Closing db below ends the session and with it the lock.
		defer lock.Close()
		if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, lockID); err != nil {
			return fmt.Errorf("migrate: lock: %w", err)
		}
		applied, err := p.Up(ctx)
		for _, a := range applied {
			log.Info("migration applied", "file", a.Source.Path, "took", a.Duration.Round(time.Millisecond))
		}
		if err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		return nil
	})
}

// State is one migration file and when it was applied; the zero time if it was not.
type State struct {
	Version int64
	File    string
	Applied time.Time
}

// Status lists every migration file in order.
func Status(ctx context.Context, databaseURL string) ([]State, error) {
	var all []State
	err := with(ctx, databaseURL, func(_ *sql.DB, p *goose.Provider) error {
		found, err := p.Status(ctx)
		if err != nil {
			return fmt.Errorf("migration status: %w", err)
		}
		for _, s := range found {
			all = append(all, State{Version: s.Source.Version, File: s.Source.Path, Applied: s.AppliedAt})
		}
		return nil
	})
	return all, err
}

func with(ctx context.Context, databaseURL string, do func(*sql.DB, *goose.Provider) error) error {
	cfg, err := pgxpool.ParseConfig(databaseURL) // also takes what is meant for a pool alone
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("schema_migrations"), goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return do(db, p)
}
