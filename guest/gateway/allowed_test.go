package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// allowing sends /approve and answers the approval, if there is one.
func (u *user) allowing(run, decision string) {
	u.t.Helper()
	u.say("/approve", run)
	if decision != "" {
		id := u.until("exec.approval.requested", nil)["id"]
		u.ask("exec.approval.resolve", fmt.Sprintf(`{"id":%q,"decision":%q}`, id, decision))
	}
	u.until("chat", state("final"))
}

func TestAllowedAlwaysOverARestart(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	u.allowing("first", "deny")
	u.allowing("second", "allow-always")
	u.allowing("third", "") // is not asked
	g.Close()

	u, g = keeping(t, home, nil)
	u.allowing("fourth", "")
	doc, _ := u.ask("exec.approvals.get", `{}`)
	if text := fmt.Sprint(doc["file"]); !strings.Contains(text, "/usr/bin/rm") || !strings.Contains(text, "=node-command:") {
		t.Errorf("the document: got %s, want the program and the command", text)
	}
	items, _ := u.ask("approval.history", `{}`)
	if text := fmt.Sprint(items); !strings.Contains(text, "rm -rf ~/Downloads/old") || !strings.Contains(text, "denied") {
		t.Errorf("the history: got %s, want both answers", text)
	}
	const empty = `{"version":1,"agents":{"main":{"allowlist":[]}}}`
	if _, f := u.ask("exec.approvals.set", `{"baseHash":"old","file":`+empty+`}`); f == nil {
		t.Error("a change of an older document: got it accepted, want it refused")
	}
	if _, f := u.ask("exec.approvals.set", fmt.Sprintf(`{"baseHash":%q,"file":%s}`, doc["hash"], empty)); f != nil {
		t.Errorf("a change: got %v, want it accepted", f)
	}
	g.Close()

	u, g = keeping(t, home, nil)
	u.allowing("fifth", "deny") // is asked again
	g.Close()
	path := filepath.Join(home, storeFolder, allowedName)
	if err := os.WriteFile(path, []byte(`{"version":1,"allowed":"all"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	u, g = keeping(t, home, nil)
	defer g.Close()
	u.allowing("sixth", "deny")
	if _, err := os.Stat(path + aside); err != nil {
		t.Errorf("a damaged file: got %v, want it set aside", err)
	}
}
