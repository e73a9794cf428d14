package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestHostileDoor has a crowd wait for password hashes and hold half-sent bodies, and one user who comes from
// elsewhere log in meanwhile.
func TestHostileDoor(t *testing.T) {
	t.Parallel()
	s := newServer(t, "DATABASE_URL="+pgtest.New(t), "TRUSTED_PROXIES=127.0.0.0/8")
	s.start()
	const password = `"password":"a long enough pass phrase"`
	signUp(t, s.URL, "ada@example.com")
	c := &client{t: t, base: s.URL}
	logIn := func() time.Duration {
		t.Helper()
		began := time.Now()
		c.must(http.StatusOK, "POST", "/api/auth/login", `{"email":"ada@example.com",`+password+`}`, "X-Forwarded-For", "203.0.113.9")
		return time.Since(began)
	}
	alone := logIn()

	for range 300 { // more than would be answered at a time
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 198.51.100.7\r\nContent-Length: 9\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer leave()
	var mu sync.Mutex
	statuses := map[int]int{}
	count := func(status int) int {
		mu.Lock()
		defer mu.Unlock()
		return statuses[status]
	}
	for n := range 150 {
		all.Go(func() { // each again and again, of a /48 of its own
			for i := 0; ctx.Err() == nil; i++ {
				body := fmt.Sprintf(`{"email":"u%d-%d@example.com",%s}`, n, i, password)
				req, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/api/auth/login", strings.NewReader(body))
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8:%x::1", n))
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					return
				}
				res.Body.Close()
				mu.Lock()
				statuses[res.StatusCode]++
				mu.Unlock()
			}
		})
	}
	await(t, time.Minute, "the crowd to fill its share of the queue", func() bool { return count(http.StatusTooManyRequests) > 300 && count(http.StatusUnauthorized) > 0 })
	beside := logIn()
	refused := count(http.StatusTooManyRequests)
	await(t, time.Minute, "the crowd to go on", func() bool { return count(http.StatusTooManyRequests) > refused })
	mu.Lock()
	defer mu.Unlock()
	t.Logf("a log-in beside 150 that never stop and 300 half-sent bodies: %s, alone: %s; the crowd's answers: %v", beside.Round(time.Millisecond), alone.Round(time.Millisecond), statuses)
}
