package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

// TestDatabaseRestarts stops Postgres immediately and starts it again, while users read and write. Each answer is a
// result or asks to retry. None reports a broken server or a wrong password.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	const users, restarts = 6, 5
	dir, err := os.MkdirTemp("", "cloudbot-restarts-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // the server's user passes through
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	start := func() *embedded.Postgres {
		t.Helper()
		p, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: filepath.Join(dir, "pg")})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	db := start()
	s := newServer(t, "DATABASE_URL="+db.URL(), "TRUSTED_PROXIES=127.0.0.0/8")
	s.start()
	var all []*client
	for n := range users {
		all = append(all, signUp(t, s.URL, fmt.Sprintf("user%d@example.com", n)))
	}
	read := func() time.Duration {
		began := time.Now()
		all[0].must(http.StatusOK, "GET", "/api/user/api-keys", "")
		return time.Since(began)
	}
	alone := read()

	var mu sync.Mutex
	counts := map[int]int{}
	note := func(call string, a answer, err error) {
		mu.Lock()
		defer mu.Unlock()
		counts[a.status]++
		switch {
		case err != nil:
			t.Errorf("%s: %v", call, err)
		case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "":
			t.Errorf("%s: got 503 without Retry-After, want one: %s", call, a.body)
		case a.status >= 500 && a.status != http.StatusServiceUnavailable, a.status == http.StatusUnauthorized:
			t.Errorf("%s: got %d %s, want a result or 503", call, a.status, a.body)
		}
	}
	stop := make(chan struct{})
	var working sync.WaitGroup
	for n, c := range all {
		for _, call := range []struct{ method, path, body string }{
			{"GET", "/api/user/api-keys", ""}, {"GET", "/api/instances", ""}, {"GET", "/api/auth/me", ""}, {"GET", "/api/auth/sessions", ""},
			{"GET", "/api/boot-times", ""}, {"POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdefghij"}`},
			{"POST", "/api/instances/01JZ8Q3M5T9V2X4Y6A8C0E2G4J/stop", ""},
			{"POST", "/api/auth/login", fmt.Sprintf(`{"email":"user%d@example.com","password":"a long enough pass phrase"}`, n)},
			{"POST", "/api/auth/signup", `{"email":"new%d@example.com","password":"a long enough pass phrase"}`},
		} {
			working.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					body := call.body
					if strings.Contains(body, "%d") {
						body = fmt.Sprintf(body, 1000*n+i)
					}
					// Each from its own address, so that no limit applies.
					a, err := c.try(call.method, call.path, body, "X-Forwarded-For", fmt.Sprintf("10.%d.%d.%d", n, i/250, i%250))
					note(call.method+" "+call.path, a, err)
				}
			})
		}
	}
	unavailable := func() int {
		mu.Lock()
		defer mu.Unlock()
		return counts[http.StatusServiceUnavailable]
	}
	for range restarts {
		before := unavailable()
		pid, err := os.ReadFile(filepath.Join(dir, "pg", "data", "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(pid), "\n")
		postmaster, err := strconv.Atoi(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(postmaster, syscall.SIGQUIT); err != nil { // immediate
			t.Fatal(err)
		}
		<-db.Gone()
		await(t, time.Minute, "answers without a database", func() bool { return unavailable() > before+users })
		_ = db.Close() // it has already ended, and not in order
		db = start()
		await(t, time.Minute, "a write", func() bool {
			a, err := all[0].try("POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdefghij"}`)
			return err == nil && a.status == http.StatusCreated
		})
	}
	close(stop)
	working.Wait()
	t.Logf("%d restarts of Postgres under %d users, answers by status: %v; a read afterwards took %s, before %s", restarts, users, counts, read(), alone)
	if total := counts[503]; total < 100 {
		t.Errorf("answers without a database: got %d, want 100 or more", total)
	}
	s.verify()
}
