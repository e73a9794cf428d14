package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// tool runs f on the log for one of the operator's tools. If a server runs on this data folder, f gets its database;
// otherwise the database is started for f.
func tool(ctx context.Context, f func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error) (err error) {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := logger(cfg)
	db, err := findDatabase(context.WithoutCancel(ctx), cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	pool, err := postgres.OpenPool(ctx, db.url, slog.New(slog.DiscardHandler))
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
