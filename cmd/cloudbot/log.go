package main

import (
	"log/slog"
	"os"
)

// logger writes to standard error, as LOG_LEVEL and LOG_FORMAT say. In development it is quiet by
// default, so that a newcomer sees the URL.
func logger(cfg config) *slog.Logger {
	level := slog.LevelInfo
	if cfg.Environment == "development" {
		level = slog.LevelWarn
	}
	if cfg.LogLevel != "" {
		_ = level.UnmarshalText([]byte(cfg.LogLevel)) // config.check has seen it
	}
	opts := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" || cfg.production() {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
