package httpapi

import (
	"context"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	headerPosition = "Cloudbot-Position"
	headerWaitFor  = "Cloudbot-Wait-For"
	headerReplayed = "Idempotency-Replayed"

	maxWait = 2 * time.Second
)

// wrote tells the caller of a command what a query may wait for. 0: it changed nothing.
func wrote(c echo.Context, position int64) {
	if position > 0 {
		c.Response().Header().Set(headerPosition, strconv.FormatInt(position, 10))
	}
}

// await lets a query wait, briefly, for the position its caller names, and says how far the read
// model is. Too late, it answers anyway: the caller sees by the header.
func (s *Server) await(c echo.Context) error {
	if text := c.Request().Header.Get(headerWaitFor); text != "" {
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position < 0 {
			return badRequest("invalid_position", headerWaitFor+" is the number that a command's "+headerPosition+" said.")
		}
		s.waitFor(c.Request().Context(), position)
	}
	// Taken before the query runs: it may find more than this, never less.
	wrote(c, s.cfg.Progress.Position())
	return nil
}

func (s *Server) waitFor(ctx context.Context, position int64) bool {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	return s.cfg.Progress.Wait(ctx, position) == nil
}
