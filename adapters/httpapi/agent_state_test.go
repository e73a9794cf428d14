package httpapi

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// What an agent needs is in the instance, the list and the answer to a change, for its owner only. The answer to a
// create never has it, so that a repeated create gets the same bytes.
func TestAgentState(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	states := map[string]wire.State{}
	f := newFront(t, func(c *Config) {
		c.AgentState = func(id string) wire.State {
			mu.Lock()
			defer mu.Unlock()
			return states[id]
		}
	})
	ada, eve := f.signUp("ada@example.com"), f.signUp("eve@example.com")
	id, other := f.running(ada, "waits"), f.running(ada, "works")
	theirs := f.running(eve, "theirs")
	see := func(what, want string) {
		t.Helper()
		path := "/api/instances/" + id
		for _, c := range []call{{method: "GET", path: "/api/instances"}, {method: "GET", path: path}, {method: "PATCH", path: path, body: `{"name":"waits"}`}} {
			c.token = ada.access
			body := string(f.want(200, c).body)
			if got := strings.Count(body, `"agent_state":`+want); got < 1 {
				t.Errorf("%s, %s %s: got %s, want agent_state %s", what, c.method, c.path, body, want)
			}
		}
		for _, p := range []string{"/api/instances/" + other, "/api/instances/" + theirs} {
			token := map[bool]string{true: ada.access, false: eve.access}[p == "/api/instances/"+other]
			if body := string(f.want(200, call{method: "GET", path: p, token: token}).body); !strings.Contains(body, `"agent_state":null`) {
				t.Errorf("%s, %s: got %s, want agent_state null", what, p, body)
			}
		}
		if body := string(f.want(200, call{method: "GET", path: "/api/instances", token: eve.access}).body); strings.Contains(body, id) || strings.Contains(body, `"approvals"`) {
			t.Errorf("%s, another account's list: got %s, want nothing of %s", what, body, id)
		}
		f.want(404, call{method: "GET", path: path, token: eve.access})
	}
	set := func(s wire.State) {
		mu.Lock()
		defer mu.Unlock()
		states[id] = s
	}
	see("nothing", `null`)
	set(wire.State{Approvals: 1, Until: time.Date(2026, 11, 27, 23, 30, 0, 0, time.UTC)})
	see("an approval", `{"approvals":1,"questions":0,"until":"2026-11-27T23:30:00Z","held":false,"runs":0,"viewers":0}`)
	set(wire.State{Questions: 2, Held: true})
	see("questions", `{"approvals":0,"questions":2,"until":null,"held":true,"runs":0,"viewers":0}`)
	set(wire.State{Viewers: 2})
	see("viewers", `{"approvals":0,"questions":0,"until":null,"held":false,"runs":0,"viewers":2}`)
	set(wire.State{Runs: 2})
	see("work", `{"approvals":0,"questions":0,"until":null,"held":false,"runs":2,"viewers":0}`)
	create := call{method: "POST", path: "/api/instances", token: ada.access, body: `{}`, header: map[string]string{"Idempotency-Key": "k"}}
	first := f.want(202, create)
	set(wire.State{})
	mu.Lock()
	states[first.field(t, "id")] = wire.State{Approvals: 1}
	mu.Unlock()
	if again := f.want(202, create); string(again.body) != string(first.body) || !strings.Contains(string(first.body), `"agent_state":null`) {
		t.Errorf("repeated create: got %s, want %s with agent_state null", again.body, first.body)
	}
}
