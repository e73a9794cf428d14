// Package paths names the folders that a guest uses outside its state folder, so that a control plane can remove them
// together with the machine.
package paths

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Shm returns the guest's memory-backed folder, which exists while the guest runs.
func Shm(stateDir string) string {
	base := "/dev/shm"
	if st, err := os.Stat(base); err != nil || !st.IsDir() {
		base = os.TempDir()
	}
	return filepath.Join(base, "cloudbot-"+mark(stateDir))
}

// Home returns the desktop user's home if that user cannot reach the state folder.
func Home(stateDir string) string {
	return filepath.Join(os.TempDir(), "cloudbot-home-"+mark(stateDir))
}

func mark(stateDir string) string {
	if abs, err := filepath.Abs(stateDir); err == nil {
		stateDir = abs
	}
	sum := sha256.Sum256([]byte(stateDir))
	return fmt.Sprintf("%x", sum[:8])
}

// Clear removes the contents of dir, but not dir itself: another user could create one of that name.
func Clear(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// Make creates dir with mode 0700 and owner uid, gid, or accepts an existing dir that is like that. The names above can
// be guessed, so Make refuses a folder or link that another user created.
func Make(dir string, uid, gid int) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		st, err := os.Lstat(dir)
		if err != nil {
			return err
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok || !st.IsDir() || st.Mode().Perm() != 0o700 || int(sys.Uid) != uid {
			return fmt.Errorf("%s exists and is not ours", dir)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return os.Lchown(dir, uid, gid)
}
