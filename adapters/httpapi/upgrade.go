package httpapi

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// Headers of wouldOpen's request. A script cannot set Origin or Sec-WebSocket-Protocol, and a browser does
// not send Origin with a GET to the page's own site.
const (
	headerOrigin = "Cloudbot-Origin" // the requesting page's origin
	headerTicket = "Cloudbot-Ticket" // the ticket that the socket was opened with; this request does not use it up
)

// wouldOpen answers a plain GET on a socket's path with the problem that an upgrade request would get. A
// browser hides the status of a failed upgrade from the page, so the page sends this request. If an upgrade
// would succeed, the answer shows whether the earlier one arrived.
func (s *Server) wouldOpen(c echo.Context, kind, id string) error {
	r := c.Request()
	if halfAnUpgrade(r) {
		return errUpgradeLost
	}
	if r.Header.Get("Authorization") == "" {
		return errUpgrade
	}
	if origin := r.Header.Get(headerOrigin); origin != "" && !s.allowedOrigin(origin, r.Host) {
		return errForeignOrigin
	}
	if ok, _ := s.sameSite(r); !ok {
		return errForeignOrigin
	}
	who, err := s.bearer(c)
	if err != nil {
		return err
	}
	if err := mayBridge(who, id, kind, cmp.Or(c.QueryParam("mode"), access.ModeControl)); err != nil {
		return err
	}
	if err := s.throttleHere(s.cfg.Limits.Ticket, "socket:"+who.Account); err != nil {
		return err
	}
	if err := s.reachable(r.Context(), who.Account, id); err != nil {
		return err
	}
	if s.cfg.Bridges == nil || s.cfg.Tickets == nil {
		return errNotBuiltIn
	}
	unused := false
	if ticket := r.Header.Get(headerTicket); ticket != "" && len(ticket) <= maxToken {
		t, err := s.cfg.Tickets.Peek(r.Context(), ticket)
		if err != nil && refused(err).status >= 500 {
			return err
		}
		unused = err == nil && t.Account == who.Account && t.Instance == id && t.Kind == kind
	}
	session := access.BridgeSession{Account: who.Account, SessionID: who.Session, Instance: id, Mode: access.ModeControl, ExpiresAt: who.ExpiresAt}
	if !s.cfg.Bridges.Check(c.Response(), withoutCredentials(r), kind, session) {
		return nil // it answered
	}
	if unused {
		return errUpgradeLost
	}
	return errUpgrade
}

// halfAnUpgrade reports whether a request asked for a WebSocket before a proxy removed its hop-by-hop headers.
func halfAnUpgrade(r *http.Request) bool {
	if r.Header.Get("Sec-WebSocket-Key") != "" || r.Header.Get("Sec-WebSocket-Version") != "" {
		return true
	}
	for _, p := range offered(r) {
		if strings.HasPrefix(p, ticketPrefix) {
			return true
		}
	}
	return false
}
