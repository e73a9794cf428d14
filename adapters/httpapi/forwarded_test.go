package httpapi

import (
	"encoding/json"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// All users behind an undeclared proxy share one address. The log has a warning once an hour; operators can see the counts.
func TestAnUndeclaredProxyIsSaid(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.SignUpAddress = Rate{Limit: 2, Window: time.Hour} })
	through := func(from string) answer {
		body := `{"email":"` + "u" + strings.ReplaceAll(from, ".", "") + `@example.com","password":"correct horse battery"}`
		return f.do(call{method: "POST", path: "/api/auth/signup", body: body, header: map[string]string{"X-Forwarded-For": from}})
	}
	statuses := []int{through("203.0.113.1").status, through("203.0.113.2").status, through("203.0.113.3").status, through("203.0.113.4").status}
	if statuses[0] != 201 || statuses[1] != 201 || statuses[2] != 429 || statuses[3] != 429 {
		t.Errorf("statuses: got %v, want 201, 201, 429, 429", statuses)
	}
	if n := strings.Count(f.log.String(), "undeclared proxy"); n != 1 {
		t.Errorf("warnings about the proxy: got %d, want 1", n)
	}
	if n := strings.Count(f.log.String(), "address limit reached by all clients of one proxy"); n != 1 {
		t.Errorf("warnings about the limit: got %d, want 1", n)
	}
	f.clock.advance(61 * time.Minute)
	through("203.0.113.5")
	if n := strings.Count(f.log.String(), "undeclared proxy"); n != 2 {
		t.Errorf("warnings about the proxy after an hour: got %d, want 2", n)
	}
	w := httptest.NewRecorder()
	f.server.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "/proxies", nil))
	var seen Undeclared
	if err := json.Unmarshal(w.Body.Bytes(), &seen); err != nil || seen.Requests != 5 || seen.Limited != 2 || seen.Peer != "127.0.0.1" || seen.Last.IsZero() {
		t.Errorf("got %v %+v, want 5 requests and 2 limited by 127.0.0.1", err, seen)
	}
	m := httptest.NewRecorder()
	f.server.AdminHandler().ServeHTTP(m, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(m.Body.String(), "cloudbot_undeclared_proxy_requests_total 5") {
		t.Errorf("metrics: got no cloudbot_undeclared_proxy_requests_total 5, want it")
	}
}

// Headers of other proxies show an undeclared proxy, too. A declared proxy causes no warning, and its users are
// counted separately.
func TestADeclaredProxyIsNotSaid(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Limits.SignUpAddress = Rate{Limit: 1, Window: time.Hour}
	})
	for _, from := range []string{"203.0.113.1", "203.0.113.2"} {
		body := `{"email":"u` + strings.ReplaceAll(from, ".", "") + `@example.com","password":"correct horse battery"}`
		if a := f.do(call{method: "POST", path: "/api/auth/signup", body: body, header: map[string]string{"X-Forwarded-For": from}}); a.status != 201 {
			t.Errorf("%s: got %d, want 201", from, a.status)
		}
	}
	if strings.Contains(f.log.String(), "undeclared proxy") {
		t.Errorf("got a warning, want none: %s", f.log)
	}
	open := newFront(t, nil)
	for _, name := range []string{"Forwarded", "X-Real-IP"} {
		open.do(call{method: "GET", path: "/health", header: map[string]string{name: "for=203.0.113.9"}})
	}
	if seen := open.server.undeclared.read(); seen.Requests != 2 {
		t.Errorf("got %+v, want 2 requests", seen)
	}
}

// The clients of a declared proxy that does not send their addresses share one address, too.
func TestADeclaredProxyThatIsSilentIsSaid(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.Limits.LoginAddress = Rate{Limit: 1, Window: time.Hour}
	})
	for _, header := range []map[string]string{nil, {"X-Real-IP": "203.0.113.1"}, {"X-Forwarded-For": "unknown"}} {
		f.do(call{method: "POST", path: "/api/auth/login", body: `{"email":"a@example.com","password":"correct horse battery"}`, header: header})
	}
	if n := strings.Count(f.log.String(), "configure that proxy to send X-Forwarded-For"); n != 1 {
		t.Errorf("warnings: got %d, want 1: %s", n, f.log.String())
	}
}

// Some platforms send the client's address only as X-Real-IP, and addresses of their own in X-Forwarded-For.
func TestRealIP(t *testing.T) {
	t.Parallel()
	from := func(real string) call {
		c := login("unknown@example.com", "wrong password")
		c.header = map[string]string{"X-Real-IP": real, "X-Forwarded-For": "203.0.113.77, 198.51.100." + real[len(real)-1:]}
		return c
	}
	f := newFront(t, func(c *Config) {
		c.Limits.LoginAddress, c.RealIP = Rate{1, time.Minute}, true
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	f.want(401, from("203.0.113.1"))
	f.want(429, from("203.0.113.1"))
	f.want(401, from("203.0.113.2"))
	f.want(401, from("6.6.6.6, 203.0.113.9")) // not an address: all such requests count as the proxy's
	f.want(429, from("7.7.7.7, 203.0.113.8"))

	if n := strings.Count(f.log.String(), "configure that proxy to send X-Real-IP"); n != 1 {
		t.Errorf("warnings that name the header: got %d, want 1: %s", n, f.log.String())
	}

	open := newFront(t, func(c *Config) { c.Limits.LoginAddress, c.RealIP = Rate{1, time.Minute}, true })
	open.want(401, from("203.0.113.1")) // a client that claims to be a proxy
	open.want(429, from("203.0.113.2"))
}
