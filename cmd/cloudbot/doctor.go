package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

func doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs, and say what to do about what is missing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			bad := 0
			for _, c := range checks(cfg) {
				mark, note, err := "ok", "", error(nil)
				if note, err = c.check(cmd.Context()); err != nil {
					mark, note = c.mark, err.Error()
					if mark == "BAD" {
						bad++
					}
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-5s %-14s %s\n", mark, c.name, note)
			}
			if bad > 0 {
				return fmt.Errorf("%d of the things the server needs are missing", bad)
			}
			return nil
		},
	}
}

// check is one of doctor's. mark is what a failure is called: BAD keeps the server from working, "note" does not.
type check struct {
	name  string
	mark  string
	check func(ctx context.Context) (note string, err error)
}

func checks(cfg config) []check {
	return []check{
		{"data folder", "BAD", func(context.Context) (string, error) {
			if err := cfg.makeDataDir(); err != nil {
				return "", err
			}
			probe, err := os.CreateTemp(cfg.DataDir, ".doctor-*")
			if err != nil {
				return "", fmt.Errorf("%s cannot be written: set DATA_DIR to a folder that can", cfg.DataDir)
			}
			return cfg.DataDir, errors.Join(probe.Close(), os.Remove(probe.Name()))
		}},
		{"secrets", "BAD", func(context.Context) (string, error) {
			_, err := loadSecrets(cfg)
			return "long enough and not defaults", err
		}},
		{"Postgres", "BAD", func(ctx context.Context) (string, error) { return checkPostgres(ctx, cfg) }},
		{"NATS", "BAD", func(context.Context) (string, error) {
			if cfg.NATSURL == "" {
				return "in-process", nil
			}
			nc, err := nats.Connect(cfg.NATSURL, nats.Timeout(3*time.Second))
			if err != nil {
				return "", fmt.Errorf("NATS_URL does not answer: %w", err)
			}
			defer nc.Close()
			return nc.ConnectedServerVersion() + " at " + nc.ConnectedUrlRedacted(), nil
		}},
		{"port", "note", func(context.Context) (string, error) {
			if r, ok := readRunning(cfg); ok {
				return "a server of this data folder runs at " + r.URL, nil
			}
			l, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, cfg.Port))
			if err != nil {
				return "", fmt.Errorf("%s:%s is taken: set PORT to another", cfg.Host, cfg.Port)
			}
			return net.JoinHostPort(cfg.Host, cfg.Port) + " is free", l.Close()
		}},
		{"desktop", "note", func(context.Context) (string, error) {
			for _, programs := range [][]string{{"Xvnc"}, {"Xvfb", "x11vnc"}} {
				if installed(programs...) {
					return fmt.Sprintf("a real one: %v", programs), nil
				}
			}
			return "", errors.New("a built-in test screen; for a real one: sudo apt-get install tigervnc-standalone-server openbox xterm x11-xserver-utils")
		}},
		{"guest", "BAD", func(context.Context) (string, error) { return guestProgram() }},
	}
}

func checkPostgres(ctx context.Context, cfg config) (string, error) {
	url := cfg.DatabaseURL
	if url == "" {
		if r, ok := readRunning(cfg); ok {
			url = r.DatabaseURL
		}
	}
	if url == "" {
		started, _, closeIt, err := database(context.WithoutCancel(ctx), cfg, logger(cfg))
		if err != nil {
			return "", err
		}
		defer closeIt()
		url = started
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", fmt.Errorf("DATABASE_URL does not answer: %w", err)
	}
	defer conn.Close(ctx)
	var version string
	if err := conn.QueryRow(ctx, `SHOW server_version`).Scan(&version); err != nil {
		return "", err
	}
	return version, nil
}

func installed(programs ...string) bool {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return false
		}
	}
	return true
}
