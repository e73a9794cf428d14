package httpapi

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// twenty is a read model with one answer.
type twenty struct {
	readModel
	list []projections.Instance
}

func (q twenty) List(context.Context, string, projections.Page, projections.Period, ...func(*pgx.Batch)) (projections.Listed, error) {
	return projections.Listed{Instances: q.list}, nil
}

// BenchmarkList answers a list of 20 instances. The ratio of front to bare is the front's cost compared with a
// plain Echo handler that returns the same bytes.
func BenchmarkList(b *testing.B) {
	q := twenty{list: make([]projections.Instance, 20)}
	for i := range q.list {
		q.list[i] = projections.Instance{
			ID: "01JZ8Q3M5T9V2X4Y6A8C0E2G4J", Name: "Research", Status: instance.Running, Phase: instance.PhaseReady, Type: "t3.large",
			Region: "eu-central-1", Address: "203.0.113.7", Machine: "i-0123456789abcdef0", CreatedAt: time.Now(), UpdatedAt: time.Now(),
		}
	}
	f := newFront(b, func(c *Config) { c.Queries, c.Logger = q, slog.New(slog.NewTextHandler(io.Discard, nil)) })
	ada := f.signUp("ada@example.com")
	body := f.want(200, call{method: "GET", path: "/api/instances", token: ada.access}).body
	bare := echo.New()
	bare.GET("/api/instances", func(c echo.Context) error { return c.JSONBlob(http.StatusOK, body) })
	for name, h := range map[string]http.Handler{"front": f.server, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					req, _ := http.NewRequest("GET", srv.URL+"/api/instances", nil)
					req.Header.Set("Authorization", "Bearer "+ada.access)
					res, err := client.Do(req)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		})
	}
}
