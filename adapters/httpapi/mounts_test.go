package httpapi

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// guestLike answers as the handler of machines does: with a router, a WebSocket library, and problem documents
// of its own.
func guestLike() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/guest/enroll", func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "{}" {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"status":422,"title":"x","code":"invalid_enrolment","detail":"A token is needed."}`)
			return
		}
		_, _ = io.WriteString(w, `{"instance":"i"}`)
	})
	mux.HandleFunc("GET /api/guest/tunnel", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err == nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
		}
	})
	mux.HandleFunc("GET /api/guest/broken", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, canary, http.StatusInternalServerError) })
	mux.HandleFunc("GET /api/guest/full", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"status":503,"code":"too_many_greetings","detail":"Too many machines connect at once."}`)
	})
	return mux
}

// TestBudgetsThatAreUsedUpAreNoErrors shows that a full handler's refusals are not logged as errors: anyone can
// cause them, and the handler logs them itself.
func TestBudgetsThatAreUsedUpAreNoErrors(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) {
		c.Mounts = map[string]http.Handler{"/api/guest/": guestLike()}
		c.MaxInFlight = 2
	})
	f.want(503, call{method: "GET", path: "/api/guest/full"})
	f.server.requests.TakeN(2)
	f.want(503, call{method: "GET", path: "/api"})
	if strings.Contains(f.log.String(), "level=ERROR") {
		t.Errorf("got an error in the log, want none: %s", f.log)
	}
	f.want(500, call{method: "GET", path: "/api/guest/broken"})
	if strings.Count(f.log.String(), "level=ERROR") != 1 {
		t.Errorf("got %s, want one error in the log", f.log)
	}
}

func TestMountsBelowTheAPISpeakProblems(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Mounts = map[string]http.Handler{"/api/guest/": guestLike()} })
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/api/guest/nothing", "", 404, "not_found"},
		{"GET", "/api/guest/enroll", "", 405, "method_not_allowed"},
		{"DELETE", "/api/guest/tunnel", "", 405, "method_not_allowed"},
		{"POST", "/api/guest/enroll", "{}", 422, "invalid_enrolment"},
		{"GET", "/api/guest/tunnel", "", 426, "upgrade_required"},
		{"GET", "/api/guest/broken", "", 500, "refused"},
	} {
		a := f.want(c.status, call{method: c.method, path: c.path, body: c.body})
		if a.field(t, "code") != c.code || a.field(t, "request_id") != a.header.Get("X-Request-Id") || a.field(t, "detail") == "" || strings.Contains(string(a.body), canary) {
			t.Errorf("%s %s: got %s, want %s with detail and request_id, without a secret", c.method, c.path, a.body, c.code)
		}
		switch {
		case c.status == 405 && a.header.Get("Allow") == "", c.status == 422 && a.header.Get("Retry-After") != "7":
			t.Errorf("%s %s: got %v, want the handler's headers, too", c.method, c.path, a.header)
		}
	}
	if a := f.want(200, call{method: "POST", path: "/api/guest/enroll", body: `{"token":"t"}`}); string(a.body) != `{"instance":"i"}` {
		t.Errorf("got %s, want the handler's answer", a.body)
	}
	if conn, res := f.dial(t, "/api/guest/tunnel", nil, nil); conn == nil {
		t.Errorf("a machine's WebSocket: got %d, want 101", res.StatusCode)
	}
}

func TestBrowsersFeaturesAreDenied(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	f := newFront(t, func(c *Config) { c.Web = page })
	for path, clipboard := range map[string]string{"/health": "()", "/docs": "()", "/app/": "(self)", "/api/auth/me": "()", "/nowhere": "()"} {
		policy := f.do(call{method: "GET", path: path}).header.Get("Permissions-Policy")
		for _, want := range []string{"camera=()", "microphone=()", "geolocation=()", "display-capture=()", "usb=()", "clipboard-read=" + clipboard, "clipboard-write=" + clipboard, "fullscreen=" + clipboard} {
			if !strings.Contains(policy+",", want+",") {
				t.Errorf("%s: %q lacks %s", path, policy, want)
			}
		}
	}
}
