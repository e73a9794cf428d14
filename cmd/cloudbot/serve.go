package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/migrations"
)

func serveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane: API, bridges, relay, read models and the saga. It brings the
database to its schema first. Any number of replicas may run on one DATABASE_URL
and one NATS_URL. Ctrl-C ends it in order; a second one at once.`,
		Example: `  cloudbot serve                     on http://127.0.0.1:8000
  PORT=9000 DATA_DIR=/tmp/other cloudbot serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg)
		},
	}
}

// serve runs everything until ctx ends or a part fails for good.
func serve(ctx context.Context, cfg config) (err error) {
	log := logger(cfg)
	if err := cfg.exposed(ctx, os.Geteuid()); err != nil {
		return err
	}
	cfg.warnOfShells(log)
	for _, remark := range cfg.remarks(os.Environ()) {
		log.Warn("check the settings: " + remark)
	}
	if err := cfg.makeDataDir(); err != nil {
		return err
	}
	if cfg.DatabaseURL == "" {
		if r, ok := beside(ctx, cfg); ok {
			return fmt.Errorf("CloudBot already runs on this data folder, at %s (process %d); stop it first, or set DATA_DIR and PORT to others", r.URL, r.PID)
		}
	}
	// Before the rest, so that a taken port is said at once.
	listener, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, cfg.Port))
	if err != nil {
		if r, ok := beside(ctx, cfg); ok {
			err = fmt.Errorf("%w (CloudBot runs at %s)", err, r.URL)
		}
		return fmt.Errorf("listen: %w; set HOST or PORT to another", err)
	}
	defer listener.Close()
	admin, err := listenAdmin(cfg, log)
	if err != nil {
		return err
	}
	defer admin.Close()
	url := urlOf(cfg, listener)

	// What is below outlives ctx, so that the parts above can end in order.
	base := context.WithoutCancel(ctx)
	databaseURL, gone, closeDatabase, err := database(base, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDatabase()) }()
	found, err := checkDatabase(ctx, cfg, databaseURL)
	if err != nil {
		return err
	}
	if found.Version > found.Known {
		log.Warn("database schema is a newer program's; run that one again once you can", "schema", found.Version, "known", found.Known)
	}
	if err := migrations.Up(ctx, databaseURL, log); err != nil {
		return err
	}
	advertise, err := cfg.advertise(listener.Addr().(*net.TCPAddr).Port)
	if err != nil {
		return err
	}
	p, err := assemble(base, cfg, log, databaseURL, url, advertise)
	if err != nil {
		return err
	}
	defer p.close()
	p.databaseGone = gone

	me := running{PID: os.Getpid(), URL: url, AdminURL: "http://" + admin.Addr().String()}
	adminToken, made := cfg.adminToken()
	if made {
		me.AdminToken = adminToken
	}
	if cfg.DatabaseURL == "" {
		me.DatabaseURL = databaseURL // of a private socket: no secret
	}
	if err := me.write(cfg); err != nil {
		return err
	}
	defer os.Remove(cfg.runningFile())
	p.adminToken = adminToken
	empty := p.empty(base)
	return p.run(ctx, listener, admin, func() {
		fmt.Printf("CloudBot is ready: %s\n", url)
		if empty {
			sayHowToSignUp(cfg, log)
		}
	})
}

// listenAdmin opens the operators' listener. Where nobody chose its port and the default is taken,
// any other will do.
func listenAdmin(cfg config, log interface{ Info(string, ...any) }) (net.Listener, error) {
	if cfg.AdminAddr != "" {
		l, err := net.Listen("tcp", cfg.AdminAddr)
		if err != nil {
			return nil, fmt.Errorf("listen on ADMIN_ADDR: %w", err)
		}
		return l, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:8001")
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("listen for operators: %w", err)
		}
	}
	log.Info("metrics and profiles", "url", "http://"+l.Addr().String()+"/metrics")
	return l, nil
}

// urlOf is where browsers and machines reach this server.
func urlOf(cfg config, l net.Listener) string {
	if cfg.PublicURL != "" {
		return cfg.PublicURL
	}
	addr := l.Addr().(*net.TCPAddr)
	host := cfg.Host
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// run runs the parts. ready is called once the server answers /ready.
func (p *parts) run(ctx context.Context, listener, admin net.Listener, ready func()) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	g, background := errgroup.WithContext(background)
	for _, part := range p.background() {
		g.Go(func() error { return p.keep(background, part) })
	}
	operators := guardAdmin(p.adminToken, admin.Addr(), p.admin())
	g.Go(func() error {
		return p.keep(background, part{"operators", func(ctx context.Context) error { return serveAdmin(ctx, admin, operators) }})
	})
	g.Go(func() error {
		defer stopBackground() // the front has drained: the rest may go
		front, stop := context.WithCancel(ctx)
		defer stop()
		context.AfterFunc(background, stop)
		// Bridges are told first: their viewers come back to another replica while requests drain.
		context.AfterFunc(front, p.drainBridges)
		go p.whenReady(front, ready)
		return p.keep(front, part{"front", func(ctx context.Context) error { return p.front.Run(ctx, listener) }})
	})
	return g.Wait()
}

// keep runs a part until ctx ends. Its failure, or its panic, ends the server: the front drains, the
// other parts stop, and so do the children.
func (p *parts) keep(ctx context.Context, of part) error {
	err := crash.Guard(func() error { return of.run(ctx) })()
	if bug := crash.Of(err); bug != nil {
		p.log.Error("a part panicked, the server stops", "part", of.name, "panic", bug.Text, "stack", bug.Stack)
	} else if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", of.name, err)
	}
	return nil
}

// whenReady calls ready once commands and queries work.
func (p *parts) whenReady(ctx context.Context, ready func()) {
	defer crash.Logged(p.log, "ready")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.readiness.Report().Ready {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	ready()
}

func serveAdmin(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}
