package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os/exec"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

// checksOfLocal are the checks for machines on this computer.
func checksOfLocal(cfg config) []check {
	return []check{
		{"desktop", "note", func(context.Context) (string, error) {
			for _, programs := range [][]string{{"Xvnc"}, {"Xvfb", "x11vnc"}} {
				if installed(programs...) {
					return "real X session: " + strings.Join(programs, ", "), nil
				}
			}
			return "", errors.New("built-in test screen; for a real X session: sudo apt-get install tigervnc-standalone-server openbox tint2 xterm")
		}},
		{"agent", "BAD", func(context.Context) (string, error) {
			a, err := cfg.findAgent()
			if err != nil && cfg.LocalAgent != "" {
				return "", err // serve refuses it, too
			}
			what, wrong := describeAgent(a, err, freeMemory())
			if len(wrong) > 0 {
				return "", degraded{errors.New(strings.Join(append([]string{what}, wrong...), "; "))}
			}
			return what, nil
		}},
		{"guest", "BAD", func(context.Context) (string, error) { return guestProgram() }},
	}
}

// checksOfEC2 are the checks for machines on EC2: what is configured there, and what they download from here.
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
		return checkAssets(ctx, cfg, log, cmp.Or(c.GuestArch(), "amd64"))
	}})
}

// checkAssets returns where machines of an architecture get their guest and OpenClaw from.
func checkAssets(ctx context.Context, cfg config, log *slog.Logger, arch string) (string, error) {
	files, err := openAssets(ctx, cfg, log)
	if err != nil {
		return "", err
	}
	guest := "cloudbot-guest-linux-" + arch
	place, err := files.Where(ctx, guest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no %s, so machines cannot start; put it into ASSETS_DIR or beside this program (make guests)", guest)
	case err != nil:
		return "", fmt.Errorf("ASSETS_DIR cannot be read: %w", err)
	}
	from, err := files.Where(ctx, bootstrap.OpenClawAsset)
	switch {
	case errors.Is(err, fs.ErrNotExist) && cfg.EC2.OpenClawURL != "":
		from = "MOLTBOT_TARBALL_URL"
	case errors.Is(err, fs.ErrNotExist):
		from = "npm"
	case err != nil:
		return "", fmt.Errorf("ASSETS_DIR cannot be read: %w", err)
	}
	return fmt.Sprintf("%s is in %s; OpenClaw is from %s", guest, place, from), nil
}

func installed(programs ...string) bool {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			return false
		}
	}
	return true
}
