package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// sweepEvery is how often chats are looked for whose desktops have ended. The follower drops most of them at once.
const sweepEvery = time.Hour

// chatSweeper drops saved chats that are no longer wanted.
type chatSweeper struct {
	store secrets.Chats
	keep  bool
	log   *slog.Logger
}

func (s chatSweeper) Run(ctx context.Context) error {
	sweep := s.store.DropEnded
	if !s.keep {
		sweep = s.store.DropAll
	}
	for {
		if err := sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("dropping saved chats failed, will retry", "err", err)
		}
		if retry.Sleep(ctx, sweepEvery) != nil {
			return nil
		}
	}
}

// savedChats returns the commands as the tunnels use them; nil if no chats are to be kept.
func savedChats(cfg config, c *commands.Chats) tunnel.Chats {
	if !cfg.KeepChats {
		return nil
	}
	return c
}
