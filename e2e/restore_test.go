package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestRestored replaces the database of a running server with an older copy. An open event stream is reset and gets all
// events again. A user who signed up after the copy can do nothing and writes nothing.
func TestRestored(t *testing.T) {
	t.Parallel()
	database, admin := pgtest.New(t), pgtest.Empty(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	s := newServer(t, "DATABASE_URL="+database)
	s.start()
	ada := signUp(t, s.URL, "ada@example.com")
	ada.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdef0123456789"}`)
	s.stop()
	execute(t, admin, fmt.Sprintf(`CREATE DATABASE %q TEMPLATE %q`, name+"_copy", name))

	s.start()
	eve := signUp(t, s.URL, "eve@example.com")
	ada.must(http.StatusOK, "PUT", "/api/user/api-keys/openai", `{"api_key":"sk-another0123456789abcdef0123456789"}`)
	lines, leave, err := ada.stream("/api/events", "0", 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	until := func(prefix string) (line string) {
		t.Helper()
		for lines.Scan() {
			if line = lines.Text(); strings.HasPrefix(line, prefix) {
				return line
			}
		}
		t.Fatalf("no %q on the stream: %v", prefix, lines.Err())
		return ""
	}
	until("event: apikey.stored")
	for _, sql := range []string{
		fmt.Sprintf(`ALTER DATABASE %q ALLOW_CONNECTIONS false`, name),
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '` + name + `'`,
		fmt.Sprintf(`ALTER DATABASE %q RENAME TO %q`, name, name+"_lost"),
		fmt.Sprintf(`ALTER DATABASE %q RENAME TO %q`, name+"_copy", name),
	} {
		execute(t, admin, sql)
	}
	until("event: reset")
	if first := until("id: "); !strings.HasPrefix(first, "id: 2-") {
		t.Errorf("the first ID after the reset: got %s, want one of epoch 2", first)
	}
	until("event: apikey.stored")

	// Eve's token is still valid, but the log does not know her.
	head := s.verify().Log
	for _, c := range [][3]string{
		{"GET", "/api/auth/me"}, {"POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdef0123456789"}`},
		{"POST", "/api/instances", `{}`}, {"POST", "/api/auth/logout"},
	} {
		eve.must(http.StatusUnauthorized, c[0], c[1], c[2])
	}
	if after := s.verify(); after.Log != head || after.Epoch != 2 {
		t.Errorf("got %+v, want %d events in epoch 2", after, head)
	}
	// A client that reconnects with its last event ID is reset too.
	again, leaveAgain, err := ada.stream("/api/events", fmt.Sprintf("1-%d", head+3), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer leaveAgain()
	for again.Scan() && again.Text() != "event: reset" {
		if strings.HasPrefix(again.Text(), "event: ") {
			t.Fatalf("got %s, want event: reset", again.Text())
		}
	}
	// The first append finds that the log has changed under the store, and fails.
	await(t, 20*time.Second, "her next command", func() bool {
		a, err := ada.try("PUT", "/api/user/api-keys/openai", `{"api_key":"sk-another0123456789abcdef0123456789"}`)
		return err == nil && a.status == http.StatusOK
	})
}
