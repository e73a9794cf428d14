package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// TestToolsBesideAServer starts, beside a server, the commands that need the data folder for themselves. While the
// server runs, each refuses and names its URL.
func TestToolsBesideAServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	for _, tool := range []string{"serve", "migrate"} {
		if out, err := s.tool(tool); err == nil || !strings.Contains(out, "at "+s.URL+" (process ") {
			t.Errorf("%s beside a server: got %v, want a refusal that names its URL and process\n%s", tool, err, out)
		}
	}
	replica := *s
	replica.env = []string{"DATABASE_URL=" + pgtest.New(t)}
	if out, err := replica.tool("serve"); err == nil || !strings.Contains(out, "(CloudBot runs at "+s.URL+"); set HOST or PORT to another") {
		t.Errorf("a replica on the same port: got %v, want a refusal that names the server's URL\n%s", err, out)
	}
	for tool, want := range map[string]string{
		"events --aggregate nonsense": "choose one of account, apikey, audit, billing, budget, email, fleet, instance, invite, quota, restore, session",
		"replay":                      "name one projection to rebuild: ",
		"replay nonsense":             `there is no projection "nonsense"; choose one of accounts, `,
		"reconcile":                   "reconcile is for machines on EC2",
	} {
		if out, err := s.tool(strings.Fields(tool)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: got %v, want %q\n%s", tool, err, want, out)
		}
	}
	// The file of a killed server proves nothing.
	s.kill()
	if out, err := s.tool("migrate"); err != nil || !strings.Contains(out, "the schema is up to date") {
		t.Errorf("after the server was killed: got %v, want the schema up to date\n%s", err, out)
	}
}

// TestFirstSteps runs README's first steps twice in a row. They work both times.
func TestFirstSteps(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, steps, found := strings.Cut(string(readme), "## First steps by hand\n\n```sh\n")
	steps, _, ended := strings.Cut(steps, "```\n")
	if !found || !ended {
		t.Fatal("README has no first steps")
	}
	s := newServer(t)
	s.start()
	script := strings.ReplaceAll(steps, "http://127.0.0.1:8000", s.URL)
	if script == steps {
		t.Fatalf("the first steps do not use http://127.0.0.1:8000:\n%s", steps)
	}
	var first string
	for i := range 2 {
		out, _ := exec.CommandContext(t.Context(), "bash", "-c", script).CombinedOutput() // the last curl ends by its time limit
		id := between(string(out), `"id":"`, `"`)
		if id == "" || !strings.Contains(string(out), "event: instance.requested") {
			t.Fatalf("time %d: got id %q, want a desktop and its event\n%s", i+1, id, out)
		}
		if first == "" {
			first = id
		}
		if id != first {
			t.Errorf("the second time: got desktop %s, want %s", id, first)
		}
	}
	c := &client{t: t, base: s.URL}
	c.token = c.must(http.StatusOK, "POST", "/api/auth/login", `{"email":"you@example.com","password":"correct horse battery"}`).field("access_token")
	c.must(http.StatusAccepted, "DELETE", fmt.Sprint("/api/instances/", first), "")
	c.awaitInstance(first, "status", "terminated")
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, ok := strings.Cut(rest, after)
	if !ok {
		return ""
	}
	return found
}
