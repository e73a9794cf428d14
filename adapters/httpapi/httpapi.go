// Package httpapi is the front: it turns HTTP requests into commands and queries, and their outcomes into
// answers. Start with New; api/openapi.yaml describes the API.
//
// The one thing to know: the front makes no decisions. It authenticates the caller; the commands decide
// everything else. Only refusal.go turns errors into answers.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/fair"
)

// Server is the front. It is an http.Handler; Run serves it on a listener.
type Server struct {
	cfg        Config
	echo       *echo.Echo
	sessions   *Revocations
	gone       *Revocations // instances
	metrics    metrics
	origins    map[string]bool
	local      *localLimiter // for limits that replicas do not share, and when the shared limiter fails
	requests   *fair.Places  // requests in flight, without bridges and event streams
	ends       *fair.Places  // requests in flight that end or stop something; see endsSomething
	bodies     *fair.Places  // bytes of bodies that are being read or used
	inFlight   *fair.Places  // requests in flight by account
	braking    *fair.Places  // by account, those that end or stop something
	streams    *fair.Places  // event streams by account
	inLog      *sessionCache
	verified   tokenCache
	answers    answers
	glances    glances
	known      map[string]bool // all route templates
	long       map[string]bool // those of requests that stay open
	trees      []string        // prefixes with handlers of their own
	undeclared undeclared
	listeners  listeners
	fan        fanout
	unpacked   unpacked
	draining   chan struct{} // closed when Run begins to stop
	stopping   atomic.Bool
}

// New returns a front. Its error names what is missing or invalid in cfg.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, fmt.Errorf("http front: %w", err)
	}
	s := &Server{
		cfg:      cfg,
		sessions: newRevocations(cfg.AccessLife+5*time.Minute, cfg.Now), // clocks differ
		gone:     newRevocations(5*time.Minute, cfg.Now),
		origins:  map[string]bool{},
		local:    newLocalLimiter(cfg.Now),
		requests: fair.NewPlaces(cfg.MaxInFlight),
		ends:     fair.NewPlaces(cfg.MaxInFlight),
		bodies:   fair.NewPlaces(maxBodies),
		inFlight: fair.NewPlaces(math.MaxInt), // bounded for each account, not in total
		braking:  fair.NewPlaces(math.MaxInt),
		streams:  fair.NewPlaces(math.MaxInt),
		inLog:    &sessionCache{has: cfg.known},
		glances:  glances{latest: cfg.Queries.Latest, turn: make(chan struct{}, 1)},
		known:    map[string]bool{},
		long:     map[string]bool{},
		draining: make(chan struct{}),
	}
	for _, o := range cfg.Origins {
		s.origins[o] = true
	}
	if own := originOf(cfg.PublicURL); own != "" {
		s.origins[own] = true
	}
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("http front: %w", err)
	}
	cfg.Metrics.MustRegister(s.undeclared.metric())
	s.echo = echo.New()
	s.echo.Logger.SetOutput(discard{})
	s.echo.HTTPErrorHandler = s.refuse
	// The outermost comes first. Pre runs before routing and knows no route template.
	s.echo.Pre(s.plainPath)
	s.echo.Use(s.observe, s.noticeProxies, s.headers, s.recover, s.cors, s.stay, s.collect, s.bound)
	for _, r := range s.routes() {
		handle := scoped(r.scope, r.handle)
		s.echo.Add(r.method, r.path, handle)
		s.known[r.path], s.long[r.path] = true, r.long
		if r.method == http.MethodGet && !r.long {
			s.echo.Add(http.MethodHead, r.path, handle)
		}
	}
	s.mount()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.echo.ServeHTTP(w, s.addressed(r))
}

// Sessions holds the ended sessions and the suspended accounts. The caller passes it session.ended, token.revoked,
// account.suspended and account.resumed from the log, so that events of other replicas and tools count here.
func (s *Server) Sessions() *Revocations { return s.sessions }

// Instances closes the bridges of instances that end. The caller passes it instance.terminated and
// instance.failed from the log.
func (s *Server) Instances() *Revocations { return s.gone }

// Preload loads the sessions that ended and the accounts that were suspended before the start. Run calls it;
// a caller that uses only the handler must call it.
func (s *Server) Preload(ctx context.Context) error {
	// Longer than the life of an access token, because clocks differ.
	ids, err := s.cfg.Queries.EndedSince(ctx, s.cfg.Now().Add(-s.cfg.AccessLife-5*time.Minute))
	if err != nil {
		return fmt.Errorf("http front: %w", err)
	}
	for _, id := range ids {
		s.sessions.Revoke(id)
	}
	suspended, err := s.cfg.Queries.Suspended(ctx)
	if err != nil {
		return fmt.Errorf("http front: %w", err)
	}
	for account, position := range suspended {
		s.sessions.Suspended(account, position, true)
	}
	s.sessions.dropRewound(suspended)
	return nil
}

// Run serves on ln until ctx ends, then stops:
//
//   - For Config.Grace it keeps answering, so that load balancers see /ready fail before a connection is
//     refused. New WebSockets are refused immediately; event streams end one by one and ask clients to reconnect.
//   - Then it accepts no connections, and open requests get Config.Drain to finish.
//
// Run does not wait for bridges; end them first.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	if err := s.Preload(ctx); err != nil {
		return err
	}
	// HTTP/1 only: WebSockets need it, and h2c stays off.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           s,
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second, // event streams set their own; a bridge's connection leaves the server
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.drain()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-time.After(s.cfg.Grace):
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		s.cfg.Logger.Warn("drain time exceeded, open requests aborted", "err", err)
		_ = server.Close()
	}
	<-served
	return nil
}

// drain ends event streams and makes /ready fail. It may be called more than once.
func (s *Server) drain() {
	if s.stopping.CompareAndSwap(false, true) {
		close(s.draining)
	}
}

// stay refuses new WebSockets while the server stops: they would have to reconnect immediately.
func (s *Server) stay(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.stopping.Load() && wantsWebSocket(c.Request()) {
			return errRestarting
		}
		return next(c)
	}
}

// discard silences Echo's own logger.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

var errMissing = errors.New("missing in Config")
