package httpapi

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudbot-ai/control-plane/internal/problem"
)

// Keys of what travels with a request.
const (
	keyRequestID = "request_id"
	keyAccount   = "account"
	keyPath      = "path"
)

func requestID(c echo.Context) string {
	id, _ := c.Get(keyRequestID).(string)
	return id
}

// requestPath is the path as it was sent.
func requestPath(c echo.Context) string {
	path, _ := c.Get(keyPath).(string)
	return path
}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	streams  prometheus.Gauge
	bridges  prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(r *prometheus.Registry) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudbot_http_requests_total", Help: "Requests answered, by route template.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudbot_http_request_duration_seconds", Help: "Time to answer; event streams and bridges left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "cloudbot_http_in_flight", Help: "Requests being answered, streams and bridges included."}),
		streams:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "cloudbot_http_event_streams", Help: "Open event streams."}),
		bridges:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "cloudbot_http_bridges", Help: "Open WebSocket bridges."}),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Name: "cloudbot_http_panics_total", Help: "Requests that hit a bug."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.streams, m.bridges, m.panics} {
		if err := r.Register(c); err != nil {
			return m, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// observe gives each request its ID, then counts and logs it: never a query, a header or a body.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		id := c.Request().Header.Get(problem.Header)
		if !problem.ValidRequestID(id) {
			id = s.cfg.NewID()
		}
		c.Set(keyRequestID, id)
		c.Response().Header().Set(problem.Header, id)
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			s.note(c, time.Since(began))
		}()
		if err := next(c); err != nil {
			c.Error(err)
		}
		return nil
	}
}

func (s *Server) note(c echo.Context, took time.Duration) {
	route, method, status := c.Path(), c.Request().Method, c.Response().Status
	if route == "" || status == http.StatusNotFound && !s.known[route] {
		route = "unmatched"
	}
	if !methods[method] {
		method = "other" // a client must not invent labels
	}
	s.metrics.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	if !s.long[route] {
		s.metrics.duration.WithLabelValues(method, route).Observe(took.Seconds())
	}
	account, _ := c.Get(keyAccount).(string)
	s.cfg.Logger.Info("http", "method", method, "route", route, "status", status, "took", took,
		"bytes", c.Response().Size, "request_id", requestID(c), "account", account,
		"client", clientAddr(c.Request(), s.cfg.TrustedProxies).String())
}

var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true,
	http.MethodPatch: true, http.MethodDelete: true, http.MethodOptions: true,
}

// recover turns a panic into an answer, or closes the connection if the answer has begun.
func (s *Server) recover(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.metrics.panics.Inc()
			what := fmt.Sprintf("%T", p)
			if bug, ok := p.(runtime.Error); ok { // other values may contain data of the request
				what = bug.Error()
			}
			s.cfg.Logger.Error("request panicked", "request_id", requestID(c), "route", c.Path(),
				"panic", what, "stack", string(debug.Stack()))
			if c.Response().Committed {
				panic(http.ErrAbortHandler)
			}
			err = errInternal
		}()
		return next(c)
	}
}
