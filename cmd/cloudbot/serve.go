package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"
)

func serveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the control plane",
		Long: `Runs the control plane: the API, the bridges to desktops, the relay to NATS, the read
models and the provisioning saga. First it migrates the database to this version's
schema. Any number of replicas may share one DATABASE_URL and one NATS_URL. Ctrl-C
stops the server cleanly; a second Ctrl-C stops it immediately.`,
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

// serve runs the server until ctx ends or a role fails for good.
func serve(ctx context.Context, cfg config) (err error) {
	log := logger(cfg)
	if err := cfg.exposed(ctx, os.Geteuid()); err != nil {
		return err
	}
	cfg.warnOfShells(log)
	for _, remark := range cfg.remarks(os.Environ()) {
		log.Warn("check the settings: " + remark)
	}
	// The listeners come before the rest, so that a taken port is reported immediately.
	listener, admin, err := listen(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer listener.Close()
	defer admin.Close()

	// What is opened here outlives ctx, so that the parts can end in order.
	base := context.WithoutCancel(ctx)
	bus, err := launchNATS(base, cfg, log)
	if err != nil {
		return err
	}
	if bus != nil {
		defer bus.Close()
	}
	db, err := openDatabase(base, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.close()) }()
	if err := db.migrate(ctx, cfg, log); err != nil {
		return err
	}
	here := site{database: db, bus: bus, admin: admin, url: urlOf(cfg, listener)}
	if here.advertise, err = cfg.advertise(listener.Addr().(*net.TCPAddr).Port); err != nil {
		return err
	}
	me := running{PID: os.Getpid(), URL: here.url, AdminURL: "http://" + admin.Addr().String()}
	made := false
	if here.adminToken, made = cfg.adminToken(); made {
		me.AdminToken = here.adminToken
	}
	if cfg.DatabaseURL == "" {
		me.DatabaseURL = db.url // of a private socket: no secret
	}
	a, err := assemble(base, cfg, here, log)
	if err != nil {
		return err
	}
	defer a.close()
	if err := me.write(cfg); err != nil {
		return err
	}
	defer os.Remove(cfg.runningFile())
	return a.run(ctx, listener, log, func() {
		fmt.Printf("CloudBot is ready: %s\n", here.url)
		cfg.sayAgent()
		if a.front.fresh {
			sayHowToSignUp(cfg, log)
		}
		if err := tellSystemd(); err != nil {
			log.Warn("telling systemd failed", "err", err)
		}
	})
}
