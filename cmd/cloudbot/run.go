package main

import (
	"context"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/crash"
)

// run runs the app until ctx ends or a role fails for good. It calls ready once the server answers /ready.
func (a app) run(ctx context.Context, listener net.Listener, log *slog.Logger, ready func()) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	g, background := errgroup.WithContext(background)
	for _, r := range a.roles {
		g.Go(func() error { return r.keep(background, log) })
	}
	g.Go(func() error {
		defer stopBackground() // the front has drained, so the roles may stop
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		context.AfterFunc(background, stop)
		// Machines and their viewers connect to another replica while requests drain.
		context.AfterFunc(ctx, a.front.drainBridges)
		go a.front.whenReady(ctx, log, ready)
		front := runnerFunc(func(ctx context.Context) error { return a.front.Server.Run(ctx, listener) })
		return role{"front", front}.keep(ctx, log)
	})
	return g.Wait()
}

// whenReady calls ready once commands and queries work.
func (f front) whenReady(ctx context.Context, log *slog.Logger, ready func()) {
	defer crash.Logged(log, "ready")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f.readiness.Report().Ready {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	ready()
}
