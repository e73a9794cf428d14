package httpapi

import (
	"cmp"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
)

// aboutView describes this server to anyone, signed in or not.
type aboutView struct {
	Name    string              `json:"name"`
	Version string              `json:"version"`
	SignUp  commands.SignUpMode `json:"signup"`
	Docs    string              `json:"docs"`
	OpenAPI string              `json:"openapi"`
	Health  string              `json:"health"`
}

func (s *Server) about(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, aboutView{
		Name: "CloudBot control plane", Version: s.cfg.Version, SignUp: cmp.Or(s.cfg.Accounts.Mode, commands.SignUpOpen),
		Docs: "/docs", OpenAPI: "/openapi.json", Health: "/health",
	})
}
