package main

import (
	"context"
	"log/slog"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// follower follows the log and applies what any replica decided: sessions and instances that ended, API keys that
// changed, and desktops that will stop.
type follower struct {
	store    *postgres.Store
	feed     *jetstream.Feed
	progress *projections.Progress
	front    *httpapi.Server
	hub      *tunnel.Hub
	chats    commands.ChatStore
	activity *activity.Table
	notices  notices
	log      *slog.Logger
}

func (f follower) Run(ctx context.Context) error {
	return resumed(ctx, func() error { return f.followFromHead(ctx) }, f.log.With("role", "follower"))
}

func (f follower) followFromHead(ctx context.Context) error {
	head, err := f.store.Head(ctx)
	if err != nil {
		return err
	}
	// Following ends when the log has lost events that were handed over, with or without NATS.
	if err := f.front.LogChanged(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error {
		// Once the read models have reached head, they hold everything that ended before it.
		if err := f.progress.Wait(ctx, head); err != nil {
			return err
		}
		return f.front.Preload(ctx)
	}))
	g.Go(crash.Guard(func() error {
		return f.feed.Follow(ctx, head, func(ctx context.Context, batch []eventstore.Event) error {
			for _, e := range batch {
				f.apply(ctx, e)
			}
			return nil
		})
	}))
	return g.Wait()
}

// What the follower applies, by the events' names.
var (
	sessionEnded       = session.Codec.Name(session.Ended{})
	tokenRevoked       = token.Codec.Name(token.Revoked{})
	accountSuspended   = account.Codec.Name(account.Suspended{})
	accountResumed     = account.Codec.Name(account.Resumed{})
	instanceEnding     = instance.Codec.Name(instance.TerminationRequested{})
	instanceTerminated = instance.Codec.Name(instance.Terminated{})
	instanceFailed     = instance.Codec.Name(instance.Failed{})
	apikeyStored       = apikey.Codec.Name(apikey.Stored{})
	apikeyRemoved      = apikey.Codec.Name(apikey.Removed{})
)

// apply applies one event to this replica. It needs only the event's name and stream: what a damaged event, or one of
// a newer version, takes away must not stay open.
func (f follower) apply(ctx context.Context, e eventstore.Event) {
	switch e.Type {
	case sessionEnded:
		f.front.Sessions().Revoke(e.Stream.ID)
	case tokenRevoked:
		f.front.Sessions().CloseTokens(e.Stream.ID, revokedToken(e))
	case accountSuspended:
		f.front.Sessions().Suspended(e.Stream.ID, e.Position, true)
	case accountResumed:
		f.front.Sessions().Suspended(e.Stream.ID, e.Position, false)
	case instanceEnding:
		f.dropChats(ctx, e.Stream.ID)
	case instanceTerminated:
		f.dropChats(ctx, e.Stream.ID) // again: they may have been saved meanwhile
		f.dropActivity(ctx, e.Stream.ID)
		f.front.Instances().Revoke(e.Stream.ID)
	case instanceFailed:
		f.dropActivity(ctx, e.Stream.ID)
		f.front.Instances().Revoke(e.Stream.ID)
	case idleWarned, idleExtended, idleWithdrawn, stopRequested:
		f.notices.follow(e)
	case apikeyStored, apikeyRemoved:
		id, _, _ := strings.Cut(e.Stream.ID, "-")
		f.hub.PushKeys(ctx, id)
	}
}

// revokedToken returns the id of the API token that an event revokes, or "" if the event cannot be read.
func revokedToken(e eventstore.Event) string {
	ev, _ := token.Codec.Decode(e.Type, e.Schema, e.Data)
	revoked, _ := ev.(token.Revoked)
	return revoked.ID
}

// dropChats removes the saved chats of an instance; the sweeper retries it.
func (f follower) dropChats(ctx context.Context, id string) {
	if err := f.chats.DropChats(ctx, id); err != nil && ctx.Err() == nil {
		f.log.Warn("dropping saved chats failed, will retry", "instance", id, "err", err)
	}
}

// dropActivity removes what is known of the use of an instance that has ended; the sweeper retries it.
func (f follower) dropActivity(ctx context.Context, id string) {
	if err := f.activity.Drop(ctx, id); err != nil && ctx.Err() == nil {
		f.log.Warn("dropping a desktop's activity failed, will retry", "instance", id, "err", err)
	}
}
