package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// The probes are what /ready and doctor try, and serve at its start. Each is for one thing that the
// server has to be able to do, and leaves nothing behind.
//
// Ready means that commands and queries work. NATS may be away: commands are accepted, read models
// follow the log itself, sign-in is limited by each replica alone. What is missing then is said.
// A NATS that can never do its work is another matter: no replica would reach another one's desktops.

// bucketsOfNATS are what replicas share.
type bucketsOfNATS struct {
	limits   *jetstream.Limiter
	presence *jetstream.Presence
}

func (p *parts) buckets() bucketsOfNATS { return bucketsOf(p.conn, p.cfg.NATSReplicas, p.log) }

func bucketsOf(conn *nats.Conn, replicas int, log *slog.Logger) bucketsOfNATS {
	return bucketsOfNATS{
		limits:   jetstream.NewLimiter(jetstream.LimiterConfig{Conn: conn, Replicas: replicas, Logger: log}),
		presence: jetstream.NewPresence(jetstream.PresenceConfig{Conn: conn, Replicas: replicas, Logger: log}),
	}
}

// probes are those of a server that runs.
func (p *parts) probes(shared bucketsOfNATS) []httpapi.Probe {
	stream := jetstream.NewStreamProbe(p.conn, p.store.Head)
	list := append(probesOfPostgres(p.store, p.leases, tickets.Tickets{Pool: p.pool}), probesOfNATS(shared)...)
	return append(list,
		httpapi.Probe{Name: "nats", Try: stream.Publish, Degrades: "NATS does not take messages", Grave: unable},
		httpapi.Probe{Name: "events", Try: stream.Relayed, Degrades: "subscribers get no events for now", Grave: unable},
		httpapi.Probe{Name: "projections", Try: p.caughtUp},
		httpapi.Probe{Name: "read_models", Try: p.readModelsMove(), Degrades: "lists and events do not show the latest changes for now"},
	)
}

func probesOfPostgres(store *postgres.Store, leases *lease.Leases, handed tickets.Tickets) []httpapi.Probe {
	return []httpapi.Probe{
		{Name: "postgres", Try: store.Probe},
		{Name: "leases", Try: leases.Probe, Degrades: "desktops do not start or stop for now"},
		{Name: "tickets", Try: handed.Probe, Degrades: "browsers cannot open desktops and agents for now"},
	}
}

func probesOfNATS(shared bucketsOfNATS) []httpapi.Probe {
	return []httpapi.Probe{
		{Name: "limits", Try: shared.limits.Probe, Degrades: "each replica counts tries to sign in by itself", Grave: unable},
		{Name: "presence", Try: shared.presence.Probe, Degrades: "a desktop is reached only by the replica that its machine is connected to", Grave: unable},
	}
}

// unable tells errors of a NATS that is set up so that it can never do its work.
func unable(err error) bool {
	_, yes := jetstream.Unable(err)
	return yes
}

// caughtUp tells whether the read models are near the head of the log.
func (p *parts) caughtUp(ctx context.Context) error {
	head, err := p.store.Head(ctx)
	if err != nil {
		return err
	}
	if at := p.progress.Position(); head-at > farBehind || at == 0 && head > 0 {
		return fmt.Errorf("the read models are more than %d events behind, or were not begun", farBehind)
	}
	return nil
}

// readModelsMove tells whether the slowest read model makes progress while the log is ahead of it.
func (p *parts) readModelsMove() func(context.Context) error {
	var s standstill
	return func(ctx context.Context) error {
		head, err := p.store.Head(ctx)
		if err != nil {
			return err
		}
		return s.look(time.Now(), p.progress.Position(), head)
	}
}

// farBehind is how many events the read models may be behind: their queries answer for too long ago.
const farBehind = 10_000

// standPatience is how long read models may stand still although there are events for them.
const standPatience = 30 * time.Second

// standstill remembers since when the read models are at one position, with events to come.
type standstill struct {
	at    int64
	since time.Time
}

func (s *standstill) look(now time.Time, at, head int64) error {
	if at != s.at || at >= head || s.since.IsZero() {
		s.at, s.since = at, now
	}
	if now.Sub(s.since) > standPatience {
		return fmt.Errorf("a read model stands at %d since %s, and the log goes on", at, s.since.UTC().Format(time.RFC3339))
	}
	return nil
}

// connectNATS connects to NATS_URL. It may come later: commands are accepted without it, and the relay
// catches up.
func connectNATS(cfg config, log *slog.Logger) (*nats.Conn, error) {
	conn, err := nats.Connect(cfg.NATSURL, nats.Name("cloudbot"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1),
		nats.Timeout(3*time.Second), nats.IgnoreAuthErrorAbort(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Debug("NATS", "err", err) }))
	if err != nil {
		return nil, fmt.Errorf("NATS_URL: %w", err)
	}
	return conn, nil
}

// natsTime bounds the checks of NATS at the start: one that hangs is like one that is away.
const natsTime = 10 * time.Second

// checkNATS tries what the server needs of NATS. An error that is unable is for good.
func checkNATS(ctx context.Context, conn *nats.Conn, replicas int) error {
	ctx, cancel := context.WithTimeout(ctx, natsTime)
	defer cancel()
	err := jetstream.Able(ctx, conn, jetstream.StreamLimits{Replicas: replicas})
	for _, p := range probesOfNATS(bucketsOf(conn, replicas, slog.New(slog.DiscardHandler))) {
		if unable(err) {
			break
		}
		err = errors.Join(err, p.Try(ctx))
	}
	if sentence, yes := jetstream.Unable(err); yes {
		return saying{sentence, err}
	}
	return err
}

// saying is an error that says a sentence in place of its details.
type saying struct {
	sentence string
	error
}

func (s saying) Error() string { return s.sentence }
func (s saying) Unwrap() error { return s.error }
