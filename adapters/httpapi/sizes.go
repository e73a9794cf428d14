package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

type typeView struct {
	ID        string  `json:"id"`
	VCPUs     int     `json:"vcpus"`
	MemoryGiB float64 `json:"memory_gib"`
	Summary   string  `json:"summary"`
	InPlan    bool    `json:"in_plan"`
}

// instanceTypes lists the instance types and how many instances an account may have.
func (s *Server) instanceTypes(c echo.Context, who access.Claims) error {
	types := s.cfg.Instances.Cloud.Types()
	usual, limit, included := types[0], s.cfg.Instances.Limit, func(string) bool { return true }
	if s.cfg.Payments != nil {
		now, err := s.cfg.Instances.Overview(c.Request().Context(), who.Account)
		if err != nil {
			return err
		}
		usual, limit = s.cfg.Instances.DefaultType(now.Access), now.Access.Desktops
		included = func(id string) bool { return inPlan(now.Access, id) }
	}
	views := make([]typeView, len(types))
	for i, t := range types {
		views[i] = typeView{t.ID, t.CPUs, t.GiB(), t.Summary(), included(t.ID)}
	}
	return c.JSON(http.StatusOK, struct {
		Types        []typeView `json:"types"`
		Default      string     `json:"default"`
		MaxInstances int        `json:"max_instances"`
	}{views, usual.ID, limit})
}

type spreadView struct {
	P50 int64 `json:"p50_ms"`
	P95 int64 `json:"p95_ms"`
}

type phaseTimeView struct {
	Phase instance.Phase `json:"phase"`
	spreadView
}

type bootTimesView struct {
	Samples int             `json:"samples"`
	Phases  []phaseTimeView `json:"phases"`
	Total   *spreadView     `json:"total"` // null for fewer than projections.FewestBoots samples
}

// bootTimes returns how long boots take, over all accounts.
func (s *Server) bootTimes(c echo.Context, _ access.Claims) error {
	if err := s.await(c); err != nil {
		return err
	}
	times, err := s.cfg.Queries.BootTimes(c.Request().Context(), c.QueryParam("instance_type"))
	if err != nil {
		return err
	}
	views := map[string]bootTimesView{}
	for _, kind := range []string{projections.BootLaunch, projections.BootStart} {
		v := bootTimesView{Samples: times[kind].Samples, Phases: []phaseTimeView{}}
		for _, p := range times[kind].Phases {
			v.Phases = append(v.Phases, phaseTimeView{p.Phase, spreadView(p.Spread)})
			if p.Phase == instance.PhaseReady {
				v.Total = &spreadView{p.P50, p.P95}
			}
		}
		views[kind] = v
	}
	return c.JSON(http.StatusOK, views)
}
