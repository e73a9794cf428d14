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

// wrote finishes a command: it sets the command's position in the answer's header and waits until the read
// models reach it. The caller's next query then finds the change at any replica, since all share one Postgres.
// If the read models need longer than maxSettle, a header says that they are behind; the command is recorded
// in any case. "Prefer: respond-async" (RFC 7240) skips the wait. Position 0 means that nothing changed.
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

// respondAsync reports whether the preference respond-async (RFC 7240) is among prefer.
func respondAsync(prefer []string) bool {
	for p := range strings.SplitSeq(strings.Join(prefer, ","), ",") {
		name, _, _ := strings.Cut(p, ";")
		if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
			return true
		}
	}
	return false
}

// await makes a query wait for the position that its caller names, and sets the read model's position in the
// answer's header. After maxWait the query is answered in any case; the caller can compare the header.
func (s *Server) await(c echo.Context) error {
	if text := c.Request().Header.Get(headerWaitFor); text != "" {
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position < 0 {
			return badRequest("invalid_position", headerWaitFor+" must be the number in a command's "+headerPosition+".")
		}
		s.waitFor(c.Request().Context(), position, maxWait)
	}
	// Read before the query runs: the query may find later events, never fewer.
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
