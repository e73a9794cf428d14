package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

func (s *Server) listInstances(c echo.Context, who access.Claims) error {
	limit, err := pageLimit(c)
	if err != nil {
		return err
	}
	before, err := pageCursor(c, "instances", isULID)
	if err != nil {
		return err
	}
	page := projections.Page{Before: before, Limit: limit}
	if who.Grant != nil {
		page.Only = strings.Join(who.Grant.Desktops, " ")
	}
	switch c.QueryParam("include") {
	case "":
	case "terminated":
		page.All = true
	default:
		return invalid("invalid_include", "The value of include must be terminated.")
	}
	if err := s.await(c); err != nil {
		return err
	}
	body, err := s.list(c.Request().Context(), who.Account, page)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderContentLength, strconv.Itoa(len(body)))
	return c.JSONBlob(http.StatusOK, body)
}

// listView is the answer to a list. json writes it.
type listView struct {
	Instances []instanceView `json:"instances"`
	Next      *string        `json:"next_cursor"`
	Quota     quotaView      `json:"quota"`
}

// list returns the answer to a list: one that was made in this second, if nothing has changed since, else a new one.
func (s *Server) list(ctx context.Context, account string, page projections.Page) ([]byte, error) {
	key, now, at := answerKey{account, page}, s.cfg.Now(), s.cfg.Progress.Position()
	kept, clears := s.answers.get(key, now)
	if kept != nil && s.stillTrue(ctx, account, kept) {
		return kept.body, nil
	}
	of := s.seen(account, now)
	l, err := s.cfg.Queries.List(ctx, account, page, of.month, of.queue...)
	if err != nil {
		return nil, err
	}
	limit, err := s.limit(ctx, account)
	if err != nil {
		return nil, err
	}
	views, live := s.show(ctx, of, l)
	body, err := (&listView{views, cursor("instances", l.Next), quotaView{l.Held, limit}}).json()
	if err != nil {
		return nil, err
	}
	if live != nil {
		s.answers.put(key, now, &listAnswer{at: at, live: running(live), body: body}, clears)
	}
	return body, nil
}

// limit returns how many instances an account may have at a time.
func (s *Server) limit(ctx context.Context, account string) (int, error) {
	if s.cfg.Payments == nil {
		return s.cfg.Instances.Limit, nil
	}
	plans, err := s.cfg.Queries.Plans(ctx, account)
	return plans[account].Access.Desktops, err
}

// quotaView is how many instances an account has, and how many it may have at a time.
type quotaView struct {
	Held  int `json:"held"`
	Limit int `json:"limit"`
}

func (s *Server) createInstance(c echo.Context, who access.Claims) error {
	var name, machineType string
	keys := map[string]string{}
	if err := readBody(c, field{name: "name", into: &name, optional: true}, field{name: "instance_type", into: &machineType, optional: true},
		field{name: "api_keys", optional: true, table: keys}); err != nil {
		return err
	}
	if len(keys) > 0 { // they become the account's
		if err := hasScope(who, scopeKeys); err != nil {
			return err
		}
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	if err := s.throttleHere(s.cfg.Limits.Create, "create:"+who.Account); err != nil {
		return err
	}
	out, err := s.cfg.Instances.CreateWithKeys(c.Request().Context(), o, name, machineType, keys)
	if err != nil {
		return err
	}
	s.accepted(c, out.Position, out.Replayed)
	c.Response().Header().Set("Location", "/api/instances/"+out.Answer.ID)
	return c.JSON(http.StatusAccepted, created(out.Answer, name))
}

func (s *Server) getInstance(c echo.Context, who access.Claims) error {
	if err := s.await(c); err != nil {
		return err
	}
	of := s.seen(who.Account, s.cfg.Now())
	l, err := s.find(c.Request().Context(), of, c.Param("id"))
	if err != nil {
		return err
	}
	views, _ := s.show(c.Request().Context(), of, l)
	return c.JSON(http.StatusOK, views[0])
}

func (s *Server) renameInstance(c echo.Context, who access.Claims) error {
	var name string
	if !isULID(c.Param("id")) {
		return instance.ErrNotFound
	}
	if err := readBody(c, field{name: "name", into: &name}); err != nil {
		return err
	}
	out, err := s.change(c, who, func(ctx context.Context, o commands.Origin, id string) (commands.Outcome[commands.Changed], error) {
		return s.cfg.Instances.Rename(ctx, o, id, name)
	})
	if err != nil {
		return err
	}
	return s.changed(c, who, out, func(i *projections.Instance) { i.Name = strings.TrimSpace(name) })
}

// changed answers a command about an instance with the instance. If the read model does not have the command's effect yet,
// effect makes it.
func (s *Server) changed(c echo.Context, who access.Claims, out commands.Outcome[commands.Changed], effect func(*projections.Instance)) error {
	ctx := c.Request().Context()
	fresh := s.cfg.Progress.Position() >= out.Position
	of := s.seen(who.Account, s.cfg.Now())
	l, err := s.find(ctx, of, out.Answer.ID)
	if err != nil {
		return err
	}
	if !fresh {
		effect(&l.Instances[0])
	}
	views, _ := s.show(ctx, of, l)
	return c.JSON(http.StatusOK, views[0])
}

// changeCommand is one of commands.Instances' methods.
type changeCommand func(ctx context.Context, o commands.Origin, id string) (commands.Outcome[commands.Changed], error)

// changing answers a command about an instance with the instance's id and new status.
func (s *Server) changing(command changeCommand) handler {
	return func(c echo.Context, who access.Claims) error {
		if !isULID(c.Param("id")) {
			return instance.ErrNotFound
		}
		if err := readBody(c); err != nil {
			return err
		}
		out, err := s.change(c, who, command)
		if err != nil {
			return err
		}
		return c.JSON(http.StatusAccepted, out.Answer)
	}
}

func (s *Server) change(c echo.Context, who access.Claims, command changeCommand) (commands.Outcome[commands.Changed], error) {
	o, err := s.origin(c, who)
	if err != nil {
		return commands.Outcome[commands.Changed]{}, err
	}
	out, err := command(c.Request().Context(), o, c.Param("id"))
	if err == nil {
		s.accepted(c, out.Position, out.Replayed)
	}
	return out, err
}

// accepted finishes a command and reports in a header whether the answer is a replay.
func (s *Server) accepted(c echo.Context, position int64, replayed bool) {
	s.wrote(c, position)
	if replayed {
		c.Response().Header().Set(headerReplayed, "true")
	}
}
