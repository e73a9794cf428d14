package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
)

// productionPostgres is the oldest major version of PostgreSQL that production takes.
const productionPostgres = 16

// checkDatabase is what serve, migrate and doctor look at before anything is written.
func checkDatabase(ctx context.Context, cfg config, url string) (migrations.Database, error) {
	oldest := migrations.Oldest
	if cfg.production() {
		oldest = productionPostgres
	}
	return migrations.Check(ctx, url, oldest)
}

// degraded is what a server lacks and is ready without.
type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }

// checkPostgres looks as the start does, and tries what /ready tries where there is a schema to try it on.
func checkPostgres(ctx context.Context, cfg config) (_ string, err error) {
	log, url := slog.New(slog.DiscardHandler), ""
	if cfg.DatabaseURL != "" {
		url = postgres.ReadWrite(cfg.DatabaseURL)
	}
	if r, ok := readRunning(cfg); ok && url == "" {
		url = r.DatabaseURL
	}
	if url == "" {
		started, _, closeIt, err := database(context.WithoutCancel(ctx), cfg, logger(cfg))
		if err != nil {
			return "", err
		}
		defer closeIt()
		url = started
	}
	found, err := checkDatabase(ctx, cfg, url)
	switch {
	case err != nil:
		return "", err
	case found.Version == 0:
		return fmt.Sprintf("%s; the database is empty, serve makes its schema", found.Server), nil
	case found.Pending > 0:
		return fmt.Sprintf("%s; %d migrations are due, serve applies them", found.Server, found.Pending), nil
	}
	pool, err := postgres.OpenPool(ctx, url, log)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	store, err := postgres.Open(ctx, postgres.Config{Pool: pool, Logger: log})
	if err != nil {
		return "", err
	}
	defer store.Close()
	if err := tryAll(ctx, probesOfPostgres(store, lease.New(lease.Config{Pool: pool}), tickets.Tickets{Pool: pool})); err != nil {
		return "", err
	}
	if found.Version > found.Known {
		return "", degraded{fmt.Errorf("the schema is %d, a newer program's, and this one knows %d: appends work, but run the newer one again once you can", found.Version, found.Known)}
	}
	return fmt.Sprintf("%s; schema %d, appends work", found.Server, found.Version), nil
}

// checkOfNATS looks as the start does. A NATS that is away keeps no server from being ready.
func checkOfNATS(ctx context.Context, cfg config) (string, error) {
	if cfg.NATSURL == "" {
		return "in-process", nil
	}
	conn, err := connectNATS(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	switch err := checkNATS(ctx, conn, cfg.NATSReplicas); {
	case unable(err):
		return "", err
	case !conn.IsConnected():
		return "", degraded{errors.New("NATS_URL does not answer: until it does, subscribers get no events and replicas do not reach one another's desktops")}
	case err != nil:
		return "", degraded{fmt.Errorf("NATS_URL answers, but not as it should: %w", err)}
	}
	return fmt.Sprintf("%s at %s; JetStream works", conn.ConnectedServerVersion(), conn.ConnectedUrlRedacted()), nil
}

// tryAll tries probes one after the other. An error that leaves the server ready is degraded.
func tryAll(ctx context.Context, probes []httpapi.Probe) error {
	var missing []string
	for _, p := range probes {
		err := p.Try(ctx)
		switch {
		case p.Fatal(err):
			return err
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s (%v)", p.Degrades, err))
		}
	}
	if len(missing) > 0 {
		return degraded{errors.New(strings.Join(missing, "; "))}
	}
	return nil
}
