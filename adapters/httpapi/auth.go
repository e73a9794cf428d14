package httpapi

import (
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// maxToken bounds a token before it is parsed, in bytes.
const maxToken = 4096

// handler answers a request of a signed-in user.
type handler func(c echo.Context, who access.Claims) error

// signedIn admits requests with a valid access token, a bounded number of them for each account.
func (s *Server) signedIn(h handler) echo.HandlerFunc {
	return s.following(func(c echo.Context, who access.Claims) error {
		leave, _ := s.inFlight.Take(fair.Claim{Key: share(who), Max: s.cfg.Limits.InFlight})
		if leave == nil {
			return errTooManyAtOnce
		}
		defer leave()
		return h(c, who)
	})
}

// following is signedIn for requests that stay open; they have their own limits.
func (s *Server) following(h handler) echo.HandlerFunc {
	return func(c echo.Context) error {
		who, err := s.bearer(c)
		if err != nil {
			return err
		}
		c.Set(keyAccount, who.Account)
		if err := permitted(c, who); err != nil {
			return err
		}
		return h(c, who)
	}
}

// brakes is signedIn for requests that stop or end something of the account. They have their own share of
// requests and their own budget, which other requests cannot use up. A request that changes nothing is free.
func (s *Server) brakes(h handler) echo.HandlerFunc {
	return s.following(func(c echo.Context, who access.Claims) error {
		leave, _ := s.braking.Take(fair.Claim{Key: share(who), Max: s.cfg.Limits.InFlight})
		if leave == nil {
			return errTooManyAtOnce
		}
		defer leave()
		key := "brake:" + share(who)
		if err := s.throttleHere(s.cfg.Limits.Brake, key); err != nil {
			return err
		}
		err := h(c, who)
		if out := c.Response().Header(); err == nil && (out.Get(headerPosition) == "" || out.Get(headerReplayed) != "") {
			s.local.giveBack(key)
		}
		return err
	})
}

// share returns whose requests in progress a request counts among. Those of API tokens are counted apart, so a
// stolen one cannot keep its owner from revoking it.
func share(who access.Claims) string {
	if who.Grant != nil {
		return who.Account + "/tokens"
	}
	return who.Account
}

// writes is signedIn for requests that change something.
func (s *Server) writes(h handler) echo.HandlerFunc {
	return s.signedIn(func(c echo.Context, who access.Claims) error {
		if err := s.throttleHere(s.cfg.Limits.Write, "write:"+who.Account); err != nil {
			return err
		}
		return h(c, who)
	})
}

// bearer returns the claims of the access token or API token, or errSignIn for every kind of invalid token.
func (s *Server) bearer(c echo.Context) (access.Claims, error) {
	r := c.Request()
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return access.Claims{}, errSignIn
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken {
		return access.Claims{}, errSignIn
	}
	if strings.HasPrefix(token, commands.TokenPrefix) {
		return s.tokenClaims(c, token)
	}
	who, err := s.verified.parse(token, s.cfg.Tokens.ParseAccess)
	if err != nil || who.Account == "" || who.Session == "" || !s.cfg.Now().Before(who.ExpiresAt) || s.sessions.IsRevoked(who.Session, who.Account) {
		return access.Claims{}, errSignIn
	}
	if there, err := s.inLog.check(r.Context(), who.Account, who.Session); err != nil {
		return access.Claims{}, err
	} else if !there {
		return access.Claims{}, errSignIn
	}
	return who, nil
}

// origin returns who sends a command. It refuses an invalid Idempotency-Key.
func (s *Server) origin(c echo.Context, who access.Claims) (commands.Origin, error) {
	r := c.Request()
	o := commands.Origin{
		Account: who.Account, Session: who.Session,
		CorrelationID: requestID(c), ClientAddr: clientAddr(r, s.cfg.TrustedProxies).String(),
	}
	if t := r.Header.Get("Traceparent"); validTraceParent(t) {
		o.TraceParent = t
	}
	switch keys := r.Header.Values("Idempotency-Key"); {
	case len(keys) > 1:
		return o, badRequest("invalid_idempotency_key", "Send only one Idempotency-Key.")
	case len(keys) == 1:
		o.CommandID = keys[0]
		bad := func(b rune) bool { return b <= ' ' || b > '~' }
		if len(keys[0]) == 0 || len(keys[0]) > commands.MaxCommandID || strings.IndexFunc(keys[0], bad) >= 0 {
			return o, badRequest("invalid_idempotency_key", "An Idempotency-Key has 1 to 128 visible ASCII characters and no spaces.")
		}
	}
	return o, nil
}

// validTraceParent reports whether t is version 00 of W3C's traceparent header.
func validTraceParent(t string) bool {
	if len(t) != 55 || t[:3] != "00-" || t[35] != '-' || t[52] != '-' {
		return false
	}
	return strings.IndexFunc(t, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f' || r == '-') }) < 0
}

// isULID reports whether s is a ULID in its canonical spelling.
func isULID(s string) bool {
	if len(s) != 26 || s[0] > '7' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789ABCDEFGHJKMNPQRSTVWXYZ", r) }) < 0
}
