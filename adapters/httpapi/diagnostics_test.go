package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// fakeGuest is a guest's diagnostics server at the other end of a pipe.
type fakeGuest struct {
	body, kind string
	status     int
	location   string
	err        error
	endless    bool // repeats body as long as it is read
}

func (g *fakeGuest) Dial(context.Context, string) (net.Conn, error) {
	if g.err != nil {
		return nil, g.err
	}
	here, there := net.Pipe()
	ln := &oneConn{conn: there, done: make(chan struct{})}
	srv := &http.Server{Handler: g, ReadHeaderTimeout: time.Second}
	go func() { _ = srv.Serve(ln) }()
	return here, nil
}

func (g *fakeGuest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", g.kind)
	w.Header().Set("Set-Cookie", "stolen=1")
	if g.location != "" {
		w.Header().Set("Location", g.location)
	}
	if g.status != 0 {
		w.WriteHeader(g.status)
	}
	for _, err := io.WriteString(w, g.body); g.endless && err == nil; {
		_, err = io.WriteString(w, g.body)
	}
}

// oneConn is a listener with one connection to give.
type oneConn struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func TestDiagnostics(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		guest  fakeGuest
		status int
		kind   string
		cut    bool
	}{
		"text":         {fakeGuest{body: "all is well", kind: "text/plain"}, 200, "text/plain; charset=utf-8", false},
		"json":         {fakeGuest{body: `{"ok":true}`, kind: "application/json; charset=utf-8"}, 200, "application/json", false},
		"html":         {fakeGuest{body: "<script>alert(1)</script>", kind: "text/html"}, 200, "text/plain; charset=utf-8", false},
		"too much":     {fakeGuest{body: strings.Repeat("x", 4096), kind: "text/plain", endless: true}, 200, "text/plain; charset=utf-8", true},
		"redirect":     {fakeGuest{status: 302, location: "http://169.254.169.254/", kind: "text/plain"}, 502, "application/problem+json", false},
		"error":        {fakeGuest{status: 500, body: "stack trace", kind: "text/plain"}, 502, "application/problem+json", false},
		"unconnected":  {fakeGuest{err: errors.New("no tunnel at 10.0.0.7")}, 503, "application/problem+json", false},
		"large header": {fakeGuest{kind: "text/plain; x=" + strings.Repeat("h", 40<<10)}, 502, "application/problem+json", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFront(t, func(cfg *Config) { cfg.Diagnostics = &c.guest })
			ada := f.signUp("ada@example.com")
			id := f.running(ada, "x")
			a := f.do(call{method: "GET", path: "/api/instances/" + id + "/debug/check", token: ada.access})
			if a.status != c.status || a.header.Get("Content-Type") != c.kind || (a.header.Get("Cloudbot-Truncated") != "") != c.cut {
				t.Errorf("got %d %s %.80s, want %d %s, cut %v", a.status, a.header, a.body, c.status, c.kind, c.cut)
			}
			if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Set-Cookie") != "" || len(a.body) > diagnosticBytes {
				t.Errorf("got %d bytes and %s, want at most %d bytes, nosniff and no cookie", len(a.body), a.header, diagnosticBytes)
			}
			if strings.Contains(string(a.body), "stack") || strings.Contains(string(a.body), "10.0.0.7") {
				t.Errorf("got internals, want none: %s", a.body)
			}
			if a.status == 503 && a.header.Get("Retry-After") == "" {
				t.Errorf("Retry-After: got none, want one")
			}
			f.want(404, call{method: "GET", path: "/api/instances/" + id + "/debug/shell", token: ada.access})
		})
	}
}

func TestDiagnosticsNeedARunningMachine(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(cfg *Config) { cfg.Diagnostics = &fakeGuest{body: "x"} })
	ada := f.signUp("ada@example.com")
	id := f.create(ada, "x")
	get := call{method: "GET", path: "/api/instances/" + id + "/debug/log", token: ada.access}
	f.want(503, get)
	f.happen(id, instance.TerminationRequested{}, instance.Terminated{})
	f.want(409, get)
}
