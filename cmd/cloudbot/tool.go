package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// tool runs f on the log for one of the operator's tools. If a server runs on this data folder, f gets its database;
// otherwise the database is started for f. A log whose restore was interrupted is refused.
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
	pool, err := postgres.OpenPool(ctx, db.url, slog.New(slog.DiscardHandler), migrations.Hold())
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := fits(ctx, pool); err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Logger: log})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := refuseUnfinished(ctx, pool, store); err != nil { // to reconcile such a log could terminate machines
		return err
	}
	return f(ctx, pool.Pool, store)
}
