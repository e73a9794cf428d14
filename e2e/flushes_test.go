package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// Of all commits that a command causes, only those of the log wait for the disk: one for the command, and one for each later
// event that its effects record. A lone command has at most two.
func TestFlushesOfACommand(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	s := newServer(t, "DATABASE_URL="+database)
	s.start()
	c := signUp(t, s.URL, "flushes@example.com")
	commits := pgtest.WatchCommits(t, database)
	// next returns the commits since the last call that waited. The leases are renewed at any time, whatever is commanded.
	next := func() []string {
		t.Helper()
		waited, _ := commits.Next()
		return slices.DeleteFunc(waited, func(tables string) bool { return tables == "ops.leases" })
	}
	one := []string{"log.entries"}

	const key = `{"provider":"anthropic","api_key":"sk-ant-0123456789abcdef"}`
	c.must(http.StatusCreated, "POST", "/api/user/api-keys", key) // the answer comes once the read models have it
	if got := next(); !slices.Equal(got, one) {
		t.Errorf("POST /api/user/api-keys: got commits %q that waited, want one, of the log", got)
	}
	id := c.must(http.StatusAccepted, "POST", "/api/instances", `{}`).field("id")
	c.awaitInstance(id, "ready", "true")
	c.must(http.StatusCreated, "POST", "/api/user/api-keys", key)
	await(t, 60*time.Second, "the keys to be handed out", func() bool {
		return strings.Count(s.cli("events", "--aggregate", "audit"), "audit.keys_handed_out") >= 2
	})
	c.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/stop", "")
	c.awaitInstance(id, "status", "stopped")
	c.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/start", "")
	c.awaitInstance(id, "ready", "true")
	c.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	c.awaitInstance(id, "status", "terminated")

	// A life of a desktop: what waits besides the log is its user's data, a few times.
	appends := 0
	for _, tables := range next() {
		switch tables {
		case "log.entries":
			appends++
		case "ops.activity", "vault.chats": // a report of use, and the copy of chats
		default:
			t.Errorf("got a commit of %s that waited", tables)
		}
	}
	if appends == 0 {
		t.Error("got no append from the life of a desktop")
	}
}
