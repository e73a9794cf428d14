package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
)

// check is one of doctor's. mark names a failure: BAD if the server cannot work with it, "note" if it can.
type check struct {
	name  string
	mark  string
	check func(ctx context.Context) (note string, err error)
}

// checkTime bounds a check. A check may have to create a private Postgres.
const checkTime = time.Minute

func (c check) do(ctx context.Context) (note, mark string) {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	note, err := c.check(ctx)
	var remark ec2.Remark
	var less degraded
	switch {
	case errors.As(err, &remark), errors.As(err, &less):
		return oneLine(err), "note"
	case err != nil:
		return oneLine(err), c.mark
	}
	return note, "ok"
}

func checks(ctx context.Context, cfg config) []check {
	if cfg.LocalDevMode {
		return append(checksOfServer(cfg), checksOfLocal(cfg)...)
	}
	return append(checksOfServer(cfg), checksOfEC2(ctx, cfg)...)
}

func checksOfServer(cfg config) []check {
	return []check{
		{"settings", "note", func(context.Context) (string, error) {
			if said := cfg.remarks(os.Environ()); len(said) > 0 {
				return "", errors.New(strings.Join(said, "; "))
			}
			return "all known", nil
		}},
		{"data folder", "BAD", func(context.Context) (string, error) {
			if err := cfg.makeDataDir(); err != nil {
				return "", err
			}
			probe, err := os.CreateTemp(cfg.DataDir, ".doctor-*")
			if err != nil {
				return "", fmt.Errorf("%s is not writable; set DATA_DIR to a writable folder", cfg.DataDir)
			}
			return cfg.DataDir, errors.Join(probe.Close(), os.Remove(probe.Name()))
		}},
		{"exposure", "BAD", func(ctx context.Context) (string, error) {
			if cfg.LocalDevMode && cfg.GiveShells {
				return "every account has a shell on this computer, as the settings allow", cfg.exposed(ctx, os.Geteuid())
			}
			return "strangers get no shell on this computer", cfg.exposed(ctx, os.Geteuid())
		}},
		{"secrets", "BAD", func(context.Context) (string, error) {
			_, err := loadSecrets(cfg)
			return "long enough and not defaults", err
		}},
		{"Postgres", "BAD", func(ctx context.Context) (string, error) { return checkPostgres(ctx, cfg) }},
		{"NATS", "BAD", func(ctx context.Context) (string, error) { return checkOfNATS(ctx, cfg) }},
		{"Stripe", "BAD", func(ctx context.Context) (string, error) { return checkStripe(ctx, cfg) }},
		{"proxies", "note", func(ctx context.Context) (string, error) { return checkProxies(ctx, cfg) }},
		{"port", "note", func(context.Context) (string, error) {
			if r, ok := readRunning(cfg); ok {
				return "the server on this data folder runs at " + r.URL, nil
			}
			l, err := net.Listen("tcp", net.JoinHostPort(cfg.Host, cfg.Port))
			if err != nil {
				return "", fmt.Errorf("%s:%s is in use; set PORT to another port", cfg.Host, cfg.Port)
			}
			return net.JoinHostPort(cfg.Host, cfg.Port) + " is free", l.Close()
		}},
	}
}

// degraded is an error that leaves the server ready.
type degraded struct{ error }

func (d degraded) Unwrap() error { return d.error }
