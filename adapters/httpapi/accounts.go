package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/session"
)

// tokenPair answers sign-up, log-in and refresh.
type tokenPair struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // of the access token, in seconds
}

func (s *Server) tokens(c echo.Context, status int, l commands.Login) error {
	now := s.cfg.Now()
	access, expires := s.cfg.Tokens.Access(l.Account, l.Session, now)
	s.wrote(c, l.Position)
	return c.JSON(status, tokenPair{
		AccessToken: access, RefreshToken: s.cfg.Tokens.Refresh(l.Account, l.Session, l.Leaf),
		TokenType: "bearer", ExpiresIn: int(expires.Sub(now) / time.Second),
	})
}

func (s *Server) signUp(c echo.Context) error {
	var code string
	email, password, o, err := s.credentials(c, "signup", s.cfg.Limits.SignUpAddress, s.cfg.Limits.SignUpAccount, field{"invite", &code, true})
	if err != nil {
		return err
	}
	login, err := s.cfg.Accounts.SignUp(c.Request().Context(), o, email, password, code, c.Request().UserAgent())
	if err != nil {
		return err
	}
	return s.tokens(c, http.StatusCreated, login)
}

func (s *Server) logIn(c echo.Context) error {
	email, password, o, err := s.credentials(c, "login", s.cfg.Limits.LoginAddress, s.cfg.Limits.LoginAccount)
	if err != nil {
		return err
	}
	login, err := s.cfg.Accounts.LogIn(c.Request().Context(), o, email, password, c.Request().UserAgent())
	if err != nil {
		return err
	}
	return s.tokens(c, http.StatusOK, login)
}

// credentials reads and counts a try to get in: by address, and by the one form of the e-mail
// address, so that other spellings of it count as the same.
func (s *Server) credentials(c echo.Context, what string, byAddress, byAccount Rate, more ...field) (email, password string, o commands.Origin, err error) {
	if err = readBody(c, append([]field{{name: "email", into: &email}, {name: "password", into: &password}}, more...)...); err != nil {
		return
	}
	if o, err = s.origin(c, Claims{}); err != nil {
		return
	}
	o.CommandID = "" // these are not replayed: a receipt would have to hold the tokens
	addr := clientAddr(c.Request(), s.cfg.TrustedProxies)
	if err = s.ofAddress(c, s.throttle(c, byAddress, what+":address:"+addressKey(addr))); err != nil {
		return
	}
	if normal, bad := commands.NormalEmail(email); bad == nil {
		err = s.throttle(c, byAccount, what+":account:"+s.cfg.Accounts.Blind("throttle", normal))
	}
	return
}

func (s *Server) refresh(c echo.Context) error {
	var token string
	if err := readBody(c, field{name: "refresh_token", into: &token}); err != nil {
		return err
	}
	addr := clientAddr(c.Request(), s.cfg.TrustedProxies)
	if err := s.ofAddress(c, s.throttleHere(s.cfg.Limits.Refresh, "refresh:"+addressKey(addr))); err != nil {
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
	o, err := s.origin(c, Claims{Account: account, Session: id})
	if err != nil {
		return err
	}
	o.CommandID = ""
	login, err := s.cfg.Accounts.Refresh(c.Request().Context(), o, id, tokenID, c.Request().UserAgent())
	if errors.Is(err, session.ErrEnded) {
		s.sessions.Ended(id) // a reused token has just ended it; otherwise it was over before
	}
	if err != nil {
		return err
	}
	return s.tokens(c, http.StatusOK, login)
}

func (s *Server) me(c echo.Context, who Claims) error {
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
