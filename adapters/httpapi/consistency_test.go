package httpapi

import (
	"fmt"
	"testing"

	"github.com/cloudbot-ai/control-plane/projections"
)

// steered returns a front whose read models are at the position of at.
func steered(t *testing.T) (f *front, at *projections.Progress) {
	at = &projections.Progress{}
	return newFront(t, func(c *Config) { c.Progress = at }), at
}

func TestAWriteAnswersOnceItCanBeRead(t *testing.T) {
	t.Parallel()
	f, at := steered(t)
	at.Set("all", 1_000_000)
	ada := f.signUp("ada@example.com")
	before := f.head()
	at.Set("all", before)
	answered := make(chan answer, 1)
	go func() {
		answered <- f.do(call{method: "POST", path: "/api/user/api-keys", token: ada.access, body: `{"provider":"openai","api_key":"sk-0123456789abcdef"}`})
	}()
	hints := f.store.Notifications(t.Context())
	for f.head() == before {
		select {
		case <-hints:
		case a := <-answered:
			t.Fatalf("got an answer before the command was recorded, want none: %d %s", a.status, a.body)
		}
	}
	at.Set("all", before+1)
	if a := <-answered; a.status != 201 || a.position(t) != before+1 || a.header.Get("Cloudbot-Behind") != "" {
		t.Errorf("got %d %v, want 201 at position %d and not behind", a.status, a.header, before+1)
	}
}

func TestAWriteWaitsABoundedTime(t *testing.T) {
	t.Parallel()
	f, _ := steered(t) // read models that follow nothing
	for i, c := range []struct {
		prefer string
		async  bool
	}{{"", false}, {"respond-async", true}, {"handling=lenient, Respond-Async; x=1", true}, {"return=minimal", false}} {
		a := f.want(201, call{method: "POST", path: "/api/auth/signup", header: map[string]string{"Prefer": c.prefer},
			body: map[string]string{"email": fmt.Sprint(i, "@example.com"), "password": canary}})
		if a.header.Get("Cloudbot-Position") == "" || (a.header.Get("Preference-Applied") == "respond-async") != c.async ||
			(a.header.Get("Cloudbot-Behind") == "true") == c.async {
			t.Errorf("Prefer %q: got %v, want a position, applied %v and behind %v", c.prefer, a.header, c.async, !c.async)
		}
	}
}
