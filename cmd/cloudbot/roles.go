package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/lease"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// runner runs until its context ends, and then returns nil. It may return nil earlier when it has nothing to do.
type runner interface {
	Run(ctx context.Context) error
}

// role is a runner of the server with the name that errors and the log give it.
type role struct {
	name string
	runner
}

// runnerFunc is a function as a runner.
type runnerFunc func(context.Context) error

func (f runnerFunc) Run(ctx context.Context) error { return f(ctx) }

// keep runs a role until ctx ends. If the role fails or panics, the server ends: the front drains, the other roles
// stop, and so do the child processes.
func (r role) keep(ctx context.Context, log *slog.Logger) error {
	err := crash.Guard(func() error { return r.Run(ctx) })()
	if bug := crash.Of(err); bug != nil {
		log.Error("part panicked, server stopping", "part", r.name, "panic", bug.Text, "stack", bug.Stack)
	} else if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	return nil
}

// held runs a runner while this replica holds the lease, and again after it failed.
type held struct {
	lease string
	runner
	leases *lease.Leases
	log    *slog.Logger
}

func (h held) Run(ctx context.Context) error {
	return resumed(ctx, func() error { return h.leases.Hold(ctx, h.lease, h.runner.Run) }, h.log.With("role", h.lease))
}

// resumed runs f again a second after each of its failures, until ctx ends or f panics.
func resumed(ctx context.Context, f func() error, log *slog.Logger) error {
	for ctx.Err() == nil {
		err := f()
		if ctx.Err() != nil {
			return nil
		}
		if crash.Of(err) != nil {
			return err
		}
		log.WarnContext(ctx, "background role interrupted, will resume", "err", err)
		_ = retry.Sleep(ctx, time.Second)
	}
	return nil
}

// together runs all of its runners until one of them fails or all have ended.
type together []runner

func (all together) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range all {
		g.Go(crash.Guard(func() error { return r.Run(ctx) }))
	}
	return g.Wait()
}

// untilDrained runs r until drain is called, which ends draining, or until its own context ends.
func untilDrained(draining context.Context, drain func(), r runner) runner {
	return runnerFunc(func(ctx context.Context) error {
		defer context.AfterFunc(ctx, drain)()
		return r.Run(draining)
	})
}
