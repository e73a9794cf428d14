package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer is a small load balancer: it sends each request to a replica whose /ready answers 200, in turn, and counts what
// clients get from it. It repeats no request.
type balancer struct {
	url string

	mu       sync.Mutex
	backends []*backend
	turn     int
	faults   map[string]int // answers of 500 or above, by program, status and what was asked for
	told     int            // WebSockets that a stopping replica told to come back: 503 "restarting"
	requests int
}

// backend is one replica.
type backend struct {
	name   string
	proxy  *httputil.ReverseProxy
	pool   *http.Transport
	ready  atomic.Bool
	leave  context.CancelFunc
	looked chan struct{} // closed when the health check has ended
}

func newBalancer(t *testing.T) *balancer {
	b := &balancer{faults: map[string]int{}}
	front := httptest.NewServer(b)
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
	})
	b.url = front.URL
	return b
}

// add begins to send requests to a replica once it is ready.
func (b *balancer) add(t *testing.T, base, program string) {
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := &backend{name: base, leave: cancel, looked: make(chan struct{}), pool: &http.Transport{MaxIdleConnsPerHost: 100}}
	m.proxy = &httputil.ReverseProxy{
		Transport:      m.pool,
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host; forward(r) },
		ModifyResponse: func(res *http.Response) error { return b.count(program, res) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil && !errors.Is(err, context.Canceled) {
				b.fault(program, http.StatusBadGateway, r, err.Error())
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	b.mu.Lock()
	b.backends = append(b.backends, m)
	b.mu.Unlock()
	go m.look(ctx, base)
}

// forward adds the client's address, as a proxy does.
func forward(r *httputil.ProxyRequest) {
	if from := r.In.Header.Get("X-Forwarded-For"); from != "" {
		r.Out.Header.Set("X-Forwarded-For", from)
	}
	r.SetXForwarded()
}

// look checks /ready about twice a second; docs/production.md asks for once in two seconds.
func (m *backend) look(ctx context.Context, base string) {
	defer close(m.looked)
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}
	for tick := time.NewTicker(400 * time.Millisecond); ; {
		res, err := client.Get(base + "/ready")
		ready := err == nil && res.StatusCode == http.StatusOK
		if err == nil {
			res.Body.Close()
		}
		if m.ready.Swap(ready) && !ready {
			m.pool.CloseIdleConnections()
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			client.CloseIdleConnections()
			return
		case <-tick.C:
		}
	}
}

// remove forgets a replica that has ended.
func (b *balancer) remove(base string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range b.backends {
		if m.name == base {
			b.backends = append(b.backends[:i:i], b.backends[i+1:]...)
			m.leave()
			m.pool.CloseIdleConnections()
			return
		}
	}
}

// holds reports whether a replica gets requests.
func (b *balancer) holds(base string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.backends {
		if m.name == base {
			return m.ready.Load()
		}
	}
	return false
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := b.next()
	if m == nil {
		b.fault("balancer", http.StatusServiceUnavailable, r, "no replica is ready")
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	m.proxy.ServeHTTP(w, r)
}

func (b *balancer) next() *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests++
	for range b.backends {
		b.turn++
		if m := b.backends[b.turn%len(b.backends)]; m.ready.Load() {
			return m
		}
	}
	return nil
}

// count counts answers of 500 or above, as clients get them.
func (b *balancer) count(program string, res *http.Response) error {
	if res.StatusCode < 500 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return err
	}
	res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(text))
	if res.StatusCode == http.StatusServiceUnavailable && res.Request.Header.Get("Upgrade") != "" && strings.Contains(string(text), `"restarting"`) {
		b.mu.Lock()
		b.told++
		b.mu.Unlock()
		return nil
	}
	b.fault(program, res.StatusCode, res.Request, (answer{body: text}).field("code"))
	return nil
}

func (b *balancer) fault(program string, status int, r *http.Request, why string) {
	parts := strings.Split(r.URL.Path, "/")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults[fmt.Sprintf("%s: %d %s …/%s %s", program, status, r.Method, parts[len(parts)-1], why)]++
}

// snapshot returns the counts.
func (b *balancer) snapshot() (requests, told int, faults map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	faults = map[string]int{}
	for k, n := range b.faults {
		faults[k] = n
	}
	return b.requests, b.told, faults
}
