package httpapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/fair"
)

// throttle refuses with 429 if key was used more often than rate allows, over all replicas.
func (s *Server) throttle(c echo.Context, rate Rate, key string) error {
	if rate.Limit < 0 {
		return nil
	}
	wait, err := time.Duration(0), error(nil)
	if s.cfg.Limiter == nil {
		wait = s.local.allow(key, rate)
	} else if wait, err = s.cfg.Limiter.Allow(c.Request().Context(), key, rate.Limit, rate.Window); err != nil {
		// Count alone: this neither allows unlimited guessing nor locks users out.
		s.cfg.Logger.Warn("shared limiter failed, counting alone", "err", err)
		wait = s.local.allow(key, rate)
	}
	return tooMany(wait)
}

// unthrottle undoes one use that throttle counted.
func (s *Server) unthrottle(c echo.Context, rate Rate, key string) {
	switch {
	case rate.Limit < 0:
	case s.cfg.Limiter == nil:
		s.local.giveBack(key)
	default:
		// Also for a client that has disconnected.
		s.cfg.Limiter.GiveBack(context.WithoutCancel(c.Request().Context()), key, rate.Limit, rate.Window)
	}
}

// throttleHere is throttle with this replica's count only, for limits that protect its own resources.
func (s *Server) throttleHere(rate Rate, key string) error {
	if rate.Limit < 0 {
		return nil
	}
	return tooMany(s.local.allow(key, rate))
}

func tooMany(wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	seconds := int(math.Ceil(wait.Seconds()))
	return &refusal{
		status: 429, code: "too_many_requests", retryAfter: seconds,
		detail: fmt.Sprintf("Too many attempts; try again in %s.", plural(seconds, "second")),
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// addressKey is what one address is counted by: an IPv4 address or an IPv6 /64, which one customer has.
func addressKey(name string, a netip.Addr) string { return fair.ByAddress(name, a, 0, 0, 0)[0].Key }

// localLimiter counts tries in fixed windows in memory.
type localLimiter struct {
	now func() time.Time
	mu  sync.Mutex
	by  map[string]window
}

type window struct {
	ends time.Time
	used int
}

// maxWindows bounds the limiter's memory, to about 20 MB.
const maxWindows = 100_000

func newLocalLimiter(now func() time.Time) *localLimiter {
	return &localLimiter{now: now, by: map[string]window{}}
}

func (l *localLimiter) allow(key string, rate Rate) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	w, known := l.by[key]
	if !known && len(l.by) >= maxWindows {
		l.shrink(now)
	}
	if !now.Before(w.ends) {
		w = window{ends: now.Add(rate.Window)}
	}
	if w.used >= rate.Limit {
		return w.ends.Sub(now)
	}
	w.used++
	l.by[key] = w
	return 0
}

// spent returns how long to wait until a key may be used. It counts nothing.
func (l *localLimiter) spent(key string, rate Rate) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, now := l.by[key], l.now(); rate.Limit >= 0 && now.Before(w.ends) && w.used >= rate.Limit {
		return w.ends.Sub(now)
	}
	return 0
}

// giveBack undoes one use of a key.
func (l *localLimiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w, known := l.by[key]; known && w.used > 0 {
		w.used--
		l.by[key] = w
	}
}

// shrink drops expired windows, and if that is not enough, arbitrary ones.
func (l *localLimiter) shrink(now time.Time) {
	for k, w := range l.by {
		if !now.Before(w.ends) {
			delete(l.by, k)
		}
	}
	for k := range l.by {
		if len(l.by) < maxWindows*9/10 {
			return
		}
		delete(l.by, k)
	}
}

// bound keeps the server responsive under a flood. It refuses requests above its limits immediately, and
// first those of the network that sends most.
func (s *Server) bound(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if s.apart(c.Path()) {
			return next(c)
		}
		places := s.requests
		if endsSomething(c) {
			places = s.ends
		}
		leave, verdict := places.Take(s.shares(c, s.cfg.Limits.InFlightAddress, s.cfg.MaxInFlight)...)
		if verdict != fair.Taken {
			return s.crowded(c, verdict)
		}
		defer leave()
		ctx, cancel := context.WithTimeout(c.Request().Context(), s.cfg.Timeout)
		defer cancel()
		c.SetRequest(c.Request().WithContext(ctx))
		return next(c)
	}
}

// apart reports whether a route's requests take no place. Requests that stay open have their own limits,
// monitors always get an answer, and the documents are static: they cost only their readers' time.
func (s *Server) apart(route string) bool {
	return s.long[route] || slices.Contains(withoutPlace, route)
}

var withoutPlace = []string{"/health", "/ready", "/openapi.json", "/docs", "/redoc", "/docs/files/:name"}

// endsSomething reports whether a request has a place of its own. No other load then keeps an owner from
// stopping an instance, which costs money, or from ending a stolen session. Requests without a valid token
// are refused immediately.
func endsSomething(c echo.Context) bool {
	route := c.Path()
	return c.Request().Method == http.MethodDelete || route == "/api/instances/:id/stop" || route == "/api/auth/logout"
}

// shares returns the claims of a request's address: one for an IPv4 address or an IPv6 /64, twice that for a
// /56, four times that for a /24 or a /48, and half of all for a region.
func (s *Server) shares(c echo.Context, one, all int) []fair.Claim {
	return s.sharesOf(clientAddr(c.Request(), s.cfg.TrustedProxies), one, all)
}

func (s *Server) sharesOf(addr netip.Addr, one, all int) []fair.Claim {
	return append(fair.ByAddress("", addr, one, 2*one, 4*one), fair.ByRegion("region", addr, all/2)...)
}

// crowded returns the refusal of a request that got no place.
func (s *Server) crowded(c echo.Context, v fair.Verdict) error {
	if v == fair.ShareFull {
		return s.ofAddress(c, errTooManyHere)
	}
	return errOverloaded
}
