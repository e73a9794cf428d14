package httpapi

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// warnEvery is how often the log repeats the warning about an undeclared proxy.
const warnEvery = time.Hour

// forwardingHeaders are the headers in which proxies send a client's address. One of them is read: see Config.RealIP.
var forwardingHeaders = []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip"}

// Undeclared counts requests through a proxy that Config.TrustedProxies does not list. All clients behind it
// count as one address and share its limits.
type Undeclared struct {
	Requests int64     `json:"requests"`
	Limited  int64     `json:"limited"` // requests that the address's limits refused
	Peer     string    `json:"peer"`    // the latest proxy's address
	Last     time.Time `json:"last"`
}

// undeclared keeps the counts of Undeclared. The zero value is ready to use.
type undeclared struct {
	mu     sync.Mutex
	seen   Undeclared
	warned time.Time // the last warning that there is a proxy
	noted  time.Time // the last warning that its clients were limited
	silent time.Time // the last warning that clients of a declared proxy without X-Forwarded-For were limited
}

// hourly reports whether a warning is due, and records that it was given. The caller holds the lock.
func hourly(last *time.Time, now time.Time) bool {
	due := last.IsZero() || now.Sub(*last) >= warnEvery
	if due {
		*last = now
	}
	return due
}

// seenAt counts a request and reports whether a warning is due.
func (u *undeclared) seenAt(peer netip.Addr, now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Requests++
	u.seen.Peer, u.seen.Last = peer.String(), now
	return hourly(&u.warned, now)
}

// limitedAt counts a refusal by the limits of the proxy's address and reports whether a warning is due.
func (u *undeclared) limitedAt(now time.Time) (warn bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen.Limited++
	return hourly(&u.noted, now)
}

// silentAt reports whether a warning is due that a declared proxy's own address reached a limit.
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

// noticeProxies logs a warning about undeclared proxies.
func (s *Server) noticeProxies(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if peer, ok := undeclaredProxy(c.Request(), s.cfg.TrustedProxies); ok && s.undeclared.seenAt(peer, s.cfg.Now()) {
			s.cfg.Logger.Warn("undeclared proxy: "+s.cfg.header()+" ignored, all its clients share one address's limits; "+
				"if the proxy is yours, add it to TRUSTED_PROXIES", "peer", peer.String())
		}
		return next(c)
	}
}

// undeclaredProxy reports whether a request came through an untrusted proxy, and the proxy's address.
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

// ofAddress returns the outcome of a limit that counts addresses. If the address is a proxy's, all users may
// be behind it, so a warning is logged for the operator, too.
func (s *Server) ofAddress(c echo.Context, err error) error {
	if err == nil || refused(err).status != http.StatusTooManyRequests {
		return err
	}
	if peer, ok := undeclaredProxy(c.Request(), s.cfg.TrustedProxies); ok {
		if s.undeclared.limitedAt(s.cfg.Now()) {
			s.cfg.Logger.Warn("address limit reached by all clients of one proxy; if the proxy is yours, add it to TRUSTED_PROXIES", "peer", peer.String())
		}
	} else if addr := clientAddr(c.Request(), s.cfg.TrustedProxies); contains(s.cfg.TrustedProxies, addr) && s.undeclared.silentAt(s.cfg.Now()) {
		s.cfg.Logger.Warn("address limit reached by an address of TRUSTED_PROXIES; configure that proxy to send "+s.cfg.header(), "peer", addr.String())
	}
	return err
}

func (u *undeclared) metric() prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "cloudbot_undeclared_proxy_requests_total",
		Help: "Requests through a proxy that TRUSTED_PROXIES does not list; its clients share one address's limits.",
	}, func() float64 { return float64(u.read().Requests) })
}
