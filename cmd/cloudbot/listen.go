package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
)

// listen opens the listener of users and machines and that of operators. It fails if a server already runs on the
// data folder.
func listen(ctx context.Context, cfg config, log *slog.Logger) (listener, admin net.Listener, err error) {
	if err := cfg.makeDataDir(); err != nil {
		return nil, nil, err
	}
	if cfg.DatabaseURL == "" {
		if r, ok := beside(ctx, cfg); ok {
			return nil, nil, fmt.Errorf("CloudBot already runs on this data folder, at %s (process %d); stop it first, or use another DATA_DIR and PORT", r.URL, r.PID)
		}
	}
	if listener, err = net.Listen("tcp", net.JoinHostPort(cfg.Host, cfg.Port)); err != nil {
		if r, ok := beside(ctx, cfg); ok {
			err = fmt.Errorf("%w (CloudBot runs at %s)", err, r.URL)
		}
		return nil, nil, fmt.Errorf("listen: %w; set HOST or PORT to another", err)
	}
	if admin, err = listenAdmin(cfg, log); err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return listener, admin, nil
}

// listenAdmin opens the operators' listener. Without ADMIN_ADDR it falls back to any free port.
func listenAdmin(cfg config, log *slog.Logger) (net.Listener, error) {
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
	log.Info("operators' listener opened", "url", "http://"+l.Addr().String()+"/metrics")
	return l, nil
}

// urlOf returns the URL at which browsers and machines reach this server.
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
