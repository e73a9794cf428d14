package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// replica stands in for a server that may break connections, and counts requests by path.
type replica struct {
	port string
	mu   sync.Mutex
	seen map[string]int
}

func newReplica(t *testing.T, port string, broken bool) *replica {
	t.Helper()
	r := &replica{port: port, seen: map[string]int{}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil || req.URL.Path == "/ready" {
			return // cloudbot refuses a body that ends too early, too
		}
		r.mu.Lock()
		r.seen[req.URL.Path]++
		r.mu.Unlock()
		if broken {
			panic(http.ErrAbortHandler)
		}
	}))
	s.Listener.Close()
	var err error
	if s.Listener, err = net.Listen("tcp", "127.0.0.1:"+port); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(s.Close)
	return r
}

func (r *replica) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[path]
}

// met reports whether a request below a path came.
func (r *replica) met(prefix string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for path := range r.seen {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

// TestProxiesDrain restarts two replicas, one after the other, behind both proxies at once, while users read and write
// through them. Each answer is a result. A POST that may have been lost gets 502, and its repetition with the same
// Idempotency-Key has one effect.
func TestProxiesDrain(t *testing.T) {
	t.Parallel()
	env := append(secretsOf(), "DATABASE_URL="+pgtest.New(t), "NATS_URL="+startNATS(t, natsserver.RANDOM_PORT), "LOCAL_MACHINES_DIR="+t.TempDir(),
		"TRUSTED_PROXIES=127.0.0.1", "SHUTDOWN_GRACE=2s")
	a, b := newServer(t, env...), newServer(t, env...)
	a.start()
	b.start()
	token := signUp(t, a.URL, "edith@example.com").token
	var mu sync.Mutex
	answers := map[string]int{}
	total := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range answers {
			n += m
		}
		return n
	}
	stop := make(chan struct{})
	var working sync.WaitGroup
	defer working.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	for name, sample := range proxies {
		if !sample.many {
			continue
		}
		p := sample.start(t, a.port, b.port)
		for n := range 4 {
			c := &client{t: t, base: p.url(), token: token, via: p.from(t, fmt.Sprint("127.0.1.", n+1), n%2 == 0)}
			working.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					method, path, body := "GET", "/api/instances", ""
					if i%2 == 1 {
						method, path, body = "POST", "/api/user/api-keys", fmt.Sprintf(`{"provider":"openai","api_key":"sk-%s-%d-%016d"}`, strings.Map(letters, name), n, i)
					}
					r, err := c.try(method, path, body, "Idempotency-Key", fmt.Sprintf("%s-%d-%d", strings.Map(letters, name), n, i))
					if err == nil && method == "POST" && r.status == http.StatusBadGateway {
						mu.Lock()
						answers[name+": POST repeated"]++
						mu.Unlock()
						r, err = c.try(method, path, body, "Idempotency-Key", fmt.Sprintf("%s-%d-%d", strings.Map(letters, name), n, i))
					}
					mu.Lock()
					answers[fmt.Sprint(name, ": ", method, " ", r.status)]++
					mu.Unlock()
					if err != nil || r.status >= 300 {
						t.Errorf("%s: %s %s: got %d, %v, want a result\n%.300s", name, method, path, r.status, err, r.body)
						return
					}
				}
			})
		}
	}
	more := func(when string) {
		before := total()
		await(t, time.Minute, "answers "+when, func() bool { return total() > before+100 })
	}
	more("of both replicas")
	for _, s := range []*server{a, b} {
		if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-s.exit:
		case <-time.After(60 * time.Second):
			t.Fatal("the replica still runs after 60 s, want it stopped")
		}
		more("of one replica")
		s.start()
		more("of both replicas again")
	}
	end()
	working.Wait()
	t.Logf("two replicas restarted behind two proxies: %v", answers)
}

// letters keeps only the letters of a name.
func letters(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}
