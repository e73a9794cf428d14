package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/deliveries"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// registerMetrics adds the server's own figures to those of the front. The returned function counts a parked event.
func registerMetrics(
	to *prometheus.Registry, pool *postgres.Pool, relay *jetstream.Relay, progress *projections.Progress, hub *tunnel.Hub, bridges *bridge.Bridge,
) (parked func(projection string)) {
	count := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudbot_parked_events_total", Help: "Events that a projection could not apply and set aside.",
	}, []string{"projection"})
	to.MustRegister(count, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("cloudbot_log_relay_lag_events", "Events not yet in JetStream.", func() float64 { return float64(relay.Stats().Lag) }),
		gauge("cloudbot_log_epoch", "The stream's epoch.", func() float64 { return float64(relay.Stats().Epoch) }),
		gauge("cloudbot_projection_position", "Position of the slowest read model.", func() float64 { return float64(progress.Position()) }),
		gauge("cloudbot_parked_events", "Events currently set aside; cloudbot replay --parked retries them.", func() float64 { return parkedEvents(pool) }),
		gauge("cloudbot_stripe_comparison_timestamp_seconds", "When the latest comparison with Stripe began, in Unix time; 0: none is known.", func() float64 { return lastComparison(pool) }),
		gauge("cloudbot_tunnels", "Machines whose tunnel ends at this replica.", func() float64 { return float64(hub.Len()) }),
		gauge("cloudbot_bridges", "Open bridges.", func() float64 { return float64(bridges.Len()) }),
	)
	return func(projection string) { count.WithLabelValues(projection).Inc() }
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// parkedEvents counts the events that are parked; −1 if the database does not answer.
func parkedEvents(pool *postgres.Pool) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n := -1.0
	_ = pool.QueryRow(ctx, `SELECT count(*)::float8 FROM read.parked`).Scan(&n)
	return n
}

// lastComparison returns when the latest comparison with Stripe began; 0 if none is known or the database does not answer.
func lastComparison(pool *postgres.Pool) float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	at, err := deliveries.Store{DB: pool}.LastComparison(ctx)
	if err != nil || at.IsZero() {
		return 0
	}
	return float64(at.Unix())
}
