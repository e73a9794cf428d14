package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/assets"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// download is what new machines are told of the assets.
type download struct {
	guests   map[string]string // the guest's sha256 by architecture, of those that there are
	openClaw bool              // there is a package of OpenClaw
}

// downloads knows what new machines are told of the assets without asking anybody, as launches are
// settled where nothing may be waited for: run looks, and what it saw last holds until it sees better.
type downloads struct {
	look func(context.Context) (download, error)
	log  *slog.Logger

	mu   sync.Mutex
	last *download
	err  error     // of the last look
	said time.Time // when the operator was told of it
}

const (
	lookEvery = 15 * time.Second // at most so old is what a launch is told
	sayEvery  = 10 * time.Minute // while it does not work
	lookTime  = 3 * time.Minute  // bounds a look: a guest may have to be read, and copied
)

// known returns what was seen last. Where nothing was yet, asking again later is right.
func (d *downloads) known() (download, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.last != nil:
		return *d.last, nil
	case errors.Is(d.err, errNoGuest): // waiting does not heal it
		return download{}, &machines.CallError{
			Verdict: instance.Never, Code: "no_guest", Reason: "The service has no program for its machines to run; the operator has been told.", Err: d.err,
		}
	case d.err != nil:
		return download{}, d.err
	}
	return download{}, errors.New("the assets are still being looked at")
}

// run looks until ctx ends, at once and then regularly.
func (d *downloads) run(ctx context.Context) error {
	for wait := time.Second; ctx.Err() == nil; {
		if d.refresh(ctx) == nil {
			wait = lookEvery
		} else {
			wait = min(2*wait, lookEvery)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
	return nil
}

func (d *downloads) refresh(ctx context.Context) error {
	looking, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	seen, err := d.look(looking)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); err != nil && (d.err == nil || now.Sub(d.said) >= sayEvery) {
		d.said = now
		if d.last == nil {
			d.log.Error("new machines would find no guest to run, so none is launched", "err", err)
		} else {
			d.log.Warn("the assets cannot be looked at; new machines are told what was there last", "err", err)
		}
	}
	if d.err = err; err == nil {
		d.last = &seen
	}
	return err
}

// lookAt is what downloads looks at. What is seen here is frozen into launches, so each guest is kept for
// whoever comes for it later.
func lookAt(files *assets.Handler) func(context.Context) (download, error) {
	return func(ctx context.Context) (download, error) {
		seen := download{guests: map[string]string{}}
		for _, arch := range []string{"amd64", "arm64"} {
			sum, err := files.Keep(ctx, "cloudbot-guest-linux-"+arch)
			switch {
			case err == nil:
				seen.guests[arch] = sum
			case !errors.Is(err, fs.ErrNotExist):
				return download{}, fmt.Errorf("look for the guest: %w", err)
			}
		}
		if len(seen.guests) == 0 {
			return download{}, errNoGuest
		}
		_, err := files.SHA256(ctx, openClawAsset)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return download{}, fmt.Errorf("look for OpenClaw's package: %w", err)
		}
		seen.openClaw = err == nil
		return seen, nil
	}
}

var errNoGuest = errors.New("there is no guest among the assets: put cloudbot-guest-linux-amd64 into ASSETS_DIR, or beside this program (make guests)")

// openClawAsset is the name of OpenClaw's package among the assets.
const openClawAsset = "openclaw.tgz"
