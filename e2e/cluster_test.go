package e2e

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/natstest"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestClusterOfNATS stops each of three NATS servers in turn, under a server with a desktop. While one is down,
// browsers can sign in and open the desktop, commands are accepted, and events reach the stream.
func TestClusterOfNATS(t *testing.T) {
	t.Parallel()
	c := natstest.NewCluster(t, 3)
	s := newServer(t, "DATABASE_URL="+pgtest.New(t), "NATS_URL="+c.URL())
	s.start()
	u := signUp(t, s.URL, "ada@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	u.awaitInstance(id, "ready", "true")
	whole := func() (last counts, ok bool) {
		out, err := s.tool("verify", "--json") // which fails while the stream has no leader
		ok = err == nil && json.Unmarshal([]byte(out), &last) == nil && last.Log == last.Stream && last.Missing+last.Extra+last.Different == 0
		return last, ok
	}
	for i, name := range []string{"one", "two", "three"} {
		c.Stop(i)
		began := time.Now()
		if shot, err := u.screenshot(id); err != nil || shot.colours < 2 {
			t.Errorf("server %d is down: got desktop %+v, %v, want 2 or more colours", i, shot, err)
		}
		opened := time.Since(began)
		u.must(http.StatusOK, "PATCH", "/api/instances/"+id, `{"name":"`+name+`"}`)
		u.must(http.StatusOK, "POST", "/api/auth/login", `{"email":"ada@example.com","password":"a long enough pass phrase"}`)
		await(t, time.Minute, "log and stream to be the same while a server is down", func() bool { _, ok := whole(); return ok })
		t.Logf("server %d down: the desktop opened in %s", i, opened.Round(time.Millisecond))
		c.Start(t, i)
		c.Settle(t)
	}
	var last counts
	await(t, time.Minute, "log and stream to be the same with all servers", func() (ok bool) { last, ok = whole(); return ok })
	if last.Epoch != 1 {
		t.Errorf("got epoch %d, want 1: %+v", last.Epoch, last)
	}
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}
