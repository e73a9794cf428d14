package httpapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// skippedEvery is how often a stream reports the number of skipped lines.
const skippedEvery = time.Second

// boot streams an instance's boot progress and its machine's log. It waits while there is no machine. The
// stream ends with the instance, and for the reasons that end every event stream.
func (s *Server) boot(c echo.Context, who access.Claims) error {
	id := c.Param("id")
	if !isULID(id) {
		return instance.ErrNotFound
	}
	var from wire.Place
	if text := c.Request().Header.Get("Last-Event-ID"); text != "" {
		var err error
		if from, err = wire.ParsePlace(text); err != nil {
			return badRequest("invalid_position", "Last-Event-ID must be the id of the last line that arrived.")
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

// followBoot combines what the machine sends with the read model's changes of the instance.
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
	skipped := time.NewTicker(skippedEvery)
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
				return // the client reconnects with Last-Event-ID
			}
			if status, over := s.over(ctx, account, i); over {
				_ = out.event("", "end", map[string]instance.Status{"reason": status})
				return
			}
			m.changed()
		}
	}
}

// rows sends the read model's row of the instance, first at the start and then after each of its events. It returns when ctx
// ends or a query fails.
func (s *Server) rows(ctx context.Context, account, id string, rows chan<- projections.Instance) {
	in, leave := s.fan.join(account)
	defer leave()
	seen := int64(0)
	for {
		s.fan.restart(in)
		i, err := s.cfg.Queries.Instance(ctx, account, id)
		if err != nil && !errors.Is(err, instance.ErrNotFound) { // not found: the read model has not reached its request yet
			if ctx.Err() == nil {
				s.cfg.Logger.Warn("boot stream ended", "err", err)
			}
			return
		}
		if i.Position != seen {
			seen = i.Position
			select {
			case rows <- i:
			case <-ctx.Done():
				return
			}
		}
		if !s.happened(ctx, in, "instance/"+id) {
			return
		}
	}
}

// happened waits for an event about a subject. It returns false when ctx ends.
func (s *Server) happened(ctx context.Context, in *inbox, subject string) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-in.ready:
		}
		waiting, lost := s.fan.take(in)
		if lost || slices.ContainsFunc(waiting, func(e sealedEvent) bool { return e.subject == subject }) {
			return true
		}
	}
}

// over reports whether an instance has stopped or ended, and its status. The log decides: a read model that
// is behind may still show an instance as stopped after it was started.
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
