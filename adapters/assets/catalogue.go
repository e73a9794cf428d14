package assets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Catalogue knows which assets new machines can download. A launch must not wait for a bucket, so Run
// looks at the assets regularly, and Known returns what it saw last.
type Catalogue struct {
	look   func(context.Context) (bootstrap.Downloads, error)
	logger *slog.Logger

	mu     sync.Mutex
	last   *bootstrap.Downloads // nil: none of the looks succeeded yet
	err    error                // of the last look
	logged time.Time            // when a failure was logged last
}

const (
	lookEvery = 15 * time.Second // the greatest age of what Known returns while looks succeed
	logEvery  = 10 * time.Minute // while looks fail
	lookTime  = 3 * time.Minute  // bounds a look, which may have to read a guest and copy it
)

// NewCatalogue returns the catalogue of files. Run keeps it up to date.
func NewCatalogue(files *Handler, logger *slog.Logger) *Catalogue {
	return &Catalogue{look: files.downloads, logger: logger}
}

// Known returns what the last successful look saw. Before that it returns the last look's error:
// bootstrap.ErrNoGuest where there is no guest; after any other error a later call may succeed.
func (c *Catalogue) Known() (bootstrap.Downloads, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.last != nil:
		return *c.last, nil
	case c.err != nil:
		return bootstrap.Downloads{}, c.err
	}
	return bootstrap.Downloads{}, errors.New("the assets have not been looked at yet")
}

// Run looks at the assets until ctx ends: immediately, and then regularly.
func (c *Catalogue) Run(ctx context.Context) error {
	for backoff := (retry.Backoff{First: 2 * time.Second, Max: lookEvery}); ctx.Err() == nil; {
		if c.refresh(ctx) == nil {
			backoff = retry.Backoff{First: lookEvery}
		}
		_ = backoff.Sleep(ctx)
	}
	return nil
}

func (c *Catalogue) refresh(ctx context.Context) error {
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	seen, err := c.look(looking)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); err != nil && (c.err == nil || now.Sub(c.logged) >= logEvery) {
		c.logged = now
		if c.last == nil {
			c.logger.Error("launches paused: no guest binary available", "err", err)
		} else {
			c.logger.Warn("reading the assets failed; new machines use what was there before", "err", err)
		}
	}
	if c.err = err; err == nil {
		c.last = &seen
	}
	return err
}

// downloads is one look. A launch freezes what is seen here, so each guest is kept: a machine may
// download it much later.
func (h *Handler) downloads(ctx context.Context) (bootstrap.Downloads, error) {
	seen := bootstrap.Downloads{GuestSHA256: map[string]string{}}
	for _, arch := range bootstrap.Architectures {
		sum, err := h.Keep(ctx, "cloudbot-guest-linux-"+arch)
		switch {
		case err == nil:
			seen.GuestSHA256[arch] = sum
		case !errors.Is(err, fs.ErrNotExist):
			return bootstrap.Downloads{}, fmt.Errorf("look for the guest: %w", err)
		}
	}
	if len(seen.GuestSHA256) == 0 {
		return bootstrap.Downloads{}, bootstrap.ErrNoGuest
	}
	_, err := h.SHA256(ctx, bootstrap.OpenClawAsset)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bootstrap.Downloads{}, fmt.Errorf("look for OpenClaw's package: %w", err)
	}
	seen.OpenClaw = err == nil
	return seen, nil
}
