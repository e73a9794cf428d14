package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestHostileDoor lets a crowd log in without pause, which costs password hashes, while one user from another address logs
// in.
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
		all.Go(func() { // each repeatedly, from its own /48
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
	await(t, time.Minute, "the crowd to continue", func() bool { return count(http.StatusTooManyRequests) > refused })
	mu.Lock()
	defer mu.Unlock()
	t.Logf("a log-in beside 150 that never stop: %s, alone: %s; the crowd's answers: %v", beside.Round(time.Millisecond), alone.Round(time.Millisecond), statuses)
}

// TestHostileGuesses guesses a password beyond the limit. The owner can still log in from another address, and from the
// guesser's address with a browser that logged in before.
func TestHostileGuesses(t *testing.T) {
	t.Parallel()
	s := newServer(t, "DATABASE_URL="+pgtest.New(t), "TRUSTED_PROXIES=127.0.0.0/8")
	s.start()
	c := &client{t: t, base: s.URL}
	const right = `"email":"ada@example.com","password":"a long enough pass phrase"`
	logIn := func(from, more string) answer {
		return c.do("POST", "/api/auth/login", "{"+more+"}", "X-Forwarded-For", from)
	}
	c.must(http.StatusCreated, "POST", "/api/auth/signup", "{"+right+"}")
	first := logIn("192.0.2.1", right)
	device := fmt.Sprintf(`,"device_token":%q`, first.field("device_token"))
	// A place among the ten guesses is free again after 30 s, so a slow machine sees a few guesses more.
	began, guesses := time.Now(), 0 // guesses that were not refused
	guess := func() int {
		status := logIn("198.51.100.7", `"email":"Ada@example.com ","password":"a wrong pass phrase"`).status
		if status != http.StatusTooManyRequests {
			guesses++
		}
		return status
	}
	exhaust := func() {
		t.Helper()
		for status := guess(); status != http.StatusTooManyRequests; status = guess() {
			if most := 10 + int(time.Since(began)/(30*time.Second)); status != http.StatusUnauthorized || guesses > most {
				t.Fatalf("guess %d after %s: got %d, want 401, and 429 after at most %d", guesses, time.Since(began), status, most)
			}
		}
	}
	for range 5 {
		exhaust()
		if guesses < 10 {
			t.Fatalf("got 429 after %d guesses, want it after 10 or more", guesses)
		}
		if a := logIn("203.0.113.9", right); a.status != http.StatusOK {
			t.Fatalf("the owner, after guess %d: got %d, want 200: %s", guesses, a.status, a.body)
		}
	}
	refused := func() bool {
		exhaust()
		return logIn("198.51.100.7", right).status == http.StatusTooManyRequests
	}
	again := refused()
	if !again { // a place may have become free between the two, but only once
		again = refused()
	}
	if !again {
		t.Error("the right password from the address of the guesses: got 200, want 429")
	}
	if a := logIn("198.51.100.7", right+device); a.status != http.StatusOK || `,"device_token":"`+a.field("device_token")+`"` != device {
		t.Errorf("with a known device: got %d %s, want 200 with the same token", a.status, a.body)
	}
	// The token contains no secret of the server and names no person.
	if strings.Contains(device, "ada") || s.out != nil && strings.Contains(s.out.tail(1<<20), first.field("device_token")) {
		t.Error("a device's token: got the account's name in it, or the token in the log, want neither")
	}
}
