package operator_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// OpenClaw remembers what is always allowed for the exact arguments, asks again once that is taken back, and says in the
// result of a command that it was denied.
func TestRealGatewayForgetsWhatIsTakenBack(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("needs OPENCLAW=real, and openclaw on the PATH")
	}
	dir, err := os.MkdirTemp("", "cloudbot-operator-") // another user cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	var user *syscall.Credential
	if os.Getuid() == 0 { // OpenClaw does not offer "allow-always" for a program that its user could change
		user = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	r := newRealWith(t, dir, user, map[string]any{"ask": "on-miss", "security": "allowlist", "host": "gateway"})
	m := operateLooking(t, r.dial, time.Second)
	m.dial = r.guarded
	p := m.connected()
	c := m.client()
	run := func(key, command string) { c.say("RUN<"+command+">", key) }
	answer := func(decision string) string {
		t.Helper()
		id := fmt.Sprint(p.until("exec.approval.requested")["id"])
		if a := p.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":%q}`, id, decision)); !a.OK {
			t.Fatalf("%s: got %s, want it accepted", decision, a.Error)
		}
		return id
	}

	run("denied", "git --version --build-options")
	id := answer("deny")
	text := fmt.Sprintf("Exec denied (gateway id=%s, user-denied): git --version --build-options", id)
	approval := c.until(func(f map[string]any) bool {
		p, _ := f["payload"].(map[string]any)
		data, _ := p["data"].(map[string]any)
		return f["event"] == "agent" && p["stream"] == "approval" && data["phase"] == "resolved"
	})
	if got := approval["payload"].(map[string]any)["data"].(map[string]any); got["status"] != "denied" || got["toolCallId"] == "" {
		t.Errorf("the event: got %v, want denied with a call", got)
	}
	c.ended("denied")
	c.send("chat.history", `{"sessionKey":"main","limit":10}`)
	history := c.until(func(f map[string]any) bool { return f["id"] == "chat.history" })
	if !slices.ContainsFunc(history["payload"].(map[string]any)["messages"].([]any), func(v any) bool {
		m := v.(map[string]any)
		b, _ := json.Marshal(m["content"])
		return m["role"] == "toolResult" && m["isError"] == true && string(b) == `[{"text":"`+text+`","type":"text"}]`
	}) {
		t.Errorf("the history: got %v, want a failed result %q", history["payload"], text)
	}

	run("first", "git --version")
	answer("allow-always")
	c.ended("first")
	run("parts", "git --exec-path && ls /")
	answer("allow-always")
	c.ended("parts")
	run("again", "git --version") // ends without an answer
	c.ended("again")
	got := listed(t, p.ask(wire.AllowedList, `{}`))
	if len(got.Entries) != 2 || got.Entries[0].Command != "git --version" || got.Entries[0].Any || got.Entries[1].Command != "git --exec-path && ls /" || len(got.Entries[1].Programs) != 2 {
		t.Fatalf("the list: got %+v, want both commands", got)
	}
	run("other", "git --version --verbose") // other arguments are not covered
	answer("deny")
	c.ended("other")

	if left := listed(t, p.ask(wire.AllowedRemove, fmt.Sprintf(`{"id":%q}`, got.Entries[0].ID))); len(left.Entries) != 1 || left.Entries[0].ID != got.Entries[1].ID {
		t.Errorf("after removing: got %+v, want only the other", left)
	}
	run("asked", "git --version")
	answer("deny")
	c.ended("asked")
	run("kept", "ls /") // a part of the other one
	if text := fmt.Sprint(c.ended("kept")["message"]); strings.Contains(text, "denied") {
		t.Errorf("a part of what is still allowed: got %s, want it run", text)
	}
}
