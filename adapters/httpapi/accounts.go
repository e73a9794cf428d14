package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// tokenPair answers sign-up, log-in and refresh.
type tokenPair struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`             // of the access token, in seconds
	DeviceToken  string `json:"device_token,omitempty"` // not of a refresh
}

func (s *Server) tokens(c echo.Context, status int, l commands.Login, device string) error {
	now := s.cfg.Now()
	access, expires := s.cfg.Tokens.Access(l.Account, l.Session, now)
	s.wrote(c, l.Position)
	return c.JSON(status, tokenPair{
		AccessToken: access, RefreshToken: s.cfg.Tokens.Refresh(l.Account, l.Session, l.Leaf),
		TokenType: "bearer", ExpiresIn: int(expires.Sub(now) / time.Second), DeviceToken: device,
	})
}

func (s *Server) signUp(c echo.Context) error {
	var email, password, code string
	if err := readBody(c, field{name: "email", into: &email}, field{name: "password", into: &password}, field{name: "invite", into: &code, optional: true}); err != nil {
		return err
	}
	o, err := s.unsigned(c)
	if err != nil {
		return err
	}
	device, visitor := s.device(c, email, "")
	if err := s.count(c, s.signUpTallies(device, visitor.Addr)); err != nil {
		return err
	}
	login, err := s.cfg.Accounts.SignUp(fair.With(c.Request().Context(), visitor), o, email, password, code, c.Request().UserAgent())
	if err != nil {
		return err
	}
	return s.tokens(c, http.StatusCreated, login, device.token(s.cfg.Accounts.Blind))
}

func (s *Server) logIn(c echo.Context) error {
	var email, password, token string
	if err := readBody(c, field{name: "email", into: &email}, field{name: "password", into: &password}, field{name: "device_token", into: &token, optional: true}); err != nil {
		return err
	}
	o, err := s.unsigned(c)
	if err != nil {
		return err
	}
	device, visitor := s.device(c, email, token)
	// Only log-ins with the right password count against this limit.
	right := s.tallyKey("login:right:" + device.email)
	if err := tooMany(s.local.spent(right, s.cfg.Limits.LoginRight)); err != nil {
		return err
	}
	tallies := s.logInTallies(device, visitor.Addr)
	if err := s.count(c, tallies); err != nil {
		return err
	}
	login, err := s.cfg.Accounts.LogIn(fair.With(c.Request().Context(), visitor), o, email, password, c.Request().UserAgent())
	s.giveBack(c, notAtFault(tallies, err))
	if err != nil {
		return err
	}
	s.local.allow(right, s.cfg.Limits.LoginRight)
	return s.tokens(c, http.StatusOK, login, device.token(s.cfg.Accounts.Blind))
}

// unsigned returns the origin of a sign-up or log-in. These commands are not replayed: a receipt would have
// to hold the tokens.
func (s *Server) unsigned(c echo.Context) (commands.Origin, error) {
	o, err := s.origin(c, access.Claims{})
	o.CommandID = ""
	return o, err
}

func (s *Server) refresh(c echo.Context) error {
	var token string
	if err := readBody(c, field{name: "refresh_token", into: &token}); err != nil {
		return err
	}
	if len(token) > maxToken {
		return session.ErrEnded
	}
	account, id, tokenID, err := s.cfg.Tokens.ParseRefresh(token)
	if err != nil {
		return session.ErrEnded
	}
	c.Set(keyAccount, account)
	// A client that keeps sending an invalid token reaches its session's limit first, so other clients behind
	// its address keep theirs.
	from := addressKey("refresh", clientAddr(c.Request(), s.cfg.TrustedProxies))
	if err := s.throttleHere(s.cfg.Limits.RefreshSession, from+"|"+id); err != nil {
		return err
	}
	if err := s.ofAddress(c, s.throttleHere(s.cfg.Limits.Refresh, from)); err != nil {
		return err
	}
	o, err := s.origin(c, access.Claims{Account: account, Session: id})
	if err != nil {
		return err
	}
	o.CommandID = ""
	login, err := s.cfg.Accounts.Refresh(c.Request().Context(), o, id, tokenID, c.Request().UserAgent())
	if errors.Is(err, session.ErrEnded) {
		s.sessions.Revoke(id) // a reused token has ended it now; otherwise it had ended before
	}
	if err != nil {
		return err
	}
	return s.tokens(c, http.StatusOK, login, "")
}

func (s *Server) me(c echo.Context, who access.Claims) error {
	p, err := s.cfg.Accounts.Profile(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		ID        string    `json:"id"`
		Email     string    `json:"email"`
		CreatedAt time.Time `json:"created_at"`
	}{p.ID, p.Email, p.CreatedAt.UTC()})
}
