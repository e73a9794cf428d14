package httpapi

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

const ticketPrefix = "ticket."

// authorizeBridge authenticates a WebSocket request: by ticket, as browsers do, or by bearer token. It reads
// no credentials from the URL.
func (s *Server) authorizeBridge(c echo.Context, kind, id string, program bool) (access.BridgeSession, error) {
	r := c.Request()
	ticket := ""
	for _, p := range offered(r) {
		if t, ok := strings.CutPrefix(p, ticketPrefix); ok {
			if ticket != "" {
				return access.BridgeSession{}, errSignIn
			}
			ticket = t
		}
	}
	switch {
	case r.Header.Get("Authorization") != "" && ticket == "":
		who, err := s.bearer(c)
		if err != nil {
			return access.BridgeSession{}, err
		}
		mode := cmp.Or(c.QueryParam("mode"), access.ModeControl)
		if mode != access.ModeControl && mode != access.ModeView {
			return access.BridgeSession{}, invalid("invalid_mode", "The mode of a bridge must be control or view.")
		}
		if err := mayBridge(who, id, kind, mode); err != nil {
			return access.BridgeSession{}, err
		}
		return access.BridgeSession{Account: who.Account, SessionID: who.Session, Instance: id, Mode: mode, ExpiresAt: who.ExpiresAt}, nil
	case ticket == "" && c.QueryParam("token") != "":
		return access.BridgeSession{}, errTokenInURL // as the original's clients send it
	case ticket == "" || program || len(ticket) > maxToken || s.cfg.Tickets == nil:
		return access.BridgeSession{}, errSignIn
	}
	tallies := s.ticketTallies(clientAddr(r, s.cfg.TrustedProxies), id)
	for _, t := range tallies {
		if err := tooMany(s.local.spent(t.key, t.rate)); err != nil {
			return access.BridgeSession{}, s.ofAddress(c, err)
		}
	}
	t, err := s.cfg.Tickets.Redeem(r.Context(), ticket)
	if err != nil && refused(err).status >= 500 {
		return access.BridgeSession{}, err
	}
	if err != nil || t.Account == "" || t.Instance != id || t.Kind != kind || s.sessions.IsRevoked(t.Session, t.Account) {
		for _, t := range tallies {
			s.local.allow(t.key, t.rate)
		}
		return access.BridgeSession{}, errSignIn
	}
	return s.standing(r.Context(), t)
}

// ticketTallies returns what a refused ticket counts against. A client that keeps sending an invalid ticket
// reaches the limit of its instance first, so other clients behind its address keep theirs.
func (s *Server) ticketTallies(from netip.Addr, id string) []tally {
	narrow := tally{key: s.tallyKey(addressKey("ticket", from) + "|" + id), rate: s.cfg.Limits.TicketInstance}
	return append([]tally{narrow}, s.tallies("ticket", from, s.cfg.Limits.Ticket, true)...)
}

func offered(r *http.Request) []string {
	var all []string
	for p := range strings.SplitSeq(strings.Join(r.Header.Values("Sec-WebSocket-Protocol"), ","), ",") {
		if p = strings.TrimSpace(p); p != "" {
			all = append(all, p)
		}
	}
	return all
}

func wantsWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade") && r.Header.Get("Sec-WebSocket-Key") != ""
}

// withoutCredentials returns a copy of the request for a bridge, which may forward or echo its headers.
func withoutCredentials(r *http.Request) *http.Request {
	clean := r.Clone(r.Context())
	clean.Header.Del("Authorization")
	clean.Header.Del("Cookie")
	clean.Header.Del("Sec-WebSocket-Protocol")
	for _, p := range offered(r) {
		if !strings.HasPrefix(p, ticketPrefix) {
			clean.Header.Add("Sec-WebSocket-Protocol", p)
		}
	}
	return clean
}
