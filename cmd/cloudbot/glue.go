package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Adapters do not know one another. What follows says to each what another one says.

type presence struct{ *jetstream.Presence }

func (p presence) Lookup(ctx context.Context, instanceID string) (string, error) {
	url, err := p.Presence.Lookup(ctx, instanceID)
	if errors.Is(err, jetstream.ErrNoTunnel) {
		return "", nil
	}
	return url, err
}

// followNews tells this replica's parts what others decided: sessions and instances that ended,
// keys that changed.
func (p *parts) followNews(ctx context.Context) error {
	for ctx.Err() == nil {
		err := p.followFromHead(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if crash.Of(err) != nil {
			return err
		}
		p.log.WarnContext(ctx, "following the log interrupted, will resume", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

func (p *parts) followFromHead(ctx context.Context) error {
	head, err := p.store.Head(ctx)
	if err != nil {
		return err
	}
	// Following ends when the log has lost events that were handed over, with or without NATS.
	if err := p.front.LogChanged(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error {
		// What ended up to here is in the read models, once they have come as far.
		if err := p.progress.Wait(ctx, head); err != nil {
			return err
		}
		return p.front.Preload(ctx)
	}))
	g.Go(crash.Guard(func() error {
		return p.feed.Follow(ctx, head, func(ctx context.Context, events []eventstore.Event) error {
			for _, e := range events {
				p.news(ctx, e)
			}
			return nil
		})
	}))
	return g.Wait()
}

func (p *parts) news(ctx context.Context, e eventstore.Event) {
	switch e.Type {
	case "session.ended":
		p.front.Sessions().Revoke(e.Stream.ID)
	case "account.suspended", "account.resumed":
		p.front.Sessions().Suspended(e.Stream.ID, e.Position, e.Type == "account.suspended")
	case "instance.terminated", "instance.failed":
		p.front.Instances().Revoke(e.Stream.ID)
	case "apikey.stored", "apikey.removed":
		account, _, _ := strings.Cut(e.Stream.ID, "-")
		p.hub.PushKeys(ctx, account)
	}
}

// keyset is the server's secrets, ready to use.
type keyset struct {
	ring   *secrets.Keyring
	tokens *secrets.Tokens
}

// loadSecrets takes the secrets from the environment; what is missing there is, outside
// production, made once and kept in the data folder.
func loadSecrets(cfg config) (keyset, error) {
	access, refresh, encryption := cfg.JWTSecret, cfg.JWTRefreshSecret, cfg.EncryptionKey
	if cfg.production() {
		if err := secrets.CheckProduction(map[string]string{
			"JWT_SECRET_KEY": access, "JWT_REFRESH_SECRET_KEY": refresh, "ENCRYPTION_KEY": encryption,
		}); err != nil {
			return keyset{}, err
		}
		for _, list := range []string{access, refresh, encryption} {
			if cfg.AdminToken != "" && slices.Contains(secrets.SplitKeys(list), cfg.AdminToken) {
				return keyset{}, errors.New("ADMIN_TOKEN is the same as another secret; make one of them with `openssl rand -base64 32`")
			}
		}
	} else {
		made, err := secrets.LoadDev(cfg.DataDir)
		if err != nil {
			return keyset{}, err
		}
		for _, s := range []struct{ given, made *string }{
			{&access, &made.JWTSecret}, {&refresh, &made.JWTRefreshSecret}, {&encryption, &made.EncryptionKey},
		} {
			if *s.given == "" {
				*s.given = *s.made
			}
		}
	}
	ring, err := secrets.NewKeyring(encryption)
	if err != nil {
		return keyset{}, fmt.Errorf("ENCRYPTION_KEY: %w", err)
	}
	tokens, err := secrets.NewTokens(secrets.TokensConfig{AccessKeys: secrets.SplitKeys(access), RefreshKeys: secrets.SplitKeys(refresh)})
	return keyset{ring, tokens}, err
}

// sharedKey is a key that all replicas have and that outlives a change of ENCRYPTION_KEY.
func sharedKey(v *secrets.Vault, purpose string) []byte {
	return []byte(v.Blind(purpose, "1") + v.Blind(purpose, "2"))
}

// guestProgram finds cloudbot-guest beside this program.
func guestProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"cloudbot-guest", "cloudbot-guest-" + runtime.GOOS + "-" + runtime.GOARCH} {
		if path := filepath.Join(dir, name); fileExists(path) {
			return path, nil
		}
	}
	return "", errors.New("cloudbot-guest is not beside this program: run `make build`")
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

var _ projections.Feed = (*jetstream.Feed)(nil)
