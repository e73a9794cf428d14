package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// running is what a server says of itself in DATA_DIR/running.json, for the tools beside it.
type running struct {
	PID         int    `json:"pid"`
	DatabaseURL string `json:"database_url"`
	URL         string `json:"url"`
	AdminURL    string `json:"admin_url"`
}

func (c config) runningFile() string { return filepath.Join(c.DataDir, "running.json") }

func (r running) write(cfg config) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.runningFile(), append(text, '\n'), 0o600)
}

func readRunning(cfg config) (r running, ok bool) {
	text, err := os.ReadFile(cfg.runningFile())
	return r, err == nil && json.Unmarshal(text, &r) == nil
}

// database opens Postgres: the one DATABASE_URL names, else a private one under DATA_DIR.
// The returned function closes what was started.
func database(ctx context.Context, cfg config, log *slog.Logger) (url string, closeIt func() error, err error) {
	if cfg.DatabaseURL != "" {
		return cfg.DatabaseURL, func() error { return nil }, nil
	}
	if err := cfg.makeDataDir(); err != nil {
		return "", nil, err
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: cfg.dir("postgres"), Log: log})
	if err != nil {
		return "", nil, err
	}
	return pg.URL(), pg.Close, nil
}

// tool runs f on the log for one of the operator's tools: on the database of the server that runs
// on this data folder, if one does, else on one started for the purpose.
func tool(ctx context.Context, f func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error) (err error) {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := logger(cfg)
	url, closeIt := "", func() error { return nil }
	if r, ok := readRunning(cfg); ok && cfg.DatabaseURL == "" && answers(ctx, r.DatabaseURL) {
		url = r.DatabaseURL
	} else if url, closeIt, err = database(context.WithoutCancel(ctx), cfg, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeIt()) }()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Log: log})
	if err != nil {
		return err
	}
	defer store.Close()
	return f(ctx, pool, store)
}

func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return false
	}
	return conn.Close(ctx) == nil
}
