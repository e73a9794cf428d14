package install

import (
	"os/exec"
	"strings"
	"testing"
)

// deploy/agent.sh reads the file as a shell script, so that a computer of a developer gets what machines get.
func TestPinnedReadsAsTheShellDoes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"openclaw", "plugins", "node", "npm", "tools", "libraries"} {
		out, err := exec.CommandContext(t.Context(), "bash", "-c", `. ./pinned && printf %s "${!0}"`, name).Output()
		if got := pinned(name); err != nil || got == "" || got != string(out) {
			t.Errorf("%s: got %q, want what the shell reads, %q %v", name, got, out, err)
		}
	}
	if v := pinned("node"); !GoodNode(v) {
		t.Errorf("got Node %s, want one that OpenClaw runs on", v)
	}
	if got := pinned("none"); got != "" || strings.Contains(pinned("npm"), "\n") {
		t.Errorf("got %q and %q, want nothing and one line", got, pinned("npm"))
	}
}
