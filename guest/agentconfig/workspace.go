package agentconfig

import (
	_ "embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// OpenClaw gives the agent the workspace's AGENTS.md at the start of each session.
var (
	//go:embed workspace/AGENTS.md
	placeText string
	//go:embed workspace/screen.md
	screenText string
)

// writeWorkspace creates the workspace with its AGENTS.md, unless there is one: it is the user's and the agent's. A
// workspace elsewhere than in home is not ours to fill.
func writeWorkspace(root *os.Root, home string, u *proc.User, f Facts) error {
	dir, err := filepath.Rel(home, f.Workspace)
	if f.Workspace == "" || err != nil || !filepath.IsLocal(dir) || dir == "." {
		return nil
	}
	if err := makeDir(root, dir, 0o755, u); err != nil {
		return err
	}
	name := filepath.Join(dir, "AGENTS.md")
	if _, err := root.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := placeText
	if f.Screen {
		text += screenText
	}
	return write(root, name, []byte(text), u)
}
