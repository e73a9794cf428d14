package httpapi

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// eventView is an event as its account sees it.
type eventView struct {
	Position int64           `json:"position"`
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	Type     string          `json:"type"`
	Who      string          `json:"who"` // "you", "system" or "operator"
	Sentence string          `json:"sentence"`
	Data     json.RawMessage `json:"data"`
}

// entries reads a page of events, beginning at a position, in one of the two orders.
type entries func(ctx context.Context, from int64, limit int) ([]projections.Entry, error)

// history lists the events of an instance.
func (s *Server) history(c echo.Context, who access.Claims) error {
	var id string
	return s.pageOfEvents(c, who, "history",
		func(ctx context.Context) error {
			i, err := awaited(ctx, s, who.Account, c.Param("id"), func() (projections.Instance, error) {
				return s.cfg.Queries.Instance(ctx, who.Account, c.Param("id"))
			})
			id = i.ID
			return err
		},
		func(ctx context.Context, after int64, limit int) ([]projections.Entry, error) {
			return s.cfg.Queries.History(ctx, who.Account, id, after, limit)
		},
		func(ctx context.Context, before int64, limit int) ([]projections.Entry, error) {
			return s.cfg.Queries.HistoryBefore(ctx, who.Account, id, before, limit)
		})
}

// accountHistory lists the account's events, without those of its instances.
func (s *Server) accountHistory(c echo.Context, who access.Claims) error {
	return s.pageOfEvents(c, who, "account-history",
		func(context.Context) error { return nil },
		func(ctx context.Context, after int64, limit int) ([]projections.Entry, error) {
			return s.cfg.Queries.AccountHistory(ctx, who.Account, after, limit)
		},
		func(ctx context.Context, before int64, limit int) ([]projections.Entry, error) {
			return s.cfg.Queries.AccountHistoryBefore(ctx, who.Account, before, limit)
		})
}

func (s *Server) pageOfEvents(c echo.Context, who access.Claims, kind string, allowed func(context.Context) error, upwards, downwards entries) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	// Each order has its own kind of cursor.
	from, read := int64(0), upwards
	switch c.QueryParam("order") {
	case "", "asc":
	case "desc":
		kind, from, read = kind+"-desc", math.MaxInt64, downwards
	default:
		return invalid("invalid_order", "The order must be asc (oldest first) or desc (newest first).")
	}
	at, err := pageCursor(c, kind, isPosition)
	if err != nil {
		return err
	}
	if err := s.await(c); err != nil {
		return err
	}
	ctx := c.Request().Context()
	if err := allowed(ctx); err != nil {
		return err
	}
	if at != "" {
		from, _ = strconv.ParseInt(at, 10, 64) // isPosition
	}
	list, err := read(ctx, from, limit+1)
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

func actor(e projections.Entry, who access.Claims) string {
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
