package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/adapters/webfiles"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
	"github.com/cloudbot-ai/control-plane/web"
)

// parts is the running system, put together.
type parts struct {
	cfg       config
	log       *slog.Logger
	pool      *postgres.Pool
	leasePool *postgres.Pool // one connection, for the leases
	store     *postgres.Store
	conn      *nats.Conn
	bus       *embedded.NATS // nil with NATS_URL

	leases    *lease.Leases
	relay     *jetstream.Relay
	feed      *jetstream.Feed
	progress  *projections.Progress
	epochs    jetstream.Epochs
	epoch     *httpapi.Epoch // the log's, as this replica knows it
	metrics   *prometheus.Registry
	parked    *prometheus.CounterVec
	cloud     cloud
	saga      *provisioner.Saga
	audit     *commands.Audit
	hub       *tunnel.Hub
	bridge    *bridge.Bridge
	front     *httpapi.Server
	readiness *httpapi.Readiness
	stop      func() // ends the bridges
	bridges   context.Context

	adminToken   string          // that operators send; "": none
	databaseGone <-chan struct{} // closed when a private Postgres ends by itself; nil: not ours
}

// stateBytes bounds the folded states that a server keeps: those of about 50,000 long streams.
const stateBytes = 64 << 20

// part is something that runs as long as the server.
type part struct {
	name string
	run  func(context.Context) error
}

// assemble builds the system and connects it. Nothing of it runs yet.
func assemble(ctx context.Context, cfg config, log *slog.Logger, databaseURL, url, advertise string) (_ *parts, err error) {
	p := &parts{cfg: cfg, log: log, progress: &projections.Progress{}, metrics: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.connect(ctx, databaseURL); err != nil {
		return nil, err
	}
	keys, err := loadSecrets(cfg)
	if err != nil {
		return nil, err
	}
	states := eventstore.NewStates(stateBytes)
	vault, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: p.pool, Keyring: keys.ring, Erased: states.Drop})
	if err != nil {
		return nil, err
	}
	events := newLog(eventstore.Keeping(p.store, states))
	events.DigestKey = sharedKey(vault, "receipt digests")
	events.Fleet = newFleet(cfg, p.pool, log)
	p.audit = commands.NewAudit(events, log)
	enrolment := secrets.NewEnrolment(keys.ring)
	passwords := secrets.NewPasswords(secrets.PasswordsConfig{Key: sharedKey(vault, "long passwords")})

	files, err := p.assets(ctx)
	if err != nil {
		return nil, err
	}
	if p.cloud, err = p.openCloud(ctx, url, vault.Blind, files); err != nil {
		return nil, err
	}
	apiKeys := &commands.Keys{Log: events, Vault: vault}
	desktops := &commands.Instances{Log: events, Vault: vault, Cloud: p.cloud, Limit: cfg.MaxInstances}
	reader := &projections.Reader{Pool: p.pool, Open: vault.Open, NameLabel: commands.NameLabel, AddressLabel: commands.AddressLabel, Progress: p.progress}

	proxies, err := cfg.proxies()
	if err != nil {
		return nil, err
	}
	p.epochs = jetstream.PostgresEpochs{Pool: p.pool}
	epoch, err := p.epochs.Current(ctx)
	if err != nil {
		return nil, err
	}
	p.epoch = httpapi.NewEpoch(epoch)
	shared := p.buckets()
	hub, err := tunnel.New(tunnel.Config{
		Machines:  &commands.Guests{Log: events, APIKeys: apiKeys, Tokens: enrolment, Audit: p.audit},
		Presence:  presence{shared.presence},
		Advertise: advertise,
		HopKey:    sharedKey(vault, "hops between replicas"),
		Logger:    log,

		ClientAddr: httpapi.ClientAddr(proxies),
		Changed:    p.presenceChanged,
	})
	if err != nil {
		return nil, err
	}
	p.hub, p.bridge = hub, bridge.New(bridge.Config{
		Opener: hub, Logger: log, Spread: cfg.grace(), MaxVNCRate: cfg.VNCRate, MaxVNCRatePerAccount: cfg.VNCAccountRate,
	})
	if err := p.stream(reader, events, enrolment, hub); err != nil {
		return nil, err
	}
	if p.readiness, err = httpapi.NewReadiness(p.probes(shared), log, p.metrics); err != nil {
		return nil, err
	}
	p.bridges, p.stop = context.WithCancel(ctx)
	page, err := p.dashboard()
	if err != nil {
		return nil, err
	}
	p.front, err = httpapi.New(httpapi.Config{
		Accounts:       &commands.Accounts{Log: events, Vault: vault, Passwords: passwords, Blind: vault.Blind, Audit: p.audit, Mode: cfg.signUpMode()},
		Instances:      desktops,
		Keys:           apiKeys,
		Queries:        reader,
		Progress:       p.progress,
		Epoch:          p.epoch,
		Tokens:         keys.tokens,
		Audit:          p.audit,
		Logger:         log,
		Tickets:        tickets.Tickets{Pool: p.pool},
		Limiter:        shared.limits,
		Bridges:        p.bridge,
		Diagnostics:    p.hub,
		Silent:         p.hub.Silent,
		Web:            page,
		Mounts:         map[string]http.Handler{guestPrefix: p.hub.GuestHandler(), tunnel.HopPrefix: p.hub.HopHandler(), assets.Prefix: files},
		PublicURL:      cfg.PublicURL,
		Origins:        fields(cfg.CORSOrigins),
		TrustedProxies: proxies,
		Readiness:      p.readiness,
		Grace:          cfg.grace(),
		Metrics:        p.metrics,
		Environment:    cfg.Environment,
		Version:        version,
		HSTS:           cfg.production(),
	})
	return p, err
}

// dashboard serves what was built in; nil where nothing was.
func (p *parts) dashboard() (http.Handler, error) {
	files := web.Built()
	if files == nil {
		return nil, nil
	}
	return web.New(web.Config{Files: files, Earlier: webfiles.Store{Pool: p.pool}, Logger: p.log})
}

// keepDashboard keeps its files for the pages that will be open at the next deploy.
func (p *parts) keepDashboard(ctx context.Context) error {
	if files := web.Built(); files != nil {
		if err := (webfiles.Store{Pool: p.pool}).Put(ctx, files); err != nil && ctx.Err() == nil {
			p.log.Warn("pages open now may break at the next deploy", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}

// newLog is what use cases need of the log. Receipts need a DigestKey besides.
func newLog(store eventstore.Store) commands.Log {
	entropy := ulid.DefaultEntropy() // monotonic, so ids made in one millisecond keep their order
	return commands.Log{
		Store: store,
		NewID: func() string { return ulid.MustNew(ulid.Now(), entropy).String() },
		Now:   func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) },
	}
}

// guestPrefix is where machines enrol and dial in; see package wire.
const guestPrefix = "/api/guest/"

// connect opens Postgres and NATS.
func (p *parts) connect(ctx context.Context, databaseURL string) error {
	var err error
	if p.pool, err = postgres.OpenPool(ctx, databaseURL, p.log); err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	if p.leasePool, err = p.pool.Reserve(ctx, "cloudbot leases"); err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	if p.store, err = postgres.Open(ctx, postgres.Config{Pool: p.pool, Logger: p.log}); err != nil {
		return err
	}
	if p.cfg.NATSURL != "" {
		// It may come later: commands are accepted without it, and the relay catches up.
		if p.conn, err = connectNATS(p.cfg, p.log); err != nil {
			return err
		}
		if err := checkNATS(ctx, p.conn, p.cfg.NATSReplicas); unable(err) {
			return err
		}
	} else {
		p.bus, err = embedded.StartNATS(ctx, embedded.NATSConfig{Dir: p.cfg.dir("nats"), Listen: p.cfg.NATSListen, Logger: p.log})
		if err != nil {
			return err
		}
		if p.conn, err = p.bus.Connect(nats.Name("cloudbot")); err != nil {
			return err
		}
	}
	p.leases = lease.New(lease.Config{Pool: p.leasePool, Logger: p.log})
	if p.cfg.DatabaseURL == "" {
		// A private database has no other user: whoever holds a lease there is dead.
		if err := p.leases.Clear(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stream builds what follows the log: relay, read models' feed and saga. The saga asks the hub.
func (p *parts) stream(reader *projections.Reader, events commands.Log, enrolment machines.Enrolment, hub *tunnel.Hub) (err error) {
	if p.relay, err = jetstream.NewRelay(jetstream.RelayConfig{
		Store: p.store, Conn: p.conn, Epochs: p.epochs, Environment: p.cfg.Environment,
		Limits: jetstream.StreamLimits{Replicas: p.cfg.NATSReplicas}, Logger: p.log,
	}); err != nil {
		return err
	}
	if p.feed, err = jetstream.NewFeed(jetstream.FeedConfig{Store: p.store, Conn: p.conn, Logger: p.log}); err != nil {
		return err
	}
	p.saga = &provisioner.Saga{
		Log: events, Cloud: p.cloud, Tokens: enrolment, Live: reader.Live, Feed: p.feed, Connected: hub.ConnectedAnywhere, Logger: p.log,
		PollEvery: p.cloud.pollEvery, SweepEvery: p.cloud.sweepEvery, Policy: p.cloud.policy, Workers: 8, At: failpoint(),
	}
	p.parked = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "cloudbot_parked_events_total", Help: "Events that a projection could not apply and set aside.",
	}, []string{"projection"})
	p.metrics.MustRegister(p.parked, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("cloudbot_log_relay_lag_events", "Events not yet in JetStream.", func() float64 { return float64(p.relay.Stats().Lag) }),
		gauge("cloudbot_log_epoch", "The stream's epoch.", func() float64 { return float64(p.relay.Stats().Epoch) }),
		gauge("cloudbot_projection_position", "Position of the slowest read model.", func() float64 { return float64(p.progress.Position()) }),
		gauge("cloudbot_parked_events", "Events set aside just now; cloudbot replay --parked retries them.", p.parkedNow),
		gauge("cloudbot_tunnels", "Machines whose tunnel is here.", func() float64 { return float64(hub.Len()) }),
		gauge("cloudbot_bridges", "Open bridges.", func() float64 { return float64(p.bridge.Len()) }),
	)
	return nil
}

// parkedNow counts the parked events, −1 where that cannot be told.
func (p *parts) parkedNow() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n := -1.0
	_ = p.pool.QueryRow(ctx, `SELECT count(*)::float8 FROM read.parked`).Scan(&n)
	return n
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

// background lists what runs beside the front.
func (p *parts) background() []part {
	list := []part{
		{"readiness", p.readiness.Run},
		{"relay", func(ctx context.Context) error { return p.held(ctx, "relay", p.relay.Run) }},
		{"saga", func(ctx context.Context) error { return p.held(ctx, "saga", p.sagaAndReconciler()) }},
		{"tunnels", p.hub.Run},
		{"presence", p.followPresence},
		{"bridges", func(ctx context.Context) error {
			context.AfterFunc(ctx, p.stop)
			return p.bridge.Run(p.bridges)
		}},
		{"news", p.followNews},
		{"epoch", p.followEpoch},
		{"suspensions", newSuspensions(p.saga.Log, p.pool, p.log).Run},
		{"fleet", p.countFleet},
		{"audit", p.audit.Run},
		{"dashboard", p.keepDashboard},
		{"private Postgres", func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return nil
			case <-p.databaseGone:
				return errors.New("it ended by itself; its last words are in postgres.log in its folder")
			}
		}},
	}
	if p.cloud.run != nil {
		list = append(list, part{"machines", p.cloud.run})
	}
	for _, projection := range projections.All() {
		projector := &projections.Projector{
			Projection: projection, Pool: p.pool, Feed: p.feed, Progress: p.progress, Logger: p.log,
			Parked: func(name string) { p.parked.WithLabelValues(name).Inc() },
		}
		list = append(list, part{"projection " + projection.Name, projector.Run})
	}
	return list
}

// held runs f while this replica holds the lease, and again after a failure of f.
func (p *parts) held(ctx context.Context, name string, f func(context.Context) error) error {
	for {
		err := p.leases.Hold(ctx, name, f)
		if ctx.Err() != nil {
			return nil
		}
		if crash.Of(err) != nil {
			return err
		}
		p.log.WarnContext(ctx, "background role interrupted, will resume", "role", name, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (p *parts) drainBridges() { p.stop() }

// runningPath is where a server tells its process's number to the tools beside it.
const runningPath = "/running"

// admin is what operators see: metrics, profiles, and the checker.
func (p *parts) admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", p.front.AdminHandler())
	mux.HandleFunc("GET "+runningPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	mux.HandleFunc("GET /verify", func(w http.ResponseWriter, r *http.Request) {
		counts, err := jetstream.Check(r.Context(), p.store, p.conn)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]int64{
			"epoch": p.relay.Stats().Epoch, "log": counts.Log, "stream": counts.Stream,
			"missing": counts.Missing, "extra": counts.Extra, "different": counts.Different,
		})
	})
	return mux
}

// close releases what assemble opened.
func (p *parts) close() {
	if p.stop != nil {
		p.stop()
	}
	if p.conn != nil {
		p.conn.Close()
	}
	if p.bus != nil {
		_ = p.bus.Close()
	}
	if p.store != nil {
		p.store.Close()
	}
	if p.leasePool != nil {
		p.leasePool.Close()
	}
	if p.pool != nil {
		p.pool.Close()
	}
}
