package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// counts is the output of cloudbot verify: Postgres and JetStream compared event by event.
type counts struct {
	Log       int64 `json:"log"`
	Stream    int64 `json:"stream"`
	Missing   int64 `json:"missing"`
	Extra     int64 `json:"extra"`
	Different int64 `json:"different"`
	Epoch     int   `json:"epoch"`
}

// verify waits until the stream has caught up with the log and returns the checker's counts.
func (s *server) verify() counts {
	s.t.Helper()
	var c counts
	await(s.t, 20*time.Second, "JetStream to hold the whole log", func() bool {
		if err := json.Unmarshal([]byte(s.cli("verify", "--json")), &c); err != nil {
			s.t.Fatal(err)
		}
		return c.Log == c.Stream && c.Log > 0
	})
	s.t.Logf("checker: %+v", c)
	if c.Missing+c.Extra+c.Different != 0 {
		s.t.Errorf("log and stream: got %+v, want no difference", c)
	}
	return c
}

// TestWipedStream deletes JetStream's folder between two starts.
func TestWipedStream(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	u := signUp(t, s.URL, "linus@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"kept"}`).field("id")
	u.awaitInstance(id, "ready", "true")
	before := s.verify()
	rows := u.must(http.StatusOK, "GET", "/api/instances/"+id+"/history", "").body
	s.stop()

	if err := os.RemoveAll(filepath.Join(s.dir, "nats")); err != nil {
		t.Fatal(err)
	}
	s.start()
	after := s.verify()
	if after.Log < before.Log || after.Epoch != before.Epoch {
		t.Errorf("after the wipe: got %+v, want the epoch of %+v and no fewer events", after, before)
	}
	again := u.must(http.StatusOK, "GET", "/api/instances/"+id+"/history", "").body
	if !strings.HasPrefix(string(again), strings.TrimSuffix(strings.TrimSpace(string(rows)), `],"next_cursor":null}`)) {
		t.Errorf("the history: got\n%s\nwant it to begin with\n%s", again, rows)
	}
	u.awaitInstance(id, "ready", "true")
	s.cli("replay", "all")
	u.awaitInstance(id, "name", "kept")
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}

// TestTwoReplicas races two servers on one Postgres and one NATS.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	bus := startNATS(t, natsserver.RANDOM_PORT)
	machines := t.TempDir()
	for _, dir := range []string{machines, filepath.Dir(machines)} {
		if err := os.Chmod(dir, 0o711); err != nil { // the machines' users pass through
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { killIn(machines) })
	env := []string{
		"DATABASE_URL=" + pgtest.New(t), "NATS_URL=" + bus, "LOCAL_MACHINES_DIR=" + machines,
		"JWT_SECRET_KEY=" + strings.Repeat("access ", 6), "JWT_REFRESH_SECRET_KEY=" + strings.Repeat("refresh ", 6),
		"ENCRYPTION_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
	}
	a, b := newServer(t, env...), newServer(t, env...)
	for _, s := range []*server{a, b} {
		s.env = append(s.env[:len(env):len(env)], "CONTROL_PLANE_URL=http://127.0.0.1:"+a.port) // one for both, as behind a load balancer
	}
	a.start()
	b.start()
	u := signUp(t, a.URL, "margaret@example.com")
	onB := &client{t: t, base: b.URL, token: u.token, origin: a.URL} // its page has the public URL, on every replica it reaches

	// 32 creates at once, half on each, against a quota of 2.
	var mu sync.Mutex
	statuses := map[int]int{}
	var ids []string
	parallel(32, func(i int) {
		c := []*client{u, onB}[i%2]
		r, err := c.try("POST", "/api/instances", "{}")
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if statuses[r.status]++; r.status == http.StatusAccepted {
			ids = append(ids, r.field("id"))
		}
	})
	t.Logf("32 creates against a quota of 2: %v", statuses)
	if statuses[http.StatusAccepted] != 2 || statuses[http.StatusConflict] != 30 {
		t.Errorf("statuses %v, want 2 accepted and 30 conflicts", statuses)
	}
	for _, id := range ids {
		u.awaitInstance(id, "ready", "true")
		// The guest's tunnel ends on one replica; both can reach it.
		for _, c := range []*client{u, onB} {
			if shot, err := c.screenshot(id); err != nil || shot.colours < 2 {
				t.Errorf("desktop of %s over %s: got %+v, %v, want 2 or more colours", id, c.base, shot, err)
			}
		}
	}

	// 50 refreshes of one token at once.
	login := u.must(http.StatusOK, "POST", "/api/auth/login", `{"email":"margaret@example.com","password":"a long enough pass phrase"}`)
	refresh := fmt.Sprintf(`{"refresh_token":%q}`, login.field("refresh_token"))
	leaves := map[string]bool{}
	parallel(50, func(i int) {
		c := &client{t: t, base: []string{a.URL, b.URL}[i%2]}
		if r, err := c.try("POST", "/api/auth/refresh", refresh); err == nil && r.status == http.StatusOK {
			mu.Lock()
			defer mu.Unlock()
			leaves[r.field("refresh_token")] = true
		}
	})
	t.Logf("50 refreshes of one token: %d different successors", len(leaves))
	if len(leaves) > 1 {
		t.Errorf("live successors of one token: got %d, want at most 1", len(leaves))
	}

	// One of them dies; the other continues with everything.
	a.kill()
	for _, id := range ids {
		onB.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
		onB.awaitInstance(id, "status", "terminated")
	}
	b.verify()
}

func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// startNATS starts a NATS that several servers reach, and returns its URL.
func startNATS(t *testing.T, port int) string {
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS does not come up")
	}
	return s.ClientURL()
}

// TestNATSAbsentAtStart takes an instance through its life without NATS, and then starts NATS.
func TestNATSAbsentAtStart(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := newServer(t, "DATABASE_URL="+pgtest.New(t), "NATS_URL=nats://127.0.0.1:"+port)
	s.launch()
	s.waitUp()
	u := signUp(t, s.URL, "radia@example.com")
	await(t, 20*time.Second, "/ready to report that NATS is unreachable", func() bool {
		a, err := u.try("GET", "/ready", "")
		return err == nil && a.status == http.StatusOK && a.field("checks.nats") == "degraded" && a.field("degraded") != ""
	})
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")

	n, _ := strconv.Atoi(port)
	startNATS(t, n)
	await(t, 20*time.Second, "/ready to report NATS again", func() bool {
		a, err := u.try("GET", "/ready", "")
		return err == nil && a.status == http.StatusOK && a.field("degraded") == ""
	})
	s.waitReady()
	if c := s.verify(); c.Log < 10 {
		t.Errorf("relayed events: got %d, want 10 or more", c.Log)
	}
	if shot, err := u.screenshot(id); err != nil || shot.colours < 2 {
		t.Errorf("desktop: got %+v, %v, want 2 or more colours", shot, err)
	}
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}
