package httpapi

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestHostileSlowReaders requests files that need no account, repeatedly, and reads no data.
func TestHostileSlowReaders(t *testing.T) {
	t.Parallel()
	const crowd = 64
	metrics := prometheus.NewRegistry()
	f := newFront(t, func(c *Config) { behindProxy(c); c.Limits.InFlightAddress, c.Metrics = 16, metrics })
	for _, path := range []string{"/docs/files/swagger-ui-bundle.js", "/openapi.json"} {
		ask := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-For: %s\r\n\r\n", path, hostile)
		for range crowd {
			conn, err := net.Dial("tcp", strings.TrimPrefix(f.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.(*net.TCPConn).SetReadBuffer(1024)
			if _, err := conn.Write([]byte(strings.Repeat(ask, 200))); err != nil {
				t.Fatal(err)
			}
		}
	}
	// All are blocked by their unread data.
	held := func() (n float64) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "cloudbot_http_in_flight" {
				n = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return n
	}
	deadline, tick := time.After(60*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for held() < 2*crowd {
		select {
		case <-deadline:
			t.Fatalf("blocked readers: got %v, want %d", held(), 2*crowd)
		case <-tick.C:
		}
	}
	if n, _ := f.server.requests.Used(); n != 0 {
		t.Errorf("places held for slow readers: got %d, want 0", n)
	}
	f.want(200, from(hostile, call{method: "GET", path: "/api"}))
}
