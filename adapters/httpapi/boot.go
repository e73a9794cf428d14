package httpapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/projections"
)

// tellSkipped is how often a stream says that lines were left out.
const tellSkipped = time.Second

// boot streams what an instance's machine says of its boot and its log, and waits where there is no
// machine yet or none any more. It ends with the instance, besides all that ends an event stream.
func (s *Server) boot(c echo.Context, who Claims) error {
	id := c.Param("id")
	if !isULID(id) {
		return instance.ErrNotFound
	}
	var from wire.Place
	if text := c.Request().Header.Get("Last-Event-ID"); text != "" {
		var err error
		if from, err = wire.ParsePlace(text); err != nil {
			return badRequest("invalid_position", "Last-Event-ID is the id of the last line that arrived.")
		}
	}
	i, err := s.cfg.Instances.Find(c.Request().Context(), who.Account, id)
	switch {
	case err != nil:
		return err
	case i.Status == instance.StatusTerminated:
		return instance.ErrGone
	case s.cfg.Diagnostics == nil:
		return errNotBuiltIn
	}
	return s.streaming(c, who, func(ctx context.Context, out *stream) { s.followBoot(ctx, out, who.Account, id, from) })
}

// followBoot brings together what the machine says and what the read model says of the instance.
func (s *Server) followBoot(ctx context.Context, out *stream, account, id string, from wire.Place) {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := newMachine(s, id, from)
	rows := make(chan projections.Instance)
	all.Go(func() { defer crash.Logged(s.cfg.Logger, "boot log"); m.run(ctx) })
	all.Go(func() {
		defer close(rows)
		defer crash.Logged(s.cfg.Logger, "boot rows")
		s.rows(ctx, account, id, rows)
	})
	skipped := time.NewTicker(tellSkipped)
	defer skipped.Stop()
	for err := out.send("retry: %d\n\n", retryMillis()); err == nil; {
		select {
		case <-ctx.Done():
			return
		case <-out.heartbeat.C:
			err = out.send(": still here\n\n")
		case w := <-m.words:
			err = out.event(w.id, w.event, w.data)
		case <-skipped.C:
			if n := m.skipped.Swap(0); n > 0 {
				err = out.event("", "skipped", map[string]int64{"lines": n})
			}
		case i, ok := <-rows:
			if !ok {
				return // the client comes back with Last-Event-ID
			}
			if status, over := s.over(ctx, account, i); over {
				_ = out.event("", "end", map[string]instance.Status{"reason": status})
				return
			}
			m.changed()
		}
	}
}

// rows sends the instance as the read model has it, now and whenever it changed, until ctx ends or the
// read model cannot be asked.
func (s *Server) rows(ctx context.Context, account, id string, rows chan<- projections.Instance) {
	seen, pause := int64(0), minPause
	for {
		_, changed := s.cfg.Progress.Changed()
		i, err := s.cfg.Queries.Instance(ctx, account, id)
		if err != nil && !errors.Is(err, instance.ErrNotFound) { // not found: it was just requested
			if ctx.Err() == nil {
				s.cfg.Logger.Warn("boot stream ended", "err", err)
			}
			return
		}
		if pause = min(2*pause, maxPause); i.Position != seen {
			seen, pause = i.Position, minPause
			select {
			case rows <- i:
			case <-ctx.Done():
				return
			}
		}
		if !sleep(ctx, pause, nil) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// over tells whether nothing more is to be expected of an instance. The log has the last word: a read
// model that is behind still calls stopped what was just started.
func (s *Server) over(ctx context.Context, account string, i projections.Instance) (instance.Status, bool) {
	down := func(status instance.Status) bool {
		return status == instance.Stopped || status == instance.StatusTerminated || status == instance.StatusFailed
	}
	if !down(i.Status) {
		return "", false
	}
	now, err := s.cfg.Instances.Find(ctx, account, i.ID)
	return now.Status, err == nil && down(now.Status)
}

// sleep waits for d, or less where wake says so; false when ctx ended.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}
