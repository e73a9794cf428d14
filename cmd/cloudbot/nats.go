package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// launchNATS begins to start a NATS in this process, beside the database. Nil: NATS_URL names another one.
func launchNATS(ctx context.Context, cfg config, log *slog.Logger) (*embedded.NATS, error) {
	if cfg.NATSURL != "" {
		return nil, nil
	}
	if err := cfg.makeDataDir(); err != nil {
		return nil, err
	}
	return embedded.LaunchNATS(ctx, embedded.NATSConfig{Dir: cfg.dir("nats"), Listen: cfg.NATSListen, Logger: log})
}

// openNATS connects to NATS_URL, or to the NATS in this process, which may still be starting.
func openNATS(ctx context.Context, cfg config, bus *embedded.NATS, log *slog.Logger, opened *closers) (*nats.Conn, error) {
	if bus == nil {
		conn, err := connectNATS(cfg, log)
		if err != nil {
			return nil, err
		}
		opened.add(conn.Close)
		if err := checkNATS(ctx, conn, cfg.NATSReplicas); unable(err) {
			return nil, err
		}
		return conn, nil
	}
	conn, err := bus.Connect(nats.Name("cloudbot"))
	if err != nil {
		return nil, err
	}
	opened.add(conn.Close)
	return conn, nil
}

// connectNATS connects to NATS_URL. NATS may come later: without it commands are accepted, and the relay catches up.
func connectNATS(cfg config, log *slog.Logger) (*nats.Conn, error) {
	conn, err := nats.Connect(cfg.NATSURL, nats.Name("cloudbot"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.Timeout(3*time.Second), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Debug("NATS", "err", err) }))
	if err != nil {
		return nil, fmt.Errorf("NATS_URL: %w", err)
	}
	return conn, nil
}

// natsTime bounds the checks of NATS at the start. A NATS that hangs is treated as one that is unreachable.
const natsTime = 10 * time.Second

// checkNATS tries what the server needs from NATS. An error for which unable is true is permanent.
func checkNATS(ctx context.Context, conn *nats.Conn, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, natsTime)
	defer cancel()
	err := jetstream.Able(ctx, conn, jetstream.StreamLimits{Replicas: replicas})
	for _, p := range probesOfNATS(newBuckets(conn, replicas, slog.New(slog.DiscardHandler))) {
		if unable(err) {
			break
		}
		err = errors.Join(err, p.Try(ctx))
	}
	if sentence, yes := jetstream.Unable(err); yes {
		return phrased{sentence, err}
	}
	return err
}

// unable reports whether an error says that NATS is set up so that it can never do its work.
func unable(err error) bool {
	_, yes := jetstream.Unable(err)
	return yes
}

// phrased is an error with a sentence for its reader in place of its details.
type phrased struct {
	sentence string
	error
}

func (p phrased) Error() string { return p.sentence }
func (p phrased) Unwrap() error { return p.error }

// streamLimits says how much of the log the stream EVENTS keeps.
func (c config) streamLimits() jetstream.StreamLimits {
	age, _ := time.ParseDuration(c.EventsMaxAge) // checked when it was read
	return jetstream.StreamLimits{Replicas: c.NATSReplicas, MaxAge: age, MaxBytes: c.EventsMaxMB << 20}
}

// buckets are the key-value buckets that replicas share.
type buckets struct {
	limits   *jetstream.Limiter
	presence *jetstream.Presence
	states   *jetstream.States
}

func newBuckets(conn *nats.Conn, replicas int, log *slog.Logger) buckets {
	places := jetstream.PresenceConfig{Conn: conn, Replicas: replicas, Logger: log}
	return buckets{
		limits:   jetstream.NewLimiter(jetstream.LimiterConfig{Conn: conn, Replicas: replicas, Logger: log}),
		presence: jetstream.NewPresence(places),
		states:   jetstream.NewStates(places),
	}
}

// openStream returns the relay, which copies the log to the stream EVENTS, the feed, which follows that stream, and
// the epoch that their numbers belong to.
func openStream(
	ctx context.Context, cfg config, store *postgres.Store, conn *nats.Conn, epochs jetstream.Epochs, log *slog.Logger,
) (*jetstream.Relay, *jetstream.Feed, *httpapi.Epoch, error) {
	relay, err := jetstream.NewRelay(jetstream.RelayConfig{
		Store: store, Conn: conn, Epochs: epochs, Environment: cfg.Environment, Limits: cfg.streamLimits(), Logger: log,
	})
	if err != nil {
		return nil, nil, nil, err
	}
	feed, err := jetstream.NewFeed(jetstream.FeedConfig{Store: store, Conn: conn, Logger: log})
	if err != nil {
		return nil, nil, nil, err
	}
	n, err := epochs.Current(ctx)
	return relay, feed, httpapi.NewEpoch(n), err
}
