package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// TestLocalDesktop has the real agent work on a desktop of this computer, for a user whose only key is Anthropic's.
func TestLocalDesktop(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to have a real OpenClaw, with its program in the PATH, work on a local desktop")
	}
	for _, tool := range []string{"openclaw", "Xvnc", "openbox", "xterm", "vi", "xev", "chromium"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("E2E_MACHINE") != "" {
			t.Skip(err) // machines install their own
		} else if err != nil {
			t.Fatal(err)
		}
	}
	model := modeltest.Start(t, nil)
	config, err := json.Marshal(map[string]any{
		"models":  map[string]any{"providers": map[string]any{"anthropic": map[string]any{"baseUrl": model.URL, "api": "anthropic-messages"}}},
		"browser": map[string]any{"ssrfPolicy": map[string]any{"allowedHostnames": []string{"localhost"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s, bin, store := newServer(t)
	guest := fmt.Sprintf(preparedGuest, config, filepath.Join(store, guestName))
	if err := os.WriteFile(filepath.Join(bin, "cloudbot-guest"), []byte(guest), 0o755); err != nil {
		t.Fatal(err)
	}
	s.run(bin)
	u := &user{t: t, base: s.URL}
	u.token = field(u.must(201, "POST", "/api/auth/signup", `{"email":"ada@example.com","password":"a long enough pass phrase"}`), "access_token")
	u.must(201, "POST", "/api/user/api-keys", fmt.Sprintf(`{"provider":"anthropic","api_key":%q}`, canaries[0]))
	id := field(u.must(202, "POST", "/api/instances", `{"name":"A local one"}`), "id")
	began := time.Now()
	await(t, 4*time.Minute, "the agent", func() bool {
		return field(u.must(200, "GET", "/api/instances/"+id, ""), "phase") == "ready"
	})
	t.Logf("ready after %.1fs", time.Since(began).Seconds())

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v, err := u.view(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	homes, err := filepath.Glob(filepath.Join(s.dir, "machines", "*", "state", "home"))
	if err != nil || len(homes) != 1 {
		t.Fatalf("homes: got %v %v, want one", homes, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(homes[0], "notes.txt")
	sc := &scene{
		user: u, t: t, id: id, model: model, view: v, out: filepath.Join(pictures(), "local"), page: servePage(t, l),
		edit:   "setsid -f xterm -geometry 80x20+420+330 -bg white -fg black -T Notes -e vi " + file + " >/dev/null 2>&1",
		insert: "i",
		save:   []use{{"computer", `{"action":"key","text":"Escape"}`}, {"computer", `{"action":"type","text":":wq"}`}, {"computer", `{"action":"key","text":"Return"}`}},
		read:   func() string { text, _ := os.ReadFile(file); return string(text) },
	}
	record := filepath.Join(homes[0], "record")
	sc.start = func(command string) { // into the terminal
		sc.types(image.Pt(200, 300), command+" >"+record+" &\n")
	}
	sc.recorded = func() string { text, _ := os.ReadFile(record); return string(text) }
	sc.processes = func() string { text, _ := exec.Command("ps", "-eo", "user,args").Output(); return string(text) }
	sc.worksOnTheDesktop()
	if !model.Asked("claude-sonnet-5", canaries[0]) {
		t.Errorf("got requests %v, want some for claude-sonnet-5 with the user's key", model)
	}
	if log := s.out.tail(100 << 20); strings.Contains(log, "CANARY") {
		t.Error("got a key in the control plane's log, want none")
	}
}

// preparedGuest takes the guest's place: it gives the machine a configuration of OpenClaw before the guest first runs.
const preparedGuest = `#!/bin/sh
umask 077
if [ "$1" = hold ] && mkdir -p state && mkdir state/home 2>/dev/null; then
  mkdir state/home/.openclaw
  echo '%s' >state/home/.openclaw/openclaw.json
fi
exec '%s' "$@"
`

// pictures is the folder that pictures are kept in.
func pictures() string {
	if out := os.Getenv("E2E_MACHINE_OUT"); out != "" {
		return out
	}
	return "../../bin/e2e-machine"
}
