package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
)

func healthCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "health",
		Short: "Ask the server on this computer whether it answers",
		Long: `Sends GET /health to the server on this computer, at HOST and PORT. It is for health checks
of containers, which have no other program to ask with. It prints "healthy", or exits with
an error if the server does not answer with 200 within 3 seconds. A server that answers is
not always ready: load balancers should ask /ready.`,
		Example: `  cloudbot health
  PORT=9000 cloudbot health
  docker exec cloudbot /app/cloudbot health`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig()
			if err != nil {
				return err
			}
			if err := askHealth(cmd.Context(), cfg); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "healthy")
			return err
		},
	}
}

// healthTime bounds the question: a check that hangs counts as a failure.
const healthTime = 3 * time.Second

func askHealth(ctx context.Context, cfg config) error {
	if cfg.Port == "0" {
		return errors.New("PORT is 0, so the server's port is unknown; set PORT to a fixed port")
	}
	hosts := []string{cfg.Host}
	if ip, err := netip.ParseAddr(cfg.Host); err == nil && ip.IsUnspecified() {
		hosts = []string{"127.0.0.1"}
		if ip.Is6() { // also IPv4; and a container without IPv6 has no ::1
			hosts = []string{"::1", "127.0.0.1"}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	var errs []error
	for _, host := range hosts {
		err := askHealthAt(ctx, "http://"+net.JoinHostPort(host, cfg.Port)+"/health")
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func askHealthAt(ctx context.Context, at string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // without a proxy: the server is on this computer
	res, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("the server does not answer at %s: %w; read its log", at, err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 1<<16)
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s at %s; read its log", res.Status, at)
	}
	return nil
}
