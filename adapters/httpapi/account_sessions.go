package httpapi

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

func (s *Server) logOut(c echo.Context, who access.Claims) error {
	if err := readBody(c); err != nil {
		return err
	}
	return s.endSession(c, who, who.Session, session.LoggedOut)
}

func (s *Server) revokeSession(c echo.Context, who access.Claims) error {
	id := c.Param("id")
	if !isULID(id) {
		return commands.ErrNoSession
	}
	return s.endSession(c, who, id, session.Revoked)
}

func (s *Server) endSession(c echo.Context, who access.Claims, id string, why session.Reason) error {
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	position, err := s.cfg.Accounts.EndSession(c.Request().Context(), o, id, why)
	if err != nil {
		return err
	}
	s.sessions.Revoke(id)
	s.wrote(c, position)
	return c.NoContent(http.StatusNoContent)
}

type sessionView struct {
	ID         string    `json:"id"`
	Agent      string    `json:"agent"`
	ClientAddr string    `json:"client_addr"`
	StartedAt  time.Time `json:"started_at"`
	SeenAt     time.Time `json:"seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Current    bool      `json:"current"`
}

func viewSessions(list []projections.Session, current string) []sessionView {
	views := make([]sessionView, len(list))
	for i, v := range list {
		views[i] = sessionView{v.ID, v.Agent, v.ClientAddr, v.StartedAt.UTC(), v.SeenAt.UTC(), v.ExpiresAt.UTC(), v.ID == current}
	}
	return views
}

func (s *Server) listSessions(c echo.Context, who access.Claims) error {
	if err := s.await(c); err != nil {
		return err
	}
	list, err := s.cfg.Queries.Sessions(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"sessions": viewSessions(list, who.Session)})
}

// maxEndedAtOnce bounds the sessions that a password change ends, so that it fits one append.
const maxEndedAtOnce = 90

func (s *Server) changePassword(c echo.Context, who access.Claims) error {
	var current, next string
	if err := readBody(c, field{name: "current_password", into: &current}, field{name: "new_password", into: &next}); err != nil {
		return err
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	if err := s.throttle(c, s.cfg.Limits.Password, "password:"+who.Account); err != nil {
		return err
	}
	others, err := s.otherSessions(c, who)
	if err != nil {
		return err
	}
	ctx := fair.With(c.Request().Context(), fair.Visitor{Known: who.Account, Addr: clientAddr(c.Request(), s.cfg.TrustedProxies)})
	first := min(len(others), maxEndedAtOnce)
	position, err := s.cfg.Accounts.ChangePassword(ctx, o, current, next, others[:first])
	if err != nil {
		return err
	}
	for _, id := range others[:first] {
		s.sessions.Revoke(id)
	}
	// End the sessions beyond one append, and those that began while the passwords were compared.
	if position, err = s.endOthers(c, who, o, position); err != nil {
		return err
	}
	s.wrote(c, position)
	return c.NoContent(http.StatusNoContent)
}

// endOthers ends the account's other sessions until none is left. It returns the position of the last event.
func (s *Server) endOthers(c echo.Context, who access.Claims, o commands.Origin, position int64) (int64, error) {
	for {
		others, err := s.otherSessions(c, who)
		if err != nil || len(others) == 0 {
			return position, err
		}
		for _, id := range others {
			at, err := s.cfg.Accounts.EndSession(c.Request().Context(), o, id, session.PasswordChanged)
			if err != nil {
				return position, err
			}
			position = max(position, at)
			s.sessions.Revoke(id)
		}
	}
}

// otherSessions lists the account's other sessions. It waits for the read model to reach the log's head:
// otherwise the newest session could be missed and would not end.
func (s *Server) otherSessions(c echo.Context, who access.Claims) ([]string, error) {
	ctx := c.Request().Context()
	head, err := s.cfg.Accounts.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if !s.waitFor(ctx, head, maxWait) {
		return nil, errBehind
	}
	list, err := s.cfg.Queries.Sessions(ctx, who.Account)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, v := range list {
		if v.ID != who.Session {
			others = append(others, v.ID)
		}
	}
	return others, nil
}
