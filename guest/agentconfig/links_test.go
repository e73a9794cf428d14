package agentconfig

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// The agent's user puts a hard link to a file of root's in place of a new folder. Not every kernel forbids that.
func TestFoldersAreGivenWithoutTheirNames(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	home, victim := filepath.Join(dir, "home"), filepath.Join(dir, "victim")
	if err := errors.Join(os.Mkdir(home, 0o755), os.WriteFile(victim, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(home)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	name := filepath.Join(home, Dir)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if syscall.Rmdir(name) == nil {
					_ = os.Link(victim, name)
				}
			}
		}
	})
	for range 100_000 {
		_ = makeDir(root, Dir, 0o700, &proc.User{UID: 65534, GID: 65534})
		_ = syscall.Unlink(name)
	}
	close(done)
	all.Wait()
	st, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 {
		t.Errorf("got root's file given to %d, want it left alone", sys.Uid)
	}
}
