package httpapi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventView is an event as its owner reads it.
type eventView struct {
	Position int64           `json:"position"`
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	Type     string          `json:"type"`
	Who      string          `json:"who"` // "you", "system" or "operator"
	Sentence string          `json:"sentence"`
	Data     json.RawMessage `json:"data"`
}

func (s *Server) history(c echo.Context, who Claims) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	// A cursor is for the order it came from.
	kind, from, read := "history", int64(0), s.cfg.Queries.History
	switch c.QueryParam("order") {
	case "", "asc":
	case "desc":
		kind, from, read = "history-desc", math.MaxInt64, s.cfg.Queries.HistoryBefore
	default:
		return invalid("invalid_order", "An order is asc, oldest first, or desc, newest first.")
	}
	at, err := pageCursor(c, kind, isPosition)
	if err != nil {
		return err
	}
	if err := s.await(c); err != nil {
		return err
	}
	ctx := c.Request().Context()
	i, err := s.find(ctx, who.Account, c.Param("id"))
	if err != nil {
		return err
	}
	if at != "" {
		from, _ = strconv.ParseInt(at, 10, 64) // isPosition
	}
	list, err := read(ctx, who.Account, i.ID, from, limit+1)
	if err != nil {
		return err
	}
	next := ""
	if len(list) > limit {
		list = list[:limit]
		next = strconv.FormatInt(list[limit-1].Position, 10)
	}
	views := make([]eventView, len(list))
	for i, e := range list {
		views[i] = eventView{e.Position, e.EventID, e.Time.UTC(), e.Type, actor(e, who), e.Sentence, orEmpty(e.Data)}
	}
	return c.JSON(http.StatusOK, struct {
		Events []eventView `json:"events"`
		Next   *string     `json:"next_cursor"`
	}{views, cursor(kind, next)})
}

func actor(e projections.Entry, who Claims) string {
	if e.Actor == who.Account {
		return "you"
	}
	if e.Actor == commands.Operator {
		return commands.Operator
	}
	return commands.System
}

func orEmpty(data json.RawMessage) json.RawMessage {
	if len(data) == 0 {
		return json.RawMessage("{}")
	}
	return data
}
