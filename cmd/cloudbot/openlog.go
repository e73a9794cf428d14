package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// openLog opens the event log in Postgres, and the connection pool beside it.
func openLog(ctx context.Context, url string, log *slog.Logger, opened *closers) (*postgres.Pool, *postgres.Store, error) {
	pool, err := postgres.OpenPool(ctx, url, log, migrations.Hold())
	if err != nil {
		return nil, nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	opened.add(pool.Close)
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Logger: log})
	if err != nil {
		return nil, nil, err
	}
	opened.add(store.Close)
	return pool, store, refuseUnfinished(ctx, pool, store)
}

// isEmpty reports whether the log has no event.
func isEmpty(ctx context.Context, store *postgres.Store) bool {
	head, err := store.Head(ctx)
	return err == nil && head == 0
}

// openLeases opens the leases of the background roles, on their own connection.
func openLeases(ctx context.Context, cfg config, pool *postgres.Pool, log *slog.Logger, opened *closers) (*lease.Leases, error) {
	own, err := pool.Reserve(ctx, "cloudbot leases")
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	opened.add(own.Close)
	leases := lease.New(lease.Config{Pool: own, Logger: log})
	if cfg.DatabaseURL == "" {
		// A private database has no other user, so the holder of any lease in it is dead.
		if err := leases.Clear(ctx); err != nil {
			return nil, err
		}
	}
	return leases, nil
}

// newLog returns the log as commands use it. digestKey is the key of the digests in receipts; nil for commands without
// receipts. fleet is the limit on all instances together; nil for none.
func newLog(store eventstore.Store, digestKey []byte, fleet *commands.Fleet) commands.Log {
	entropy := ulid.DefaultEntropy() // monotonic, so ids made in one millisecond keep their order
	return commands.Log{
		Store:     store,
		NewID:     func() string { return ulid.MustNew(ulid.Now(), entropy).String() },
		Now:       func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
		DigestKey: digestKey,
		Fleet:     fleet,
	}
}
