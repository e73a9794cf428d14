package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

type typeView struct {
	ID        string  `json:"id"`
	VCPUs     int     `json:"vcpus"`
	MemoryGiB float64 `json:"memory_gib"`
	Summary   string  `json:"summary"`
}

// instanceTypes tells what may be asked for when an instance is created, and how many.
func (s *Server) instanceTypes(c echo.Context, _ Claims) error {
	types := s.cfg.Instances.Cloud.Types()
	views := make([]typeView, len(types))
	for i, t := range types {
		views[i] = typeView{t.ID, t.CPUs, t.GiB(), t.Summary()}
	}
	return c.JSON(http.StatusOK, struct {
		Types        []typeView `json:"types"`
		Default      string     `json:"default"`
		MaxInstances int        `json:"max_instances"`
	}{views, types[0].ID, s.cfg.Instances.Limit})
}
