package main

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/migrations"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Probes are what /ready and doctor try, and what serve tries when it starts. Each tries one thing that the server
// must be able to do, and leaves nothing behind.
//
// Ready means that commands and queries work. NATS may be unreachable: commands are accepted, read models follow the log
// itself, and each replica limits sign-ins alone. /ready then says what is missing. A NATS that can never do its work
// is different: no replica would reach another one's desktops.

// probes returns those of a running server.
func probes(
	store *postgres.Store, leases *lease.Leases, pool *postgres.Pool, conn *nats.Conn, shared buckets, progress *projections.Progress,
) []httpapi.Probe {
	stream := jetstream.NewStreamProbe(conn, store.Head)
	list := append(probesOfPostgres(store, leases, tickets.Tickets{Pool: pool}), probesOfNATS(shared)...)
	return append(list,
		httpapi.Probe{Name: "schema", Try: schemaFits(pool)},
		httpapi.Probe{Name: "nats", Try: stream.Publish, Degrades: "NATS does not accept messages", Grave: unable},
		httpapi.Probe{Name: "events", Try: stream.Relayed, Degrades: "subscribers get no events for now", Grave: unable},
		httpapi.Probe{Name: "projections", Try: caughtUp(store, progress)},
		httpapi.Probe{Name: "read_models", Try: readModelsMove(store, progress), Degrades: "lists and events do not show the latest changes for now"},
	)
}

// schemaFits fails while the schema is outside the range that this program runs on: it was migrated by a newer program, or
// a migration was undone.
func schemaFits(pool *postgres.Pool) func(context.Context) error {
	return func(ctx context.Context) error {
		found, err := migrations.Look(ctx, pool)
		if err != nil {
			return err
		}
		if err := found.Fits(); err != nil {
			return &domain.Error{Kind: domain.Unavailable, Code: "schema", Msg: err.Error()}
		}
		return nil
	}
}

func probesOfPostgres(store *postgres.Store, leases *lease.Leases, handed tickets.Tickets) []httpapi.Probe {
	return []httpapi.Probe{
		{Name: "postgres", Try: store.Probe},
		{Name: "leases", Try: leases.Probe, Degrades: "desktops cannot start or stop for now"},
		{Name: "tickets", Try: handed.Probe, Degrades: "browsers cannot open desktops and agents for now"},
	}
}

func probesOfNATS(shared buckets) []httpapi.Probe {
	return []httpapi.Probe{
		{Name: "limits", Try: shared.limits.Probe, Degrades: "each replica limits sign-ins alone", Grave: unable},
		{Name: "presence", Try: shared.presence.Probe, Degrades: "only the replica that a machine is connected to can reach its desktop", Grave: unable},
	}
}
