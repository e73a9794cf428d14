package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

func doctorCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what the server needs, and say what to do about what is missing",
		Long: `Tries what the server needs with its settings, beside a running server or without one:
programs, folders, database, NATS, and with LOCAL_DEV_MODE=false EC2. It changes
nothing, and ends with an error where the server would not work.`,
		Example: `  cloudbot doctor
  LOCAL_DEV_MODE=false cloudbot doctor         what EC2 needs, too`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			bad := 0
			for _, c := range checks(cmd.Context(), cfg) {
				note, mark := c.do(cmd.Context())
				if mark == "BAD" {
					bad++
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

// checkTime bounds a check. A private Postgres may have to be made for one.
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
		return append(checksOfServer(cfg), checksOfLocal()...)
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
				return "", fmt.Errorf("%s cannot be written: set DATA_DIR to a folder that can", cfg.DataDir)
			}
			return cfg.DataDir, errors.Join(probe.Close(), os.Remove(probe.Name()))
		}},
		{"exposure", "BAD", func(ctx context.Context) (string, error) {
			if cfg.LocalDevMode && cfg.GiveShells {
				return "every account has a shell on this computer, as the settings ask for", cfg.exposed(ctx, os.Geteuid())
			}
			return "strangers get no shell on this computer", cfg.exposed(ctx, os.Geteuid())
		}},
		{"secrets", "BAD", func(context.Context) (string, error) {
			_, err := loadSecrets(cfg)
			return "long enough and not defaults", err
		}},
		{"Postgres", "BAD", func(ctx context.Context) (string, error) { return checkPostgres(ctx, cfg) }},
		{"NATS", "BAD", func(ctx context.Context) (string, error) { return checkOfNATS(ctx, cfg) }},
		{"proxies", "note", func(ctx context.Context) (string, error) { return checkProxies(ctx, cfg) }},
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
	}
}

// checksOfLocal are for machines on this computer.
func checksOfLocal() []check {
	return []check{
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

// checksOfEC2 are for machines on EC2: what is configured over there, and what they download here.
func checksOfEC2(ctx context.Context, cfg config) []check {
	log := logger(cfg)
	c, err := openEC2(ctx, cfg.EC2, cfg.Environment+"-doctor", cfg.PublicURL, nil, log)
	if err != nil {
		return []check{{"EC2", "BAD", func(context.Context) (string, error) { return "", err }}}
	}
	var list []check
	for _, about := range c.Checks() {
		list = append(list, check{about.Name, "BAD", about.Do})
	}
	return append(list, check{"assets", "BAD", func(ctx context.Context) (string, error) {
		return checkAssets(ctx, &parts{cfg: cfg, log: log}, cmp.Or(c.GuestArch(), "amd64"))
	}})
}

// checkAssets tells where machines of an architecture get their guest from, and OpenClaw.
func checkAssets(ctx context.Context, p *parts, arch string) (string, error) {
	files, err := p.assets(ctx)
	if err != nil {
		return "", err
	}
	guest := "cloudbot-guest-linux-" + arch
	place, err := files.Where(ctx, guest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no %s, so machines could not start: put it into ASSETS_DIR, or beside this program (make guests)", guest)
	case err != nil:
		return "", fmt.Errorf("ASSETS_DIR cannot be read: %w", err)
	}
	from, err := files.Where(ctx, bootstrap.OpenClawAsset)
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.cfg.EC2.OpenClawURL != "":
		from = "MOLTBOT_TARBALL_URL"
	case errors.Is(err, fs.ErrNotExist):
		from = "npm"
	case err != nil:
		return "", fmt.Errorf("ASSETS_DIR cannot be read: %w", err)
	}
	return fmt.Sprintf("%s is in %s; OpenClaw is from %s", guest, place, from), nil
}

// checkProxies asks the server that runs on this data folder whether proxies send it requests that
// TRUSTED_PROXIES does not list.
func checkProxies(ctx context.Context, cfg config) (string, error) {
	r, ok := readRunning(cfg)
	if !ok {
		return "no server of this data folder runs that could tell", nil
	}
	text, err := askAdmin(ctx, r, "/proxies")
	if err != nil {
		return "", err
	}
	var seen httpapi.Undeclared
	if err := json.Unmarshal(text, &seen); err != nil {
		return "", fmt.Errorf("ask the server about proxies: %w", err)
	}
	if seen.Requests == 0 {
		return "no request came through a proxy that TRUSTED_PROXIES does not list", nil
	}
	return "", fmt.Errorf("%s came through %s, which TRUSTED_PROXIES does not list: its clients share one address's limits, which refused %d of them",
		plural(int(seen.Requests), "request"), seen.Peer, seen.Limited)
}

func installed(programs ...string) bool {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return false
		}
	}
	return true
}
