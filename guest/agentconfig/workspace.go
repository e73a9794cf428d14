package agentconfig

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// OpenClaw gives the agent the workspace's AGENTS.md at the start of each session.
var (
	//go:embed workspace/AGENTS.md
	placeText string
	//go:embed workspace/sudo.md
	sudoText string
	//go:embed workspace/no-sudo.md
	noSudoText string
	//go:embed workspace/screen.md
	screenText string
)

// instructions returns the AGENTS.md that fits the facts.
func instructions(f Facts) string {
	rights := noSudoText
	if f.Sudo {
		rights = sudoText
	}
	text := strings.Replace(placeText, "{{rights}}\n", rights, 1)
	if f.Screen {
		text += screenText
	}
	return text
}

// writeWorkspace creates the workspace with its AGENTS.md, unless there is one that the user or the agent changed: it is
// theirs. A workspace elsewhere than in home is not ours to fill.
func writeWorkspace(root *os.Root, home string, u *proc.User, f Facts) error {
	dir, err := filepath.Rel(home, f.Workspace)
	if f.Workspace == "" || err != nil || !filepath.IsLocal(dir) || dir == "." {
		return nil
	}
	if err := makeDir(root, dir, 0o755, u); err != nil {
		return err
	}
	name := filepath.Join(dir, "AGENTS.md")
	text := instructions(f)
	if _, err := root.Lstat(name); err == nil {
		old, err := read(root, name)
		if err != nil || string(old) == text || !ours(string(old)) {
			return nil // it is the user's
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return write(root, name, []byte(text), u)
}

// ours reports whether the text is what we write for other facts.
func ours(text string) bool {
	for _, f := range []Facts{{}, {Sudo: true}, {Screen: true}, {Sudo: true, Screen: true}} {
		if instructions(f) == text {
			return true
		}
	}
	return false
}
