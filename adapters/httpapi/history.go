package httpapi

import (
	"encoding/json"
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
	Who      string          `json:"who"` // "you" or "system"
	Sentence string          `json:"sentence"`
	Data     json.RawMessage `json:"data"`
}

func (s *Server) history(c echo.Context, who Claims) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	at, err := pageCursor(c, "history", isPosition)
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
	after, _ := strconv.ParseInt(at, 10, 64) // "": 0
	list, err := s.cfg.Queries.History(ctx, who.Account, i.ID, after, limit+1)
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
	}{views, cursor("history", next)})
}

func actor(e projections.Entry, who Claims) string {
	if e.Actor == who.Account {
		return "you"
	}
	return commands.System
}

func orEmpty(data json.RawMessage) json.RawMessage {
	if len(data) == 0 {
		return json.RawMessage("{}")
	}
	return data
}
