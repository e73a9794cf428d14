package httpapi

import (
	"context"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

const (
	diagnosticBytes = 1 << 20
	diagnosticTime  = 20 * time.Second
)

// diagnosticNames are the reports of a guest's diagnostics server.
var diagnosticNames = [...]string{"log", "check", "debug", "testapi"}

// diagnose forwards one report of the instance's machine, as text or JSON of bounded size.
func (s *Server) diagnose(c echo.Context, who access.Claims) error {
	id, name := c.Param("id"), c.Param("report")
	if !slices.Contains(diagnosticNames[:], name) {
		return errNoRoute
	}
	if err := s.reachable(c.Request().Context(), who.Account, id); err != nil {
		return err
	}
	if s.cfg.Diagnostics == nil {
		return errNotBuiltIn
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), diagnosticTime)
	defer cancel()
	answer, err := s.ask(ctx, id, "/"+name)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	s.cfg.Audit.DiagnosticsRead(who.Account, id, name)
	body, err := io.ReadAll(io.LimitReader(answer.Body, diagnosticBytes+1))
	if err != nil {
		return errMachine
	}
	if len(body) > diagnosticBytes {
		body = body[:diagnosticBytes]
		c.Response().Header().Set("Cloudbot-Truncated", "true")
	}
	kind := "text/plain; charset=utf-8"
	if said, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type")); err == nil && said == "application/json" {
		kind = said
	}
	return c.Blob(http.StatusOK, kind, body)
}
