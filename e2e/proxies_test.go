package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestProxies runs each sample of deploy/ in a real proxy, in front of a real server whose desktop's guest connects through
// the proxy, too. If the sample is for two replicas, the second is down.
func TestProxies(t *testing.T) {
	t.Parallel()
	for name, sample := range proxies {
		if name == severalCaddy { // the tests below use it
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "DATABASE_URL="+pgtest.New(t), "TRUSTED_PROXIES=127.0.0.1")
			replicas := []string{s.port}
			if sample.many {
				replicas = append(replicas, freePort(t))
			}
			p := sample.start(t, replicas...)
			s.env = append(s.env, "CONTROL_PLANE_URL="+p.url())
			s.trusting(p)
			s.start()
			w := &proxied{proxy: p, s: s, u: &client{t: t, base: p.url(), via: p.from(t, "127.0.0.5", false)}}
			await(t, time.Minute, "the proxy to find the server", func() bool {
				a, err := w.u.try("GET", "/ready", "")
				return err == nil && a.status == http.StatusOK
			})
			w.u.signUp("grace@example.com")
			w.redirects(t)
			w.bodies(t)
			w.forgedAddresses(t)
			w.internalPaths(t)
			id := w.events(t)
			w.u.awaitInstance(id, "ready", "true")
			w.sockets(t, id)
		})
	}
}

// proxied is a server behind a proxy, and a user.
type proxied struct {
	*proxy
	s *server
	u *client
}

// trusting gives the server's local machines the proxy's CA, as a public certificate needs none.
func (s *server) trusting(p *proxy) {
	s.t.Helper()
	s.bin = filepath.Join(p.dir, "bin")
	err := os.Mkdir(s.bin, 0o755)
	if err == nil {
		err = os.Link(filepath.Join(bin, "cloudbot"), filepath.Join(s.bin, "cloudbot"))
	}
	if err == nil {
		script := fmt.Sprintf("#!/bin/sh\nSSL_CERT_FILE=%s exec %s \"$@\"\n", p.ca, filepath.Join(bin, "cloudbot-guest"))
		err = os.WriteFile(filepath.Join(s.bin, "cloudbot-guest"), []byte(script), 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// redirects checks the port for HTTP, and who sends HSTS: a server in production, and no proxy.
func (w *proxied) redirects(t *testing.T) {
	t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:"+w.http+"/app/?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "localhost"
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if to := res.Header.Get("Location"); res.StatusCode != http.StatusPermanentRedirect || !strings.HasPrefix(to, "https://localhost") || !strings.HasSuffix(to, "/app/?a=b") {
		t.Errorf("over http: got %d to %q, want 308 to the same path over https", res.StatusCode, to)
	}
	if a := w.u.do("GET", "/health", ""); a.header.Get("Strict-Transport-Security") != "" {
		t.Error("got a Strict-Transport-Security of the proxy, want only the one of a server in production")
	}
}

// bodies checks that the server's own limit answers, and nginx's only far beyond it.
func (w *proxied) bodies(t *testing.T) {
	t.Helper()
	for size, want := range map[int]struct {
		status int
		ours   bool
	}{60 << 10: {422, true}, 100 << 10: {413, true}, 700 << 10: {413, w.name != "nginx"}} {
		a := w.u.do("POST", "/api/user/api-keys", `{"provider":"openai","api_key":"`+strings.Repeat("k", size)+`"}`)
		if ours := a.header.Get("Content-Type") == "application/problem+json"; a.status != want.status || ours != want.ours {
			t.Errorf("a body of %d KiB: got %d, the server's answer: %v; want %+v\n%.200s", size>>10, a.status, ours, want, a.body)
		}
	}
}

// forgedAddresses claims other addresses than the client's own, which the log must have.
func (w *proxied) forgedAddresses(t *testing.T) {
	t.Helper()
	for i, forged := range [][]string{
		{}, {"X-Forwarded-For", "203.0.113.9"}, {"X-Forwarded-For", "203.0.113.9, 127.0.0.1"}, {"X-Real-IP", "203.0.113.9", "Forwarded", "for=203.0.113.9;proto=https"},
	} {
		id := fmt.Sprint("forged-address-", i)
		w.u.must(http.StatusOK, "GET", "/api/auth/me", "", append(forged, "X-Request-Id", id)...)
		line := regexp.MustCompile("request_id=" + id + ` .*client=(\S+)`)
		await(t, time.Minute, "the request's line in the log", func() bool { return line.MatchString(w.s.out.tail(1 << 20)) })
		if got := line.FindStringSubmatch(w.s.out.tail(1 << 20))[1]; got != "127.0.0.5" {
			t.Errorf("with %q: got client %s, want 127.0.0.5", forged, got)
		}
	}
	if strings.Contains(w.s.out.tail(1<<20), "undeclared proxy") {
		t.Error("the server saw an undeclared proxy, want the one of TRUSTED_PROXIES")
	}
}

// internalPaths checks that replicas' own paths are closed to the outside: the server, which adds a request ID, does not answer.
func (w *proxied) internalPaths(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/internal/hop/", "/internal/hop/01JZ8Q3M5T9V2X4Y6A8C0E2G4J/vnc"} {
		if a := w.u.do("GET", path, ""); a.status != http.StatusNotFound || a.header.Get("X-Request-Id") != "" {
			t.Errorf("%s: got %d of the server (request ID %q), want the proxy's 404", path, a.status, a.header.Get("X-Request-Id"))
		}
	}
}

// events creates a desktop while an event stream is open over HTTP/2, and returns its ID.
func (w *proxied) events(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", w.url()+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.u.token)
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := w.from(t, "127.0.0.6", true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.ProtoMajor != 2 || res.Header.Get("Content-Encoding") != "" || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the event stream: got %s %s, %v, want 200 over HTTP/2, uncompressed", res.Status, res.Proto, res.Header)
	}
	id := w.u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "data:") && strings.Contains(lines.Text(), id) {
			return id
		}
	}
	t.Fatal("the stream ended before the event of a new desktop, want it to pass at once")
	return ""
}

// sockets looks at the desktop and talks to its agent, in small frames and a large one. A page of another origin may not.
func (w *proxied) sockets(t *testing.T, id string) {
	t.Helper()
	if shot, err := w.u.screenshot(id); err != nil || shot.colours < 2 {
		t.Errorf("desktop: got %+v, %v, want 2 or more colours", shot, err)
	}
	if deltas, text, err := w.u.chat(id, "hello"); err != nil || deltas < 2 {
		t.Errorf("chat: got %d parts, %q, %v, want 2 or more", deltas, text, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ws, err := w.u.bridge(ctx, id, "cloudbot", "cloudbot")
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	// A frame as large as a file in a chat. The agent answers it, whatever it thinks of it.
	err = ws.Write(ctx, websocket.MessageText, []byte(`{"type":"req","id":"large","method":"health","params":{"pad":"`+strings.Repeat("x", 8<<20)+`"}}`))
	for answered := false; err == nil && !answered; {
		var data []byte
		_, data, err = ws.Read(ctx)
		answered = strings.Contains(string(data), `"id":"large"`)
	}
	if err != nil {
		t.Errorf("a frame of 8 MiB: got %v, want an answer", err)
	}
	stranger := *w.u
	stranger.origin = "https://evil.example"
	if other, err := stranger.bridge(ctx, id, "vnc", "vnc"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("from another origin: got %v, %v, want 403", other, err)
	}
}

// TestProxiesOutwaitPings compares the samples' time limits with the server's pings: every 20 s on a WebSocket, every 15 s
// on an event stream.
func TestProxiesOutwaitPings(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/nginx/cloudbot.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"proxy_read_timeout", "proxy_send_timeout"} {
		found := regexp.MustCompile(name + ` (\w+);`).FindSubmatch(text)
		if found == nil {
			t.Fatalf("nginx: got no %s, want one: the default is 60 s", name)
		}
		if d, err := time.ParseDuration(string(found[1])); err != nil || d < time.Minute {
			t.Errorf("nginx: got %s %s, want at least three pings' time", name, found[1])
		}
	}
	for _, file := range []string{"Caddyfile", "replicas.Caddyfile"} {
		text, err := os.ReadFile("../deploy/caddy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		// Caddy has no limit by default; these would end long answers and bodies.
		if found := regexp.MustCompile(`\b(read_body|write|read_timeout|write_timeout|response_header_timeout)\b`).Find(text); found != nil {
			t.Errorf("%s: got %s, want no limit on how long a stream may last", file, found)
		}
	}
}

// TestProxyWaitsForRestart sends requests while the only server behind Caddy is down. A GET gets its answer once the server
// is up. A POST has one effect, or 502 and none.
func TestProxyWaitsForRestart(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	p := proxies["Caddy"].start(t, port)
	via := p.from(t, "127.0.0.1", true)
	var answered sync.WaitGroup
	statuses := make([]int, 2)
	for i, method := range []string{"GET", "POST"} {
		req, err := http.NewRequestWithContext(t.Context(), method, p.url()+"/"+method, strings.NewReader(strings.Repeat("{}", i)))
		if err != nil {
			t.Fatal(err)
		}
		answered.Go(func() {
			res, err := via.Do(req)
			if err != nil {
				t.Errorf("%s: %v", method, err)
				return
			}
			res.Body.Close()
			statuses[i] = res.StatusCode
		})
	}
	refused := func(method string) bool {
		return regexp.MustCompile(`"uri": ?"/` + method + `".*connection refused`).MatchString(p.said.tail(1 << 20))
	}
	await(t, time.Minute, "both requests to be refused once", func() bool { return refused("GET") && refused("POST") })
	r := newReplica(t, port, false)
	answered.Wait()
	if statuses[0] != http.StatusOK || r.count("/GET") != 1 {
		t.Errorf("GET: got %d, sent %d times, want 200, once", statuses[0], r.count("/GET"))
	}
	if n := r.count("/POST"); statuses[1] == http.StatusOK && n != 1 || statuses[1] != http.StatusOK && (n != 0 || statuses[1] != http.StatusBadGateway) {
		t.Errorf("POST: got %d, sent whole %d times, want 200 and once, or 502 and never", statuses[1], n)
	}
}

// TestProxiesRepeatNoPost has one replica that breaks each connection after it has read the request. A GET then gets its
// answer from the other replica. A POST is never sent twice, because the first replica may have done the work.
func TestProxiesRepeatNoPost(t *testing.T) {
	t.Parallel()
	for name, sample := range proxies {
		if !sample.many {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			breaking, working := newReplica(t, freePort(t), true), newReplica(t, freePort(t), false)
			p := sample.start(t, breaking.port, working.port)
			via := p.from(t, "127.0.0.1", false)
			statuses := map[string]int{}
			sent, kinds := 0, []string{"GET", "POST-with-body", "POST-without"}
			await(t, time.Minute, "all kinds of requests to meet the broken replica", func() bool {
				// At random, because a proxy that takes turns would send the same kind to the same replica.
				kind := kinds[rand.IntN(len(kinds))]
				sent++
				path := fmt.Sprintf("/%s/%d", kind, sent)
				method, _, _ := strings.Cut(kind, "-")
				var body io.Reader
				if kind == "POST-with-body" {
					body = strings.NewReader("{}")
				}
				req, err := http.NewRequestWithContext(t.Context(), method, p.url()+path, body)
				if err != nil {
					t.Fatal(err)
				}
				res, err := via.Do(req)
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				res.Body.Close()
				statuses[fmt.Sprint(method, " ", res.StatusCode)]++
				n := breaking.count(path) + working.count(path)
				if method == "GET" && res.StatusCode != http.StatusOK {
					t.Errorf("%s: got %d after %d tries, want the other replica's answer", path, res.StatusCode, n)
				}
				if method == "POST" && n != 1 {
					t.Errorf("%s: got sent %d times, want once", path, n)
				}
				return breaking.met("/GET/") && breaking.met("/POST-with-body/") && breaking.met("/POST-without/")
			})
			t.Logf("answers: %v", statuses)
		})
	}
}
