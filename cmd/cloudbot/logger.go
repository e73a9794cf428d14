package main

import (
	"log/slog"
	"os"
)

// logger returns a logger to standard error with LOG_LEVEL and LOG_FORMAT. In development the default level is warn, so
// that the server's URL stands out.
func logger(cfg config) *slog.Logger {
	level := slog.LevelInfo
	if cfg.Environment == "development" {
		level = slog.LevelWarn
	}
	if cfg.LogLevel != "" {
		_ = level.UnmarshalText([]byte(cfg.LogLevel)) // config.check validated it
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" || cfg.production() {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
