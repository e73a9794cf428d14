package desktop

import (
	"os"
	"os/exec"
	"testing"
)

func TestPromptNamesAUserWithoutAName(t *testing.T) {
	t.Setenv("USER", "cloudbot") // as local machines have it
	if got := prompt(t.Context(), os.Getuid()); got != nil {
		t.Errorf("this user: got %q, want nothing", got)
	}
	bash := exec.CommandContext(t.Context(), "bash", "--norc", "-c", `PS1='\u@\h:\w\$ '; for i in 1 2; do eval "$PROMPT_COMMAND"; done; printf %s "$PS1"`)
	bash.Env = append(os.Environ(), prompt(t.Context(), 1_987_654_321)...)
	out, err := bash.Output()
	if want := `cloudbot@\h:\w\$ `; err != nil || string(out) != want {
		t.Errorf("got %q %v, want %q", out, err, want)
	}
}
