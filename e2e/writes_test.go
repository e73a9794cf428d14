package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A client that writes and then reads sees what it wrote, without sending a position.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	c := signUp(t, s.URL, "writer@example.com")
	stale := 0
	for i := range 30 {
		key := fmt.Sprintf("sk-ant-0123456789abcdef%04d", i)
		c.must(http.StatusCreated, "POST", "/api/user/api-keys", fmt.Sprintf(`{"provider":"anthropic","api_key":%q}`, key))
		if list := c.must(http.StatusOK, "GET", "/api/user/api-keys", ""); !strings.Contains(string(list.body), fmt.Sprintf(`"%04d"`, i)) {
			stale++
		}
	}
	if stale > 0 {
		t.Errorf("stale lists: got %d of 30, want 0", stale)
	}
}

// Failed log-ins, and reads of keys and diagnostics, appear in the account's history and in the log.
func TestAuditTrail(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	c := signUp(t, s.URL, "audited@example.com")
	c.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"anthropic","api_key":"sk-ant-0123456789abcdef"}`)
	id := c.must(http.StatusAccepted, "POST", "/api/instances", `{}`).field("id")
	c.awaitInstance(id, "ready", "true")
	c.must(http.StatusOK, "GET", "/api/instances/"+id+"/debug/check", "")
	c.must(http.StatusUnauthorized, "POST", "/api/auth/login", `{"email":"audited@example.com","password":"not the pass phrase"}`)
	for path, want := range map[string][]string{
		"/api/auth/history":                 {"audit.log_in_failed"},
		"/api/instances/" + id + "/history": {"audit.keys_handed_out", "audit.diagnostics_read"},
	} {
		for _, typ := range want {
			await(t, 20*time.Second, typ, func() bool {
				return strings.Contains(string(c.must(http.StatusOK, "GET", path, "").body), `"`+typ+`"`)
			})
		}
	}
	if out := s.cli("events", "--aggregate", "audit"); !strings.Contains(out, "audit.log_in_failed") || !strings.Contains(out, "audit.keys_handed_out") {
		t.Errorf("got %s, want audit.log_in_failed and audit.keys_handed_out", out)
	}
}
