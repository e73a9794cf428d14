package httpapi

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// warnEvery is how often the log repeats that a proxy is not declared.
const warnEvery = time.Hour

// forwardingHeaders are what proxies say a client's address in. Only X-Forwarded-For is ever read.
var forwardingHeaders = []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"}

// Undeclared tells of requests that came through a proxy which Config.TrustedProxies does not list.
// All clients behind it count as one address: they share its limits.
type Undeclared struct {
	Requests int64     `json:"requests"`
	Limited  int64     `json:"limited"` // of those that the address's limits refused
	Peer     string    `json:"peer"`    // the latest proxy's address
	Last     time.Time `json:"last"`
}

// undeclared counts them. The zero value is ready to use.
type undeclared struct {
	mu     sync.Mutex
	seen   Undeclared
	warned time.Time // the last warning that there is a proxy
	noted  time.Time // that its clients were limited
	silent time.Time // that those of a declared proxy were, which does not say who they are
}

// hourly tells whether a warning is due, and notes that it is given. It needs the lock.
func hourly(last *time.Time, now time.Time) bool {
	due := last.IsZero() || now.Sub(*last) >= warnEvery
	if due {
		*last = now
	}
	return due
}

// seenAt counts a request, and tells whether it is time for a warning.
func (u *undeclared) seenAt(peer netip.Addr, now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Requests++
	u.seen.Peer, u.seen.Last = peer.String(), now
	return hourly(&u.warned, now)
}

// limitedAt counts a refusal by the proxy's address, and tells whether it is time for a warning.
func (u *undeclared) limitedAt(now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Limited++
	return hourly(&u.noted, now)
}

// silentAt tells whether it is time to say that a declared proxy's own address reached a limit.
func (u *undeclared) silentAt(now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return hourly(&u.silent, now)
}

func (u *undeclared) read() Undeclared {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen
}

// noticeProxies warns of proxies that are not declared.
func (s *Server) noticeProxies(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if peer, ok := undeclaredProxy(c.Request(), s.cfg.TrustedProxies); ok && s.undeclared.seenAt(peer, s.cfg.Now()) {
			s.cfg.Logger.Warn("proxy not declared: X-Forwarded-For ignored, all its clients share one address's limits; "+
				"if the proxy is yours, add it to TRUSTED_PROXIES", "peer", peer.String())
		}
		return next(c)
	}
}

// undeclaredProxy tells whether a request passed a proxy that is not trusted, and its address.
func undeclaredProxy(r *http.Request, trusted []netip.Prefix) (netip.Addr, bool) {
	forwarded := false
	for _, name := range forwardingHeaders {
		forwarded = forwarded || r.Header.Get(name) != ""
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if !forwarded || err != nil {
		return netip.Addr{}, false
	}
	addr := peer.Addr().Unmap().WithZone("")
	return addr, !contains(trusted, addr)
}

// ofAddress is the outcome of a limit that counts addresses. Where the address is a proxy's, the whole
// site may be behind it: that is said, and never only to its users.
func (s *Server) ofAddress(c echo.Context, err error) error {
	if err == nil || refused(err).status != http.StatusTooManyRequests {
		return err
	}
	if peer, ok := undeclaredProxy(c.Request(), s.cfg.TrustedProxies); ok {
		if s.undeclared.limitedAt(s.cfg.Now()) {
			s.cfg.Logger.Warn("limit of one address reached by a proxy's clients together; if the proxy is yours, add it to TRUSTED_PROXIES", "peer", peer.String())
		}
	} else if addr := clientAddr(c.Request(), s.cfg.TrustedProxies); contains(s.cfg.TrustedProxies, addr) && s.undeclared.silentAt(s.cfg.Now()) {
		s.cfg.Logger.Warn("limit of one address reached by an address of TRUSTED_PROXIES; let that proxy send X-Forwarded-For", "peer", addr.String())
	}
	return err
}

func (u *undeclared) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "cloudbot_undeclared_proxy_requests_total",
		Help: "Requests through a proxy that TRUSTED_PROXIES does not list; its clients share one address's limits.",
	}, func() float64 { return float64(u.read().Requests) })
}
