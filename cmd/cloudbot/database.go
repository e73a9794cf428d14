package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// database is the Postgres that this process uses: the one that DATABASE_URL names, or a private one under DATA_DIR.
type database struct {
	url   string
	gone  <-chan struct{} // closed when a private Postgres ends unexpectedly; nil: it is not ours
	close func() error    // stops a private one
}

// openDatabase finds the database, or starts a private one.
func openDatabase(ctx context.Context, cfg config, log *slog.Logger) (database, error) {
	if cfg.DatabaseURL != "" {
		return database{url: postgres.ReadWrite(cfg.DatabaseURL), close: func() error { return nil }}, nil
	}
	if err := cfg.makeDataDir(); err != nil {
		return database{}, err
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: cfg.dir("postgres"), Logger: log})
	if err != nil {
		return database{}, err
	}
	return database{pg.URL(), pg.Gone(), pg.Close}, nil
}

// findDatabase returns the database of the server that runs on this data folder, or else opens one.
func findDatabase(ctx context.Context, cfg config, log *slog.Logger) (database, error) {
	if r, ok := readRunning(cfg); ok && cfg.DatabaseURL == "" && r.DatabaseURL != "" {
		return database{url: r.DatabaseURL, close: func() error { return nil }}, nil
	}
	return openDatabase(ctx, cfg, log)
}

// connect opens one connection. The URL may have parameters that only a pool knows.
func (d database) connect(ctx context.Context) (*pgx.Conn, error) {
	pool, err := pgxpool.ParseConfig(d.url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, pool.ConnConfig)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	return conn, nil
}

// Run fails when a private Postgres ends.
func (d database) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-d.gone:
		return errors.New("it ended unexpectedly; see the end of postgres.log in its folder")
	}
}

// migrate checks the database and brings it to this version's schema.
func (d database) migrate(ctx context.Context, cfg config, log *slog.Logger) error {
	found, err := checkDatabase(ctx, cfg, d.url)
	if err != nil {
		return err
	}
	if found.Version > found.Known {
		log.Warn("database schema newer than this program; return to the newer program when you can", "schema", found.Version, "known", found.Known)
	}
	return migrations.Up(ctx, d.url, log)
}

// productionPostgres is the oldest major version of PostgreSQL that production accepts.
const productionPostgres = 16

// checkDatabase is what serve, migrate and doctor check before anything is written.
func checkDatabase(ctx context.Context, cfg config, url string) (migrations.Database, error) {
	oldest := migrations.Oldest
	if cfg.production() {
		oldest = productionPostgres
	}
	return migrations.Check(ctx, url, oldest)
}

// fits refuses a schema outside the range that this program runs on.
func fits(ctx context.Context, db migrations.Querier) error {
	found, err := migrations.Look(ctx, db)
	if err != nil {
		return fmt.Errorf("look at the schema: %w", err)
	}
	return found.Fits()
}
