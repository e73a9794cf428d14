package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/cloudbot-ai/control-plane/adapters/webfiles"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/web"
)

// openDashboard serves the dashboard that was built into the program; nil if none was.
func openDashboard(pool *postgres.Pool, log *slog.Logger) (http.Handler, error) {
	files := web.Built()
	if files == nil {
		return nil, nil
	}
	return web.New(web.Config{Files: files, Earlier: webfiles.Store{Pool: pool}, Logger: log})
}

// dashboardKeeper saves the dashboard's files for the pages that are open at the next deploy.
type dashboardKeeper struct {
	pool *postgres.Pool
	log  *slog.Logger
}

func (k dashboardKeeper) Run(ctx context.Context) error {
	files := web.Built()
	if files == nil {
		return nil
	}
	if err := (webfiles.Store{Pool: k.pool}).Put(ctx, files); err != nil && ctx.Err() == nil {
		k.log.Warn("saving dashboard assets failed; open pages may break after the next deploy", "err", err)
	}
	return nil
}
