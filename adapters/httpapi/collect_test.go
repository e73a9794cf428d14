package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/fair"
)

// Addresses of the tests' clients, behind a trusted proxy.
const (
	hostile   = "198.51.100.7"
	elsewhere = "203.0.113.9"
)

func behindProxy(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// from is c as a client with an address sends it.
func from(addr string, c call) call {
	c.header = map[string]string{"X-Forwarded-For": addr}
	return c
}

// timed logs how long an honest call took, for the table that make faults prints.
func (f *front) timed(status int, c call) time.Duration {
	f.t.Helper()
	began := time.Now()
	f.want(status, c)
	return time.Since(began)
}

// halfSent opens a connection and sends the beginning of a body.
func (f *front) halfSent(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "POST /api/auth/login HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{", addr); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestHostileHalfSentBodies holds 2,200 bodies half-sent from one address.
func TestHostileHalfSentBodies(t *testing.T) {
	t.Parallel()
	const crowd = 2200
	f := newFront(t, func(c *Config) { behindProxy(c); c.BodyTime = 10 * time.Minute })
	ada := f.signUp("ada@example.com")
	login := from(elsewhere, login("ada@example.com", canary))
	alone := f.timed(200, login)

	share := f.server.cfg.Limits.BodiesAddress / (bodyCost + 100)
	refused := make(chan string, crowd)
	var all sync.WaitGroup
	defer all.Wait()
	for range crowd {
		conn := f.halfSent(t, hostile)
		all.Go(func() {
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // held until the test ends
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			refused <- fmt.Sprintf("%d %v after %s, closed %v", res.StatusCode, strings.Contains(string(body), `"too_many_from_address"`), res.Header.Get("Retry-After"), res.Close)
		})
		defer conn.Close()
	}
	deadline := time.After(2 * time.Minute)
	for n := range crowd - share {
		select {
		case got := <-refused:
			if got != "429 true after 1, closed true" {
				t.Fatalf("a body above its network's share: got %s, want 429 true after 1, closed true", got)
			}
		case <-deadline:
			t.Fatalf("refused bodies: got %d, want %d", n, crowd-share)
		}
	}
	held := func() (bytes, requests int) {
		bytes, _ = f.server.bodies.Used()
		requests, _ = f.server.requests.Used()
		return
	}
	if bytes, requests := held(); bytes != share*(bodyCost+100) || requests != 0 {
		t.Errorf("%d bytes, %d requests are held for the crowd, want %d and 0", bytes, requests, share*(bodyCost+100))
	}
	beside := f.timed(200, login)
	f.want(200, from(elsewhere, call{method: "GET", path: "/api/auth/me", token: ada.access}))
	f.want(200, from(hostile, call{method: "GET", path: "/health"}))
	f.want(200, from(hostile, call{method: "GET", path: "/ready"}))
	f.want(200, from(hostile, call{method: "GET", path: "/api/auth/me", token: ada.access})) // no body, so no share of bodies
	if bytes, _ := held(); bytes != share*(bodyCost+100) {
		t.Errorf("bytes held for the crowd: got %d, want %d", bytes, share*(bodyCost+100))
	}
	t.Logf("another's log-in beside %d half-sent bodies: %s; alone: %s", crowd, beside, alone)
}

// TestHostileSlowBody sends a body byte by byte: fast enough to avoid the connection's timeout, too slowly to end.
func TestHostileSlowBody(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.BodyTime = 100 * time.Millisecond })
	conn := f.halfSent(t, hostile)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 408 || !strings.Contains(string(body), `"body_too_slow"`) || !res.Close {
		t.Errorf("got %d %s, closed %v, want 408 body_too_slow, closed", res.StatusCode, body, res.Close)
	}
	if bytes, keys := f.server.bodies.Used(); bytes != 0 || keys != 0 {
		t.Errorf("held: got %d bytes of %d networks, want none", bytes, keys)
	}
}

// TestABodyLeavesNoDeadline uses one connection for two bodies, and checks its deadline while they are answered:
// an expired deadline would look like a client that disconnected.
func TestABodyLeavesNoDeadline(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	watched := &deadlines{Listener: ln}
	f.server.echo.POST("/echo", func(c echo.Context) error {
		body, err := io.ReadAll(c.Request().Body)
		return c.String(200, fmt.Sprint(string(body), err, watched.last.Load()))
	})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- f.server.Run(ctx, watched) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, body := range []string{"Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"} {
		if _, err := io.WriteString(conn, "POST /echo HTTP/1.1\r\nHost: example.com\r\n"+body); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprint("hi", nil, time.Time{}.UnixNano()); string(got) != want || res.Close {
			t.Errorf("%q, want %q; closed %v", got, want, res.Close)
		}
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// deadlines is a listener that remembers the last read deadline of its single connection.
type deadlines struct {
	net.Listener
	last atomic.Int64
}

type watchedConn struct {
	net.Conn
	last *atomic.Int64
}

func (d *deadlines) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	return watchedConn{conn, &d.last}, err
}

func (w watchedConn) SetReadDeadline(at time.Time) error {
	w.last.Store(at.UnixNano())
	return w.Conn.SetReadDeadline(at)
}

// TestHalfABodyHoldsUpNoStream sends half a body with requests that use none.
func TestHalfABodyHoldsUpNoStream(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	for _, path := range []string{"/api/events", "/health", "/ready"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(60 * time.Second))
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: example.com\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{", path, ada.access); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if res.StatusCode != 200 || !res.Close { // the stream stays open: its body is not read
			t.Errorf("%s: got %d, closed %v, want 200, closed", path, res.StatusCode, res.Close)
		}
	}
}

// TestRequestsAreSharedByNetwork keeps all requests of one network busy.
func TestRequestsAreSharedByNetwork(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { behindProxy(c); c.Limits.InFlightAddress = 2 })
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "one")
	for range 2 {
		leave, _ := f.server.requests.Take(fair.ByAddress("", netip.MustParseAddr(hostile), 2, 4, 8)...)
		defer leave()
	}
	me := call{method: "GET", path: "/api"}
	if a := f.want(429, from(hostile, me)); a.field(t, "code") != "too_many_from_address" || a.header.Get("Retry-After") == "" {
		t.Errorf("got %s with Retry-After %q, want too_many_from_address with one", a.body, a.header.Get("Retry-After"))
	}
	f.want(200, from(elsewhere, me))
	f.want(200, from("198.51.100.8", me)) // its neighbour
	f.want(200, from(hostile, call{method: "GET", path: "/health"}))
	f.want(202, from(hostile, call{method: "POST", path: "/api/instances/" + id + "/stop", token: ada.access}))
	f.want(202, from(hostile, call{method: "DELETE", path: "/api/instances/" + id, token: ada.access}))
	f.want(204, from(hostile, call{method: "POST", path: "/api/auth/logout", token: ada.access}))
}

// TestHostileBodiesOfOneProvider holds half-sent bodies from many networks of one IPv6 /32: anyone can get several
// /48s of a provider for free.
func TestHostileBodiesOfOneProvider(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { behindProxy(c); c.BodyTime = 10 * time.Minute })
	f.signUp("ada@example.com")
	held := func() int {
		bytes, _ := f.server.bodies.Used()
		return bytes
	}
	part := f.server.cfg.Limits.BodiesAddress
	var claims []func()
	for n := 0; held() < maxBodies/2 && n < 100; n++ { // as half-sent bodies would
		from := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", n))
		leave, verdict := f.server.bodies.TakeN(part, f.server.sharesOf(from, part, maxBodies)...)
		if verdict != fair.Taken {
			break
		}
		claims = append(claims, leave)
	}
	defer func() {
		for _, leave := range claims {
			leave()
		}
	}()
	f.want(429, from("2001:db8:ffff::1", login("ada@example.com", canary)))
	f.want(200, from(elsewhere, login("ada@example.com", canary)))
	if held() > maxBodies/2 {
		t.Errorf("bytes held for one provider: got %d, want at most %d", held(), maxBodies/2)
	}
}
