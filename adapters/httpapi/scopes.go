package httpapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// scope is what an API token needs for a route.
type scope string

const (
	scopeRead     = scope(token.Read)
	scopeDesktops = scope(token.Desktops)
	scopeChat     = scope(token.Chat)
	scopeKeys     = scope(token.Keys)
	scopeAdmin    = scope(token.Admin)
	anyScope      = scope("any") // the handler checks
)

// keyScope is where a request's context has the scope of its route.
const keyScope = "scope"

var (
	errNeedsLogIn = &refusal{status: 403, code: "log_in_required", detail: "An API token cannot do this; log in."}
	errOneDesktop = &refusal{status: 403, code: "desktop_token", detail: "This API token is for certain desktops only, and this concerns the whole account."}
)

// scoped tells the handlers of a route what an API token needs.
func scoped(needs scope, next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		c.Set(keyScope, needs)
		return next(c)
	}
}

// tokenClaims returns the claims of an API token.
func (s *Server) tokenClaims(c echo.Context, text string) (access.Claims, error) {
	o := commands.Origin{CorrelationID: requestID(c), ClientAddr: clientAddr(c.Request(), s.cfg.TrustedProxies).String()}
	owner, t, err := s.cfg.Accounts.Present(c.Request().Context(), o, text)
	if err != nil {
		return access.Claims{}, orSignIn(err)
	}
	if s.sessions.IsRevoked(owner) {
		return access.Claims{}, errSignIn
	}
	return access.Claims{Account: owner, Session: access.TokenSession(t.ID), ExpiresAt: s.lasts(t), Grant: granted(t)}, nil
}

// lasts returns until when a connection of a token may stay open.
func (s *Server) lasts(t token.Token) time.Time {
	until := s.cfg.Now().Add(s.cfg.TicketLife)
	if !t.ExpiresAt.IsZero() && t.ExpiresAt.Before(until) {
		return t.ExpiresAt
	}
	return until
}

// orSignIn returns errSignIn in place of a refused token, which says nothing about tokens.
func orSignIn(err error) error {
	if refused(err).status == 401 {
		return errSignIn
	}
	return err
}

func granted(t token.Token) *access.Grant {
	g := &access.Grant{Desktops: t.Desktops}
	for _, s := range t.Scopes {
		g.Scopes = append(g.Scopes, string(s))
	}
	return g
}

// permitted refuses what the caller's API token may not do on this route.
func permitted(c echo.Context, who access.Claims) error {
	if who.Grant == nil {
		return nil
	}
	needs, _ := c.Get(keyScope).(scope)
	if needs == "" {
		return errNeedsLogIn
	}
	if needs != anyScope {
		if err := hasScope(who, needs); err != nil {
			return err
		}
	}
	if who.Grant.Desktops == nil {
		return nil
	}
	if strings.HasPrefix(c.Path(), "/api/instances/:id") {
		return seesDesktop(who, c.Param("id"))
	}
	if !slices.Contains(ofDesktops, c.Request().Method+" "+c.Path()) {
		return errOneDesktop
	}
	return nil
}

// ofDesktops are the routes without a desktop's id that a token of certain desktops may use: their answers are about
// these desktops only, or the same for all accounts.
var ofDesktops = []string{
	"GET /api/auth/me", "GET /api/instances", "GET /api/instance-types", "GET /api/boot-times", "GET /api/prices", "GET /api/events",
	"HEAD /api/auth/me", "HEAD /api/instances", "HEAD /api/instance-types", "HEAD /api/boot-times", "HEAD /api/prices",
}

func hasScope(who access.Claims, needs scope) error {
	if who.Grant == nil || slices.Contains(who.Grant.Scopes, string(needs)) {
		return nil
	}
	return &refusal{status: 403, code: "missing_scope", detail: fmt.Sprintf("This API token does not have the scope %q; make one that has it.", needs)}
}

// seesDesktop refuses a desktop that the caller's API token is not for, as if it did not exist.
func seesDesktop(who access.Claims, id string) error {
	if who.Grant == nil || who.Grant.Desktops == nil || slices.Contains(who.Grant.Desktops, id) {
		return nil
	}
	return instance.ErrNotFound
}

// bridgeScope returns what an API token needs for a bridge.
func bridgeScope(kind, mode string) scope {
	switch {
	case kind == access.KindAgent:
		return scopeChat
	case mode == access.ModeView:
		return scopeRead
	}
	return scopeDesktops
}

// mayBridge refuses a bridge that the caller's API token is not for.
func mayBridge(who access.Claims, id, kind, mode string) error {
	if err := seesDesktop(who, id); err != nil {
		return err
	}
	return hasScope(who, bridgeScope(kind, mode))
}

// sees reports which events the caller may follow: with an API token those of its desktops, and those of the account only
// with the scope admin.
func sees(who access.Claims) func(subject string) bool {
	return func(subject string) bool {
		id, ofInstance := strings.CutPrefix(subject, "instance/")
		if ofInstance {
			return seesDesktop(who, id) == nil
		}
		return hasScope(who, scopeAdmin) == nil
	}
}

// known reports whether the log has an account's session, or API token. Tokens that cannot be read count as lost, because an
// error would keep the caller from all other sessions.
func (c Config) known(ctx context.Context, account, session string) (bool, error) {
	id, ofToken := access.TokenOf(session)
	if !ofToken {
		return c.Accounts.Known(ctx, account, session)
	}
	_, err := c.Accounts.Token(ctx, account, id)
	if errors.Is(err, commands.ErrBadToken) || errors.Is(err, eventstore.ErrDamaged) {
		return false, nil
	}
	return err == nil, err
}

// standing returns until when a ticket's session may be used; errSignIn if it has ended.
func (s *Server) standing(ctx context.Context, t access.Ticket) (access.BridgeSession, error) {
	b := access.BridgeSession{
		Account: t.Account, SessionID: t.Session, Instance: t.Instance, Mode: t.Mode, ExpiresAt: s.cfg.Now().Add(s.cfg.TicketLife),
	}
	id, ofToken := access.TokenOf(t.Session)
	if !ofToken {
		return b, nil
	}
	// Log-ins that ended are remembered in memory, for as long as their access tokens last. API tokens last longer.
	k, err := s.cfg.Accounts.Token(ctx, t.Account, id)
	if err != nil {
		return access.BridgeSession{}, orSignIn(err)
	}
	b.ExpiresAt = s.lasts(k)
	return b, nil
}
