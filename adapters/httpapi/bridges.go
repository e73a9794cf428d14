package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

func (s *Server) issueTicket(c echo.Context, who access.Claims) error {
	var kind, mode string
	id := c.Param("id")
	if !isULID(id) {
		return instance.ErrNotFound
	}
	if err := readBody(c, field{name: "kind", into: &kind}, field{name: "mode", into: &mode, optional: true}); err != nil {
		return err
	}
	if kind != access.KindVNC && kind != access.KindAgent {
		return invalid("invalid_kind", "The kind of a ticket must be vnc or cloudbot.")
	}
	if mode = cmp.Or(mode, access.ModeControl); mode != access.ModeControl && mode != access.ModeView {
		return invalid("invalid_mode", "The mode of a ticket must be control or view.")
	}
	if err := mayBridge(who, id, kind, mode); err != nil {
		return err
	}
	ctx := c.Request().Context()
	if err := s.reachable(ctx, who.Account, id); err != nil {
		return err
	}
	if s.cfg.Tickets == nil {
		return errNotBuiltIn
	}
	token, expires, err := s.cfg.Tickets.Issue(ctx, access.Ticket{Account: who.Account, Session: who.Session, Instance: id, Kind: kind, Mode: mode})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, struct {
		Ticket    string    `json:"ticket"`
		ExpiresAt time.Time `json:"expires_at"`
	}{token, expires.UTC()})
}

// reachable returns an error unless the account's instance is running. It reads the log, not a read model:
// ownership must not depend on lag.
func (s *Server) reachable(ctx context.Context, account, id string) error {
	if !isULID(id) {
		return instance.ErrNotFound
	}
	i, err := s.cfg.Instances.Find(ctx, account, id)
	if err != nil {
		return err
	}
	switch i.Status {
	case instance.Running:
		if i.Guestless() {
			return errNoGuest
		}
		return nil
	case instance.Launching, instance.Starting:
		return errStarting
	case instance.Stopping, instance.Stopped:
		return errNotRunning
	}
	return instance.ErrGone
}

// bridge authenticates and authorizes a WebSocket request; every refusal comes before the upgrade.
func (s *Server) bridge(kind string) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		id := c.Param("id")
		if !wantsWebSocket(r) {
			return s.wouldOpen(c, kind, id)
		}
		ok, program := s.sameSite(r)
		if !ok {
			return errForeignOrigin
		}
		b, err := s.authorizeBridge(c, kind, id, program)
		if err != nil {
			return err
		}
		c.Set(keyAccount, b.Account)
		if err := s.reachable(r.Context(), b.Account, id); err != nil {
			return err
		}
		if s.cfg.Bridges == nil {
			return errNotBuiltIn
		}
		revoked, release := s.sessions.Watch(b.ExpiresAt.Sub(s.cfg.Now()), b.SessionID, b.Account)
		defer release()
		gone, forget := s.gone.Watch(0, id)
		defer forget()
		select {
		case <-revoked:
			return errSignIn
		default:
		}
		b.Revoked, b.Gone = revoked, gone
		s.metrics.bridges.Inc()
		defer s.metrics.bridges.Dec()
		if kind == access.KindVNC {
			s.cfg.Bridges.ServeVNC(c.Response(), withoutCredentials(r), b)
		} else {
			s.cfg.Bridges.ServeAgent(c.Response(), withoutCredentials(r), b)
		}
		return nil
	}
}
