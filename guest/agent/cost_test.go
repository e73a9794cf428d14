package agent_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// TestCallsNoModelUnasked counts what a real OpenClaw asks of its paid model: one request for a plain turn, one more for the title
// of a new chat, which no setting turns off, and none while it is idle.
func TestCallsNoModelUnasked(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	for _, c := range []struct{ provider, key, api, path string }{
		{"openai", "OPENAI_API_KEY", "openai-responses", "/v1"}, // has embeddings, too
		{"anthropic", "ANTHROPIC_API_KEY", "anthropic-messages", ""},
	} {
		t.Run(c.provider, func(t *testing.T) { // one at a time: a gateway takes 1 GB
			p := modeltest.Start(t, nil)
			g := startGateway(t, map[string]string{c.key: "sk-" + c.provider}, fmt.Sprintf(
				`{"models":{"providers":{%q:{"baseUrl":%q,"api":%q}}}}`, c.provider, p.URL+c.path, c.api), false)
			for turn, session := range []string{"agent:main:main", "agent:main:main", ""} {
				text, err := g.askIn(session, "remember that my cat is called Tom, and answer in a few words")
				if err != nil || text != modeltest.Words {
					t.Fatalf("turn %d: got answer %q %v, want %q and no error\ngateway: %s", turn, text, err, modeltest.Words, g.out.tail())
				}
			}
			// OpenClaw's extras came within seconds of a turn; reviews of long turns come after 30 s.
			for titled := time.After(60 * time.Second); p.Count() < 4; {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-titled:
					t.Fatalf("got %d requests, want one of a title, too: %v", p.Count(), p)
				}
			}
			for tick, end, idle := time.Tick(time.Second), time.After(2*time.Minute), true; idle; {
				select {
				case <-tick:
				case <-end:
					idle = false
				}
				if n := p.Count(); n != 4 {
					t.Fatalf("got %d requests, want 4, one for each turn and one for a title: %v", n, p)
				}
			}
			if log := g.out.tail(); strings.Contains(log, "nvalid config") {
				t.Errorf("got a complaint about the configuration, want none: %s", log)
			}
		})
	}
}
