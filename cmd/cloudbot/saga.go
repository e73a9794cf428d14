package main

import (
	"log/slog"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/looks"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/projections"
)

// newSaga returns the saga, which launches, starts, stops and terminates machines.
func newSaga(
	events commands.Log, cloud cloud, tokens *secrets.Enrolment, reader *projections.Reader, feed *jetstream.Feed, hub *tunnel.Hub, log *slog.Logger,
) *provisioner.Saga {
	return &provisioner.Saga{
		Log: events, Cloud: cloud, Tokens: tokens, Live: reader.Live, Feed: feed, Connected: hub.ConnectedAnywhere, Logger: log,
		PollEvery: cloud.pollEvery, SweepEvery: cloud.sweepEvery, Policy: cloud.policy, Workers: 8, At: failpoint(),
		Looks: &provisioner.Looks{Store: looks.Store{DB: reader.Pool}},
	}
}

// withReconciler adds the reconciler to the saga, under the saga's lease, if the cloud can list its machines.
func withReconciler(saga *provisioner.Saga, inventory machines.Inventory) runner {
	if inventory == nil {
		return saga
	}
	return together{saga, &provisioner.Reconciler{
		Log: saga.Log, Cloud: inventory, Live: saga.Live, Connected: saga.Connected, Looks: saga.Looks, Logger: saga.Logger,
	}}
}
