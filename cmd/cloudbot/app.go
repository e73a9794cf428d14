package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/embedded"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// app is the assembled server. Nothing of it runs yet.
type app struct {
	roles []role // what runs beside the front
	front front
	close func() // releases what assemble opened
}

// front is what users and machines reach.
type front struct {
	*httpapi.Server
	readiness    *httpapi.Readiness
	drainBridges func() // moves machines and their viewers to other replicas; to be called when the front begins to stop
	fresh        bool   // the log had no event when it was opened
}

// site is what serve opens before it assembles the server, so that a taken port or an unusable database fails early.
type site struct {
	database   database
	bus        *embedded.NATS // nil: NATS_URL names another one
	admin      net.Listener
	adminToken string // that operators send; "": none
	url        string // where browsers and machines reach this server
	advertise  string // where other replicas reach it
}

// guestPrefix is where machines enrol and dial in; see package wire.
const guestPrefix = "/api/guest/"

// noticeTime is the first part of the grace period: load balancers see that /ready fails. moveTime is the next one, in which
// machines move to other replicas. Their viewers follow, and after it the viewers of other replicas' machines.
func noticeTime(grace time.Duration) time.Duration { return grace / 4 }
func moveTime(grace time.Duration) time.Duration   { return grace / 4 }

// stateBytes bounds the folded states that a server keeps: those of about 50,000 long streams.
const stateBytes = 64 << 20

// assemble builds the server and connects it. Each part gets what it needs from the parts above it.
func assemble(ctx context.Context, cfg config, at site, log *slog.Logger) (_ app, err error) {
	var opened closers
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	pool, store, err := openLog(ctx, at.database.url, log, &opened)
	if err != nil {
		return app{}, err
	}
	leases, err := openLeases(ctx, cfg, pool, log, &opened)
	if err != nil {
		return app{}, err
	}
	conn, err := openNATS(ctx, cfg, at.bus, log, &opened)
	if err != nil {
		return app{}, err
	}

	states := eventstore.NewStates(stateBytes)
	var server *httpapi.Server // what calls it runs after it is made
	keys, vault, err := openVault(ctx, cfg, pool, func(account string) { states.Drop(account); server.Forget(account) })
	if err != nil {
		return app{}, err
	}
	fleet := newFleet(cfg, pool, log)
	events := requirePlans(cfg, newLog(eventstore.Keeping(store, states), sharedKey(vault, "receipt digests"), fleet))
	events.Ceiling = cfg.ceiling()
	reader, progress := newReader(pool, vault)
	audit := commands.NewAudit(events, log)
	apiKeys := &commands.Keys{Log: events, Vault: vault}
	chats := &commands.Chats{Log: events, Vault: vault, Store: secrets.Chats{Pool: pool}}
	used := &activity.Table{Pool: pool, Now: events.Now, Logger: log}
	reports := newReports(cfg, used, log)
	enrolment := secrets.NewEnrolment(keys.ring)
	prices, err := usage.Load(cfg.PricesFile)
	if err != nil {
		return app{}, err
	}
	budgets := &commands.Budgets{Log: events, Prices: prices, Books: books{reader}, Logger: log}

	files, err := openAssets(ctx, cfg, log)
	if err != nil {
		return app{}, err
	}
	cloud, err := openCloud(ctx, cfg, at.url, vault.Blind, files, log)
	if err != nil {
		return app{}, err
	}

	shared := newBuckets(conn, cfg.NATSReplicas, log)
	guests := &commands.Guests{Log: events, APIKeys: apiKeys, Tokens: enrolment, Audit: audit}
	shown := notices{guests: guests, now: time.Now, log: log}
	hub, err := tunnel.New(tunnel.Config{
		Machines: guests, Uses: reports, Standing: shown.standing, Presence: presence{shared.presence}, States: shared.states, Chats: savedChats(cfg, chats),
		Advertise: at.advertise, HopKey: sharedKey(vault, "hops between replicas"), ClientAddr: httpapi.ClientAddr(cfg.trusted),
		Changed: presenceSender{conn, log}.send, Logger: log, Lead: noticeTime(cfg.grace()), Spread: moveTime(cfg.grace()),
		StateChanged: func(account, instanceID string) { server.AgentChanged(account, instanceID) },
	})
	if err != nil {
		return app{}, err
	}
	shown.show = hub.Notice
	bridges := bridge.New(bridge.Config{
		Opener: hub, Spread: cfg.grace(), First: noticeTime(cfg.grace()) + moveTime(cfg.grace()), MaxVNCRate: cfg.VNCRate, MaxVNCRatePerAccount: cfg.VNCAccountRate, Logger: log,
	})
	joining, drain := context.WithCancel(ctx)
	opened.add(drain)

	epochs := jetstream.PostgresEpochs{Pool: pool}
	relay, feed, epoch, err := openStream(ctx, cfg, store, conn, epochs, log)
	if err != nil {
		return app{}, err
	}
	saga := newSaga(events, cloud, enrolment, reader, feed, hub, log)
	metrics := prometheus.NewRegistry()
	parked := registerMetrics(metrics, pool, relay, progress, hub, bridges)
	readiness, err := httpapi.NewReadiness(probes(store, leases, pool, conn, shared, progress), log, metrics)
	if err != nil {
		return app{}, err
	}
	page, err := openDashboard(pool, log)
	if err != nil {
		return app{}, err
	}
	accounts := &commands.Accounts{Log: events, Vault: vault, Passwords: newPasswords(vault), Blind: vault.Blind, Audit: audit, Mode: cfg.signUpMode()}
	paid, err := openPayments(cfg, at.url, events, reader, accounts, log)
	if err != nil {
		return app{}, err
	}
	server, err = httpapi.New(httpapi.Config{
		Accounts:  accounts,
		Instances: &commands.Instances{Log: events, Vault: vault, Cloud: cloud, Limit: cfg.MaxInstances},
		Keys:      apiKeys, Chats: chats, Queries: reader, Progress: progress, Epoch: epoch, Audit: audit, Readiness: readiness, Metrics: metrics, Logger: log,
		Tokens: keys.tokens, Tickets: tickets.Tickets{Pool: pool}, Limiter: shared.limits,
		Idle: &commands.Idle{Log: events, Shortest: cfg.idleShortest()}, Activities: used, Budgets: budgets, Prices: prices, DiskGiB: cfg.diskGiB(),
		Bridges: bridges, Diagnostics: hub, Silent: hub.Silent, AgentState: hub.State, Web: page, Payments: paid.front,
		Mounts:    map[string]http.Handler{guestPrefix: hub.GuestHandler(), tunnel.HopPrefix: hub.HopHandler(), assets.Prefix: files},
		PublicURL: cfg.PublicURL, Origins: fields(cfg.CORSOrigins), TrustedProxies: cfg.trusted, RealIP: cfg.realIP(), HSTS: cfg.production(),
		Grace: cfg.grace(), Environment: cfg.Environment, Version: version,
	})
	if err != nil {
		return app{}, err
	}

	roles := []role{
		{"readiness", readiness},
		{"relay", held{"relay", relay, leases, log}},
		{"saga", held{"saga", withReconciler(saga, cloud.inventory), leases, log}},
		{"machines", cloud},
		{"tunnels", untilDrained(joining, drain, hub)},
		{"bridges", untilDrained(joining, drain, bridges)},
		{"presence", presenceFollower{conn, server}},
		{"agents' states", stateFollower{shared.states, server}},
		{"followed log", follower{store, feed, progress, server, hub, chats.Store, used, shown, log}},
		{"event streams", eventStreams{store, feed, progress, pool, server, log}},
		{"saved chats", chatSweeper{secrets.Chats{Pool: pool}, cfg.KeepChats, log}},
		{"keeper", held{"keeper", newKeeper(cfg, events, used, budgets, log), leases, log}},
		{"activity", together{reports, activitySweeper{used, log}}},
		{"epoch", epochFollower{epochs, epoch, server}},
		{"suspensions", newSuspensions(events, pool, log)},
		{"fleet", fleetCount{fleet, events}},
		{"audit", audit},
		{"dashboard", dashboardKeeper{pool, log}},
		{"private Postgres", at.database},
		{"operators", adminServer{at.admin, guardAdmin(at.adminToken, at.admin.Addr(), adminHandler(server, store, conn, relay))}},
	}
	if at.bus != nil {
		roles = append(roles, role{"private NATS", at.bus})
	}
	roles = append(roles, paid.roles(func(lease string, r runner) runner { return held{lease, r, leases, log} })...)
	roles = append(roles, projectors(pool, store, feed, progress, parked, log)...)
	return app{roles, front{server, readiness, drain, isEmpty(ctx, store)}, opened.close}, nil
}
