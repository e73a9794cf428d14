package httpapi

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// tokenView is an API token as its owner sees it, without its text.
type tokenView struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Scopes    []token.Scope `json:"scopes"`
	Desktops  []string      `json:"desktops"` // null: all
	CreatedAt time.Time     `json:"created_at"`
	UsedAt    *time.Time    `json:"used_at"`    // null: never
	ExpiresAt *time.Time    `json:"expires_at"` // null: never
	Expired   bool          `json:"expired"`
}

func (s *Server) tokenView(t commands.APIToken) tokenView {
	return tokenView{
		t.ID, t.Name, t.Scopes, t.Desktops, t.At.UTC(), timeOrNull(t.UsedAt), timeOrNull(t.ExpiresAt), !t.Live(s.cfg.Now()),
	}
}

// tokenViews returns the account's tokens, newest first.
func (s *Server) tokenViews(ctx context.Context, account string) ([]tokenView, error) {
	list, err := s.cfg.Accounts.Tokens(ctx, account)
	views := make([]tokenView, len(list))
	for i, t := range list {
		views[len(list)-1-i] = s.tokenView(t)
	}
	return views, err
}

func (s *Server) listTokens(c echo.Context, who access.Claims) error {
	views, err := s.tokenViews(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"tokens": views})
}

func (s *Server) createToken(c echo.Context, who access.Claims) error {
	const unset = math.MinInt64
	var n commands.NewToken
	var scopes []string
	password, days := "", int64(unset)
	if err := readBody(c, field{name: "name", into: &n.Name}, field{name: "scopes", list: &scopes}, field{name: "current_password", into: &password},
		field{name: "desktops", list: &n.Desktops, optional: true}, field{name: "expires_in_days", number: &days, optional: true}); err != nil {
		return err
	}
	if days != unset {
		if days < 1 || days > int64(commands.MaxTokenLife/(24*time.Hour)) {
			return token.ErrExpiry
		}
		n.Life = time.Duration(days) * 24 * time.Hour
	}
	for _, scope := range scopes {
		n.Scopes = append(n.Scopes, token.Scope(scope))
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	if err := s.throttle(c, s.cfg.Limits.Password, "password:"+who.Account); err != nil {
		return err
	}
	ctx := fair.With(c.Request().Context(), fair.Visitor{Known: who.Account, Addr: clientAddr(c.Request(), s.cfg.TrustedProxies)})
	made, text, position, err := s.cfg.Accounts.CreateToken(ctx, o, password, n)
	if err != nil {
		return err
	}
	s.wrote(c, position)
	return c.JSON(http.StatusCreated, struct {
		Token string `json:"token"` // shown only here
		tokenView
	}{text, s.tokenView(made)})
}

func (s *Server) revokeToken(c echo.Context, who access.Claims) error {
	id := c.Param("id")
	if !isULID(id) {
		return token.ErrNotFound
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	position, err := s.cfg.Accounts.RevokeToken(c.Request().Context(), o, id)
	if err != nil {
		return err
	}
	s.sessions.CloseTokens(who.Account, id)
	s.wrote(c, position)
	return c.NoContent(http.StatusNoContent)
}
