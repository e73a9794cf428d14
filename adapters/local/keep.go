package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// respawn spaces out the restarts of a machine that does not stay up.
type respawn struct {
	backoff retry.Backoff
	after   time.Time // the next restart may not come earlier
}

// Run keeps the machines up until ctx ends: one whose process died is started again, which to its
// owner is a reboot; one whose control plane died is adopted; a stop or termination that somebody died
// over is finished. It ends with
// Close.
func (c *Cloud) Run(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := c.Tend(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "keeping local machines up", "err", err)
		}
		select {
		case <-ctx.Done():
			return c.Close()
		case <-tick.C:
		}
	}
}

// Close puts the machines of this process to sleep and returns when their processes are gone. The
// ledger still says that they run: the next Run wakes them. Repeating it is harmless.
func (c *Cloud) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := c.each(context.Background(), func(m machine, k known) error {
		if m.Owner != c.self || !k.running() {
			return nil
		}
		return c.end(m)
	})
	c.reaped.Wait()
	return err
}

// Tend does once what Run does again and again.
func (c *Cloud) Tend(ctx context.Context) error { return c.each(ctx, c.keep) }

// each runs f on every machine that left anything, with its lock held, several at once.
func (c *Cloud) each(ctx context.Context, f func(machine, known) error) error {
	ids, err := c.ledger.all()
	if err != nil {
		return err
	}
	errs := make([]error, len(ids))
	var all sync.WaitGroup
	for i, id := range ids {
		if _, err := os.Stat(c.folder(id)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		all.Go(func() {
			errs[i] = c.locked(ctx, id, crash.Guard(func() error {
				k, err := c.ledger.find(id)
				if err != nil {
					return err
				}
				m, err := c.read(id)
				if err != nil {
					return err
				}
				return f(m, k)
			}))
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *Cloud) keep(m machine, k known) error {
	alive, err := c.alive(m.ID)
	if err != nil {
		return err
	}
	switch {
	case k.Terminated:
		return c.erase(m)
	case !k.running():
		if alive {
			return c.end(m)
		}
		return nil
	case alive && m.Owner.alive():
		return nil
	case alive && m.Guest.alive() && m.URL == c.cfg.ControlPlaneURL && (m.User != 0 || c.ledger.users.count == 0):
		return c.adopt(m)
	case !c.mayTry(m.ID):
		return nil
	}
	// Dead; or it should have a user of its own; or it dials a control plane that is gone; or nobody lived to write down who it is.
	if _, err := os.Stat(c.file(m.ID, userDataFile)); errors.Is(err, fs.ErrNotExist) {
		return nil // its launch is half done, and will be repeated
	}
	if err := c.end(m); err != nil {
		return err
	}
	c.log.Info("starting a local machine again", "machine", m.ID)
	return c.ensureRunning(m)
}

func (c *Cloud) adopt(m machine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	m.Owner = c.self
	c.log.Info("adopted a local machine", "machine", m.ID)
	return c.write(m)
}

// mayTry allows a restart immediately, then after 1 s, 2 s … up to 30 s.
func (c *Cloud) mayTry(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	r, now := c.respawns[id], time.Now()
	if now.Before(r.after) {
		return false
	}
	if now.Sub(r.after) > time.Minute {
		r.backoff = retry.Backoff{First: time.Second, Max: 30 * time.Second}
	}
	r.after = now.Add(r.backoff.Next())
	c.respawns[id] = r
	return true
}
