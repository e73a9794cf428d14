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

// Run keeps the machines running until ctx ends, and then calls Close. It restarts a machine whose process died,
// which its user sees as a reboot. It adopts a machine whose control plane died, and finishes the stops and
// terminations that such a control plane began.
func (c *Cloud) Run(ctx context.Context) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := c.Tend(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "keeping local machines running failed, will retry", "err", err)
		}
		select {
		case <-ctx.Done():
			return c.Close()
		case <-tick.C:
		}
	}
}

// Close ends the processes of this control plane's machines and returns when they are gone. The ledger still says
// that the machines run, so the next Run starts them again. Repeated calls are harmless.
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

// Tend does once what Run does repeatedly.
func (c *Cloud) Tend(ctx context.Context) error { return c.each(ctx, c.keep) }

// each runs f on every machine that has a folder, with its lock held, on all in parallel.
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
	// The guest is dead, should have a user of its own, connects to a control plane that is gone, or was never recorded.
	if _, err := os.Stat(c.file(m.ID, userDataFile)); errors.Is(err, fs.ErrNotExist) {
		return nil // its launch is incomplete, and will be repeated
	}
	if err := c.end(m); err != nil {
		return err
	}
	c.log.Info("local machine restarted", "machine", m.ID)
	return c.ensureRunning(m)
}

func (c *Cloud) adopt(m machine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	m.Owner = c.self
	c.log.Info("local machine adopted", "machine", m.ID)
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
