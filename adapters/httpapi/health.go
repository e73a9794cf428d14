package httpapi

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

type healthView struct {
	Status      string            `json:"status"`
	Timestamp   time.Time         `json:"timestamp"`
	Environment string            `json:"environment"`
	Checks      map[string]string `json:"checks,omitempty"`
	Reasons     []string          `json:"reasons,omitempty"`
	Degraded    []string          `json:"degraded,omitempty"`
}

// health answers as long as the process does.
func (s *Server) health(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, healthView{Status: "healthy", Timestamp: s.cfg.Now(), Environment: s.cfg.Environment})
}

// ready reports whether commands and queries work, and which parts do not. It only reads the results of the
// probes, since anyone may call it.
func (s *Server) ready(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	r := s.cfg.Readiness.Report()
	if s.stopping.Load() {
		r.Ready, r.Checks["server"] = false, "draining"
		r.Reasons = append(r.Reasons, "server: Stopping; use another replica.")
	}
	v := healthView{
		Status: "ready", Timestamp: s.cfg.Now(), Environment: s.cfg.Environment,
		Checks: r.Checks, Reasons: r.Reasons, Degraded: r.Degraded,
	}
	if !r.Ready {
		v.Status = "not ready"
		return c.JSON(http.StatusServiceUnavailable, v)
	}
	return c.JSON(http.StatusOK, v)
}
