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
)

// checkPostgres checks what serve checks at its start and, if there is a schema, tries what /ready tries.
func checkPostgres(ctx context.Context, cfg config) (_ string, err error) {
	db, err := findDatabase(context.WithoutCancel(ctx), cfg, logger(cfg))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	found, err := checkDatabase(ctx, cfg, db.url)
	switch {
	case err != nil:
		return "", err
	case found.Version == 0:
		return fmt.Sprintf("%s; the database is empty; serve creates its schema", found.Server), nil
	case found.Pending > 0:
		return fmt.Sprintf("%s; %s pending; serve applies them", found.Server, plural(found.Pending, "migration")), nil
	}
	var opened closers
	defer opened.close()
	pool, store, err := openLog(ctx, db.url, slog.New(slog.DiscardHandler), &opened)
	if err != nil {
		return "", err
	}
	if err := tryAll(ctx, probesOfPostgres(store, lease.New(lease.Config{Pool: pool}), tickets.Tickets{Pool: pool})); err != nil {
		return "", err
	}
	if found.Version > found.Known {
		return "", degraded{fmt.Errorf("the schema is version %d, which a newer program made, and this program knows version %d; appends work, but return to the newer program when you can", found.Version, found.Known)}
	}
	return fmt.Sprintf("%s; schema %d, appends work; this program runs on %s", found.Server, found.Version, found.Range()), nil
}

// checkOfNATS checks what serve checks at its start. The server is ready even while NATS is unreachable.
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
		return "", degraded{errors.New("NATS_URL does not answer; until it does, subscribers get no events and replicas cannot reach each other's desktops")}
	case err != nil:
		return "", degraded{fmt.Errorf("NATS_URL answers, but a check failed: %w", err)}
	}
	return fmt.Sprintf("%s at %s; JetStream works", conn.ConnectedServerVersion(), conn.ConnectedUrlRedacted()), nil
}

// tryAll tries the probes one after the other. It returns a degraded error if the server is ready despite it.
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
