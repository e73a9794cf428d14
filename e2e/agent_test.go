package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestLocalAgent has a server with a program openclaw of the tests, as `make agent` would have installed it: a desktop starts it
// with its own Node, keeps its version until it stops, and gains no rights.
func TestLocalAgent(t *testing.T) {
	t.Parallel()
	place, err := os.MkdirTemp("", "cloudbot-agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(place) })
	for _, version := range []string{"1.0.0", "2.0.0"} {
		// Its "Node" is a shell: the program ends at once, and the guest starts it again.
		for name, text := range map[string]string{
			"bin/node":         "#!/bin/sh\n[ \"$1\" = --version ] && echo v26.10.0\n",
			"bin/openclaw":     "#!/bin/sh\necho \"I am " + version + " with node at $(command -v node)\"\ngrep NoNewPrivs /proc/self/status\n",
			"bin/package.json": `{"version":"` + version + `"}`,
		} {
			file := filepath.Join(place, version, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(place, 0o755); err != nil {
		t.Fatal(err)
	}
	current := filepath.Join(place, "current")
	if err := os.Symlink("1.0.0", current); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, "LOCAL_AGENT="+current+"/bin/openclaw")
	s.start()
	await(t, 10*time.Second, "a line about the agent that says it is another version", func() bool {
		_, line, _ := strings.Cut(s.out.tail(8000), "Agent: OpenClaw 1.0.0 on Node 26.10.0")
		return strings.Contains(line, "it is not version")
	})
	if out, err := s.tool("doctor"); err != nil || !strings.Contains(out, "agent          OpenClaw 1.0.0 on Node 26.10.0") {
		t.Errorf("doctor: got %v %q, want no error and a line about the agent", err, out)
	}
	gone := newServer(t, "LOCAL_AGENT="+place+"/none/openclaw")
	if out, err := gone.tool("doctor"); err == nil || !strings.Contains(out, "BAD   agent          LOCAL_AGENT is "+place) {
		t.Errorf("doctor, of a program that is not there: got %v %q, want a failed check", err, out)
	}
	if out, err := gone.tool("serve"); err == nil || !strings.Contains(out, "LOCAL_AGENT is "+place) {
		t.Errorf("serve, with a program that is not there: got %v %q, want a refusal", err, out)
	}
	u := signUp(t, s.URL, "ada@example.com")
	id := u.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"real"}`).field("id")
	says := func(want string) {
		t.Helper()
		await(t, 30*time.Second, "the agent to say "+want, func() bool {
			return strings.Contains(s.guestLogs(), want)
		})
	}
	says("I am 1.0.0 with node at " + place + "/1.0.0/bin/node")
	says("NoNewPrivs:\t1") // sudo does not work
	if err := errors.Join(os.Remove(current), os.Symlink("2.0.0", current)); err != nil {
		t.Fatal(err)
	}
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/stop", "")
	u.awaitInstance(id, "status", "stopped")
	if strings.Contains(s.guestLogs(), "I am 2.0.0") {
		t.Error("got version 2.0.0 in a running desktop, want 1.0.0 until it stops")
	}
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/start", "")
	says("I am 2.0.0 with node at " + place + "/2.0.0/bin/node")
}

// guestLogs returns the logs of the server's machines.
func (s *server) guestLogs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(s.dir, "machines", "*", "guest.log"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		all.Write(text)
	}
	return all.String()
}

// TestRealAgent has the OpenClaw that `make agent` installed, or that LOCAL_AGENT names, on a local desktop: it starts, answers
// through the bridge with a model of the tests, is there again after a stop and a start, cannot become root, and leaves nothing.
func TestRealAgent(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to run a local desktop with the real OpenClaw, installed by make agent")
	}
	const words = "I heard you."
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range []string{
			`{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}}`,
			`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"` + words + `"}}`,
			`{"type":"content_block_stop","index":0}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}`,
			`{"type":"message_stop"}`,
		} {
			name := strings.Split(e, `"`)[3]
			fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, e)
		}
	}))
	defer model.Close()
	s := newServer(t, "LOCAL_AGENT="+os.Getenv("LOCAL_AGENT"))
	s.start()
	u := signUp(t, s.URL, "ada@example.com")
	u.must(http.StatusCreated, "POST", "/api/user/api-keys", `{"provider":"anthropic","api_key":"sk-ant-0123456789"}`)
	began := time.Now()
	id := u.must(http.StatusAccepted, "POST", "/api/instances", `{"name":"real"}`).field("id")
	ready := func() {
		t.Helper()
		await(t, 5*time.Minute, "the real agent to be ready", func() bool {
			return u.do("GET", "/api/instances/"+id, "").field("ready") == "true"
		})
		t.Logf("ready after %v", time.Since(began).Round(time.Second))
	}
	ready()
	if a := u.do("GET", "/api/instances/"+id, ""); !strings.Contains(string(a.body), `"agent":"openclaw"`) || !strings.Contains(string(a.body), `"model":"anthropic/`) {
		t.Fatalf("got %s, want versions with agent openclaw and a model of Anthropic", a.body)
	}
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/stop", "")
	u.awaitInstance(id, "status", "stopped")
	if left := s.nodes(); len(left) > 0 {
		t.Errorf("a stopped desktop has processes %v, want none", left)
	}
	s.patchAgent(id, map[string]any{"models": map[string]any{"providers": map[string]any{"anthropic": map[string]any{"baseUrl": model.URL, "api": "anthropic-messages"}}}})
	began = time.Now()
	u.must(http.StatusAccepted, "POST", "/api/instances/"+id+"/start", "")
	ready()
	_, text, err := u.chat(id, "Hello")
	if err != nil || !strings.Contains(text, words) {
		t.Errorf("got answer %q %v, want %q and no error\n%s", text, err, words, s.guestLogs())
	}
	running, memory := s.nodes(), 0
	for pid, status := range running {
		if !strings.Contains(status, "NoNewPrivs:\t1") {
			t.Errorf("process %d may gain rights, want none that can: sudo would work", pid)
		}
		_, rss, _ := strings.Cut(status, "VmRSS:")
		var kilobytes int
		_, _ = fmt.Sscan(rss, &kilobytes)
		memory += kilobytes
	}
	if len(running) == 0 {
		t.Error("got no process of the agent, want some")
	}
	t.Logf("%d processes of the agent with %d MB", len(running), memory>>10)
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
	if left := s.leftOf(id); len(left) > 0 {
		t.Errorf("a terminated desktop left %v, want nothing", left)
	}
	if left := s.nodes(); len(left) > 0 {
		t.Errorf("a terminated desktop has processes %v, want none", left)
	}
}

// nodes returns the status of each process of OpenClaw that works below the server's folder, by id.
func (s *server) nodes() map[int]string {
	found := map[int]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		dir := filepath.Dir(link)
		cwd, err := os.Readlink(link)
		exe, _ := os.Readlink(filepath.Join(dir, "exe"))
		status, _ := os.ReadFile(filepath.Join(dir, "status"))
		if err == nil && strings.HasPrefix(cwd, s.dir+"/machines/") && filepath.Base(exe) == "node" {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			found[pid] = string(status)
		}
	}
	return found
}

// patchAgent adds settings to OpenClaw's configuration in the home of a stopped desktop, as its user could.
func (s *server) patchAgent(id string, with map[string]any) {
	s.t.Helper()
	file := filepath.Join(s.machineOf(id), "state", "home", ".openclaw", "openclaw.json")
	text, err := os.ReadFile(file)
	config := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &config)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range with {
		config[name] = value
	}
	text, err = json.Marshal(config)
	if err == nil {
		err = os.WriteFile(file, text, 0o600) // keeps its owner
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
