package httpapi

import (
	"context"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	diagnosticBytes = 1 << 20
	diagnosticTime  = 20 * time.Second
)

// diagnosticNames are the reports of a guest's diagnostics server.
var diagnosticNames = [...]string{"log", "check", "debug", "testapi"}

// diagnose passes on one report of the instance's machine. What a machine says is never trusted:
// it is bounded, it is text or JSON, and it cannot send the reader elsewhere.
func (s *Server) diagnose(c echo.Context, who Claims) error {
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
	var dialErr error
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := s.cfg.Diagnostics.Dial(ctx, id)
			dialErr = err
			return conn, err
		},
		DisableKeepAlives:      true,
		DisableCompression:     true, // a small answer must not grow here
		MaxResponseHeaderBytes: 16 << 10,
	}
	defer transport.CloseIdleConnections()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest/"+name, nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(ask) // not a Client: that would follow redirects
	if err != nil {
		s.cfg.Log.Info("no diagnostics", "instance", id, "report", name, "error", err)
		if dialErr != nil {
			return errNoMachine
		}
		return errMachine
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		s.cfg.Log.Info("no diagnostics", "instance", id, "report", name, "status", answer.StatusCode)
		return errMachine
	}
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
