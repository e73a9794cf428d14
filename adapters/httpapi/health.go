package httpapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	checkTime = time.Second
	checkLife = time.Second // strangers may ask; the parts are not asked more often than this
)

type healthView struct {
	Status      string            `json:"status"`
	Timestamp   time.Time         `json:"timestamp"`
	Environment string            `json:"environment"`
	Checks      map[string]string `json:"checks,omitempty"`
}

// health says that the process answers.
func (s *Server) health(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, healthView{Status: "healthy", Timestamp: s.cfg.Now(), Environment: s.cfg.Environment})
}

// ready says whether all parts are usable, and which is not. Why is in the log.
func (s *Server) ready(c echo.Context) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	v := healthView{Status: "ready", Timestamp: s.cfg.Now(), Environment: s.cfg.Environment, Checks: s.checks()}
	status := http.StatusOK
	if s.stopping.Load() {
		v.Checks["server"] = "draining"
	}
	for _, said := range v.Checks {
		if said != "ok" {
			v.Status, status = "not ready", http.StatusServiceUnavailable
		}
	}
	return c.JSON(status, v)
}

// readiness remembers the last round of checks.
type readiness struct {
	mu   sync.Mutex
	at   time.Time
	said map[string]string
}

func (s *Server) checks() map[string]string {
	s.parts.mu.Lock()
	defer s.parts.mu.Unlock()
	if s.parts.said == nil || time.Since(s.parts.at) >= checkLife {
		s.parts.said, s.parts.at = s.askParts(), time.Now()
	}
	said := make(map[string]string, len(s.parts.said)+1)
	for name, word := range s.parts.said {
		said[name] = word
	}
	return said
}

func (s *Server) askParts() map[string]string {
	ctx, cancel := context.WithTimeout(context.Background(), checkTime)
	defer cancel()
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(s.cfg.Checks))
	said := make(map[string]string, len(s.cfg.Checks))
	for name, check := range s.cfg.Checks {
		said[name] = "no answer"
		go func() { answers <- answer{name, check(ctx)} }()
	}
	for range s.cfg.Checks {
		select {
		case a := <-answers:
			said[a.name] = "ok"
			if a.err != nil {
				said[a.name] = "failed"
				s.cfg.Log.Warn("not ready", "part", a.name, "error", a.err)
			}
		case <-ctx.Done():
			return said // one that ignores its context is not waited for
		}
	}
	return said
}
