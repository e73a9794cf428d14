package httpapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	headerPosition = "Cloudbot-Position"
	headerWaitFor  = "Cloudbot-Wait-For"
	headerBehind   = "Cloudbot-Behind"
	headerReplayed = "Idempotency-Replayed"

	maxWait   = 2 * time.Second // of a query, for the position that its caller names
	maxSettle = time.Second     // of a command, for the read models to have what it wrote
)

// wrote ends a command: it says where the command stands in the log, and waits until the read models
// have it, so that the caller's next query finds what it wrote, at any replica: they share one
// Postgres. Models that take longer than maxSettle are said to be behind; the command is recorded
// all the same. "Prefer: respond-async" (RFC 7240) asks for the answer at once. 0: it changed nothing.
func (s *Server) wrote(c echo.Context, position int64) {
	if position <= 0 {
		return
	}
	h := c.Response().Header()
	h.Set(headerPosition, strconv.FormatInt(position, 10))
	if respondAsync(c.Request().Header.Values("Prefer")) {
		h.Set("Preference-Applied", "respond-async")
		return
	}
	if !s.waitFor(c.Request().Context(), position, maxSettle) {
		h.Set(headerBehind, "true")
	}
}

// respondAsync looks for RFC 7240's preference among others.
func respondAsync(prefer []string) bool {
	for p := range strings.SplitSeq(strings.Join(prefer, ","), ",") {
		name, _, _ := strings.Cut(p, ";")
		if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
			return true
		}
	}
	return false
}

// await lets a query wait, briefly, for the position its caller names, and says how far the read
// model is. Too late, it answers anyway: the caller sees by the header.
func (s *Server) await(c echo.Context) error {
	if text := c.Request().Header.Get(headerWaitFor); text != "" {
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position < 0 {
			return badRequest("invalid_position", headerWaitFor+" is the number that a command's "+headerPosition+" said.")
		}
		s.waitFor(c.Request().Context(), position, maxWait)
	}
	// Taken before the query runs: it may find more than this, never less.
	if at := s.cfg.Progress.Position(); at > 0 {
		c.Response().Header().Set(headerPosition, strconv.FormatInt(at, 10))
	}
	return nil
}

func (s *Server) waitFor(ctx context.Context, position int64, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.cfg.Progress.Wait(ctx, position) == nil
}
