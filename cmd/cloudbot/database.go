package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// running is what a server says of itself in DATA_DIR/running.json, for the tools beside it.
type running struct {
	PID         int    `json:"pid"`
	DatabaseURL string `json:"database_url,omitempty"` // of a private Postgres
	URL         string `json:"url"`
	AdminURL    string `json:"admin_url"`
	AdminToken  string `json:"admin_token,omitempty"` // made by the server
}

func (c config) runningFile() string { return filepath.Join(c.DataDir, "running.json") }

func (r running) write(cfg config) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(cfg.runningFile(), append(text, '\n'), 0o600)
}

// readRunning tells of the server that runs on the data folder, if one does.
func readRunning(cfg config) (r running, ok bool) {
	text, err := os.ReadFile(cfg.runningFile())
	if err != nil || json.Unmarshal(text, &r) != nil {
		return r, false
	}
	r.AdminToken = cmp.Or(r.AdminToken, cfg.AdminToken) // the server has made one only where none is set
	return r, !errors.Is(syscall.Kill(r.PID, 0), syscall.ESRCH)
}

// beside finds the server that runs on the data folder by asking it: its file may be left from one that is
// gone, and its process's number be another's.
func beside(ctx context.Context, cfg config) (running, bool) {
	r, ok := readRunning(cfg)
	if !ok {
		return r, false
	}
	ctx, cancel := context.WithTimeout(ctx, besideTime)
	defer cancel()
	pid, err := askAdmin(ctx, r, runningPath)
	return r, err == nil && string(pid) == strconv.Itoa(r.PID)
}

// besideTime bounds the question: a server that is starting takes it and does not answer yet.
const besideTime = 3 * time.Second

// database opens Postgres: the one DATABASE_URL names, else a private one under DATA_DIR.
// The returned function closes what was started; gone is closed when a private one ends by itself.
func database(ctx context.Context, cfg config, log *slog.Logger) (url string, gone <-chan struct{}, closeIt func() error, err error) {
	if cfg.DatabaseURL != "" {
		return postgres.ReadWrite(cfg.DatabaseURL), nil, func() error { return nil }, nil
	}
	if err := cfg.makeDataDir(); err != nil {
		return "", nil, nil, err
	}
	pg, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: cfg.dir("postgres"), Logger: log})
	if err != nil {
		return "", nil, nil, err
	}
	return pg.URL(), pg.Gone(), pg.Close, nil
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
	if r, ok := readRunning(cfg); ok && cfg.DatabaseURL == "" && r.DatabaseURL != "" {
		url = r.DatabaseURL
	} else if url, _, closeIt, err = database(context.WithoutCancel(ctx), cfg, log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeIt()) }()
	pool, err := postgres.OpenPool(ctx, url, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close()
	return f(ctx, pool.Pool, store)
}
