package httpapi

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// raw sends a request line unchanged; http.Client would normalize it.
func (f *front) raw(t *testing.T, line string, header ...string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
	_, err = io.WriteString(conn, line+" HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n"+strings.Join(append(header, ""), "\r\n")+"\r\n")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestNoPathEscapes(t *testing.T) {
	t.Parallel()
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "file "+r.URL.Path) })
	f := newFront(t, func(c *Config) {
		c.Web, c.Mounts = web, map[string]http.Handler{"/guest/": web}
	})
	ada := f.estate("ada@example.com")
	tricks := []string{
		"%2F", "%2f..%2f..%2fetc%2fpasswd", "..%2f", "../", "..\\", "%5c..%5c", "/", "//evil.example", "/..", "/../..", "./x", ".", "..", "%2e%2e", "%2e%2e/",
		"%00", "x%00.js", "\\", "a\\b", "%252F", "%c0%af", "..;/x", "x//y", "%0d%0aSet-Cookie:a=b",
	}
	var bases []string
	for _, op := range operations(t, loadDocument(t)) {
		if op.method == "GET" {
			bases = append(bases, op.call(ada, "").path)
		}
	}
	bases = append(bases, "/docs/files", "/app", "/app/assets", "/guest", "/guest/enrol", "/api", "/assets")
	for _, base := range bases {
		for _, trick := range tricks {
			path := strings.TrimSuffix(base, "/") + "/" + trick
			if trick == "..;/x" || (trick == "/" && base == "/") {
				continue
			}
			if res := f.raw(t, "GET "+path, "Authorization: Bearer "+ada.access); res.StatusCode != 404 && res.StatusCode != 400 {
				t.Errorf("GET %s: got %d, want 404 or 400", path, res.StatusCode)
			}
		}
	}
	for _, line := range []string{"GET //", "GET //evil.example/%2f..", "GET /%2e/", "GET /.git/config", "GET /docs/files/../swagger.js", "GET /docs/%66iles/swagger.js", "GET /api/../docs", "OPTIONS *"} {
		res := f.raw(t, line)
		if res.StatusCode != 404 && res.StatusCode != 200 && res.StatusCode != 400 || res.StatusCode == 200 && line != "OPTIONS *" {
			t.Errorf("%s: got %d, want 404 or 400", line, res.StatusCode)
		}
		if res.Header.Get("Location") != "" {
			t.Errorf("%s: got Location %q, want none", line, res.Header.Get("Location"))
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	for _, p := range []string{"/api/billing", "/api/nothing/here", "/assets/openclaw.tgz", "/app/", "/-", "/index.html"} {
		a := f.want(404, call{method: "GET", path: p})
		if a.field(t, "code") != "not_found" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %s %s, want not_found with nosniff", p, a.body, a.header)
		}
	}
	a := f.want(405, call{method: "PUT", path: "/api/auth/login"})
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "POST") || strings.Contains(allow, "PUT") {
		t.Errorf("Allow: got %q, want POST without PUT", allow)
	}
	f.want(405, call{method: "TRACE", path: "/api/auth/me"})
	f.want(405, call{method: "BREW", path: "/health"})
	f.want(405, call{method: "HEAD", path: "/api/events"})
	if a := f.want(200, call{method: "HEAD", path: "/health"}); len(a.body) != 0 {
		t.Errorf("HEAD: got body %q, want none", a.body)
	}
	f.want(204, call{method: "OPTIONS", path: "/api/auth/login"})
}

func TestCORS(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	preflight := func(origin string) answer {
		return f.do(call{method: "OPTIONS", path: "/api/instances", header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "POST"}})
	}
	a := preflight(ours)
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != ours || !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Idempotency-Key") {
		t.Errorf("got %d %s, want 204 that allows %s and Idempotency-Key", a.status, a.header, ours)
	}
	for _, origin := range []string{"https://evil.example", "null", "http://app.example.com", ours + ".evil.example", "https://APP.example.com", ours + ":444", "*"} {
		for _, a := range []answer{preflight(origin), f.do(call{method: "GET", path: "/health", header: map[string]string{"Origin": origin}})} {
			if got := a.header.Get("Access-Control-Allow-Origin") + a.header.Get("Access-Control-Allow-Headers"); got != "" {
				t.Errorf("%s: got %q, want no allowed origin or headers", origin, got)
			}
		}
	}
	a = f.want(401, call{method: "GET", path: "/api/auth/me", header: map[string]string{"Origin": ours}})
	if a.header.Get("Access-Control-Allow-Origin") != ours || a.header.Get("Access-Control-Allow-Credentials") != "" || a.header.Get("Vary") != "Origin" {
		t.Errorf("got %s, want a problem that %s may read, without credentials", a.header, ours)
	}
}

func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.HSTS = true })
	for _, p := range []string{"/health", "/api/instances", "/docs", "/nowhere", "/", "/redoc/", "/docs/files/swagger-ui-bundle.js"} {
		h := f.do(call{method: "GET", path: p}).header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Strict-Transport-Security": "max-age=31536000; includeSubDomains",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s: got %q, want %q", p, name, h.Get(name), want)
			}
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "frame-ancestors 'none'") || !strings.Contains(policy, "default-src 'none'") ||
			strings.Contains(strings.Split(policy+"style-src", "style-src")[0], "unsafe") || h.Get("X-Request-Id") == "" {
			t.Errorf("%s: got %s, want a policy without scripts or frames, and a request ID", p, h)
		}
		if strings.HasPrefix(p, "/api/") && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: Cache-Control: got %q, want no-store", p, h.Get("Cache-Control"))
		}
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	for sent, kept := range map[string]bool{"client-id-12345": true, "short": false, strings.Repeat("x", 65): false, "a b c d e f g": false, "<script>alert(1)</script>": false} {
		a := f.do(call{method: "GET", path: "/api/none", header: map[string]string{"X-Request-Id": sent}})
		if got := a.header.Get("X-Request-Id"); (got == sent) != kept || a.field(t, "request_id") != got {
			t.Errorf("request ID %q: got %q in %s, want it kept: %v", sent, got, a.body, kept)
		}
	}
}

func TestDocs(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	for page, script := range map[string]string{"/docs": "swagger-ui-bundle.js", "/docs/": "swagger.js", "/redoc": "redoc.standalone.js", "/": "/docs"} {
		body := string(f.want(200, call{method: "GET", path: page}).body)
		if !strings.Contains(body, script) || strings.Contains(body, "://") || strings.Contains(body, "<script>") {
			t.Errorf("%s: got %s, want %s and no other origin or inline script", page, body, script)
		}
	}
	for name := range docsFiles {
		a := f.want(200, call{method: "GET", path: "/docs/files/" + name, header: map[string]string{"Accept-Encoding": "identity"}})
		zipped := f.want(200, call{method: "GET", path: "/docs/files/" + name, header: map[string]string{"Accept-Encoding": "gzip"}})
		if len(a.body) < 50 || len(zipped.body) > len(a.body) {
			t.Errorf("%s: got %d bytes and %d in gzip, want at least 50 and fewer in gzip", name, len(a.body), len(zipped.body))
		}
		f.want(304, call{method: "GET", path: "/docs/files/" + name, header: map[string]string{"Accept-Encoding": "identity", "If-None-Match": a.header.Get("ETag")}})
	}
	for _, name := range []string{"swagger-ui-bundle.js.gz", "nothing.js", "assets"} {
		f.want(404, call{method: "GET", path: "/docs/files/" + name})
	}
	if a := f.want(200, call{method: "GET", path: "/openapi.json"}); string(a.body) != string(openAPI) {
		t.Errorf("got another document, want api/openapi.json")
	}
}

func TestWebAndMounts(t *testing.T) {
	t.Parallel()
	seen := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
	})
	f := newFront(t, func(c *Config) { c.Web, c.Mounts = seen, map[string]http.Handler{"/guest/": seen, "/api/guest/": seen} })
	for _, p := range []string{"/", "/app"} {
		if a := f.want(303, call{method: "GET", path: p}); a.header.Get("Location") != "/app/" {
			t.Errorf("%s: got Location %q, want /app/", p, a.header.Get("Location"))
		}
	}
	for path, want := range map[string]string{"/app/": "GET /", "/app/assets/x.js": "GET /assets/x.js", "/guest/tunnel": "GET /guest/tunnel", "/guest/a/": "GET /guest/a/", "/api/guest/tunnel": "GET /api/guest/tunnel"} {
		if a := f.want(200, call{method: "GET", path: path}); string(a.body) != want {
			t.Errorf("%s: %s, want %s", path, a.body, want)
		}
	}
	if a := f.want(200, call{method: "POST", path: "/guest/enrol", body: "{}"}); string(a.body) != "POST /guest/enrol" {
		t.Errorf("got %s, want POST /guest/enrol", a.body)
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	f.server.echo.GET("/panic", func(echo.Context) error { panic(canary) })
	a := f.want(500, call{method: "GET", path: "/panic"})
	if a.field(t, "code") != "internal" || strings.Contains(f.log.String()+string(a.body), canary) || !strings.Contains(f.log.String(), "request panicked") {
		t.Errorf("got %s and log %s, want internal, a logged panic and no secret", a.body, f.log)
	}
}

func TestInternalsStayInside(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	f.server.echo.GET("/broken", func(echo.Context) error { return errors.New("pq: relation read.instances at 10.1.2.3") })
	if a := f.want(500, call{method: "GET", path: "/broken"}); strings.Contains(string(a.body), "10.1.2.3") {
		t.Errorf("got %s, want no internals", a.body)
	}
	if !strings.Contains(f.log.String(), "10.1.2.3") {
		t.Errorf("log: got no cause, want it: %s", f.log)
	}
}

func TestAFloodIsRefused(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.MaxInFlight, c.Limits.InFlight = 2, 1 })
	ada := f.signUp("ada@example.com")
	hold := make(chan struct{})
	entered := make(chan struct{}, 2)
	f.server.echo.GET("/slow", func(echo.Context) error { entered <- struct{}{}; <-hold; return errNoObject })
	f.server.echo.GET("/mine", f.server.signedIn(func(echo.Context, access.Claims) error { entered <- struct{}{}; <-hold; return errNoObject }))
	done := make(chan struct{}, 2)
	send := func(path, from string) { // of two regions, for each has half
		req := httptest.NewRequest("GET", path, nil)
		req.RemoteAddr = from + ":1234"
		req.Header.Set("Authorization", "Bearer "+ada.access)
		f.server.ServeHTTP(httptest.NewRecorder(), req)
		done <- struct{}{}
	}
	go send("/mine", hostile)
	<-entered
	f.want(429, call{method: "GET", path: "/api/auth/me", token: ada.access})
	go send("/slow", elsewhere)
	<-entered
	f.want(503, call{method: "GET", path: "/api"})
	f.want(200, call{method: "GET", path: "/health"})
	f.want(200, call{method: "GET", path: "/ready"})
	close(hold)
	<-done
	<-done
	f.want(200, call{method: "GET", path: "/api/auth/me", token: ada.access})
}

func TestMetricsAndAccessLog(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.create(ada, "x")
	f.want(200, call{method: "GET", path: "/api/instances/" + id + "?secret=" + canary, token: ada.access})
	f.want(404, call{method: "GET", path: "/" + canary})
	admin := httptest.NewServer(f.server.AdminHandler())
	defer admin.Close()
	res, err := http.Get(admin.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	for _, want := range []string{`route="/api/instances/:id",status="200"`, `route="unmatched",status="404"`, "cloudbot_http_request_duration_seconds_bucket"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(string(text)+f.log.String(), canary) || strings.Contains(string(text), id) || !strings.Contains(f.log.String(), "account="+ada.account) {
		t.Errorf("got a query, a path or an id in metrics or log, want none and the account in the log")
	}
	f.want(404, call{method: "GET", path: "/metrics"})
	f.want(404, call{method: "GET", path: "/debug/pprof/"})
}

func TestClientAddr(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"198.51.100.1:5", "", "198.51.100.1"},
		{"198.51.100.1:5", "1.1.1.1", "198.51.100.1"},
		{"10.0.0.1:5", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.1:5", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"},
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},
		{"10.0.0.1:5", "6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"},
		{"[fd00::1]:5", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", "1.1.1.1", "1.1.1.1"},
		{"10.0.0.1:5", "6.6.6.6, 1.1.1.1:4711, 10.0.0.2:80", "1.1.1.1"},
		{"10.0.0.1:5", "[2001:db8::1]:4711", "2001:db8::1"},
		{"10.0.0.1:5", "[2001:db8::1]", "2001:db8::1"},
		{"10.0.0.1:5", "1.1.1.1:4711:5", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"nonsense", "1.1.1.1", "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := clientAddr(r, trusted).String(); got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

// A script that does not parse leaves a page blank; no other test would notice.
func TestDocsScriptsParse(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	for name := range docsFiles {
		if !strings.HasSuffix(name, ".js") {
			continue
		}
		a := f.want(200, call{method: "GET", path: "/docs/files/" + name, header: map[string]string{"Accept-Encoding": "identity"}})
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, a.body, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "node", "--check", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %.200s", name, err, out[max(0, len(out)-200):])
		}
	}
}

// TestContentPolicies reads what a browser may do with an answer of the API, and with the dashboard.
func TestContentPolicies(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Web = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })
	})
	for _, path := range []string{"/api", "/health", "/api/instances", "/nothing", "/app/"} {
		policy := strings.Split(f.do(call{method: "GET", path: path}).header.Get("Content-Security-Policy"), "; ")
		for _, want := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
			if !slices.Contains(policy, want) {
				t.Errorf("%s: got the policy %q, want %q in it", path, policy, want)
			}
		}
		if slices.ContainsFunc(policy, func(p string) bool {
			return strings.Contains(p, "unsafe") || strings.Contains(p, "*") || strings.HasPrefix(p, "object-src")
		}) {
			t.Errorf("%s: got the policy %q, want no plug-ins, nothing from everywhere and nothing unsafe", path, policy)
		}
	}
}
