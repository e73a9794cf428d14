package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// fallbackRoot contains the data of a root process whose own folder other users cannot enter.
const fallbackRoot = "/var/lib/cloudbot"

// maxSocketPath is the longest name of a Unix socket, without the terminating zero.
const maxSocketPath = 107

// unprivileged returns the user to run Postgres as, which refuses root; nil: our own.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("postgres refuses to run as root, and the users postgres and nobody do not exist: create one of them, or run as another user")
}

// place creates the folder, owned by the server's user, and returns it. If that user cannot enter the folder's
// parents, place uses a folder below fallbackRoot and writes its name into a file beside the wanted folder. So
// removing the data folder is enough to start empty.
func (p *Postgres) place(dir string) (string, error) {
	if !p.canEnter(filepath.Dir(dir)) {
		other, err := elsewhere(dir + ".elsewhere")
		if err != nil {
			return "", fmt.Errorf("find the fallback data folder: %w", err)
		}
		p.log.Warn("data folder closed to the unprivileged user of postgres, files stored elsewhere", "wanted", dir, "used", other)
		if dir = other; !p.canEnter(fallbackRoot) {
			return "", fmt.Errorf("the data folder must be reachable for user id %d: choose one outside a closed home folder", p.owner.Uid)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	return dir, p.ownFolder(dir)
}

// elsewhere returns the folder below fallbackRoot that a file names, and creates the file if it is missing.
func elsewhere(file string) (string, error) {
	name, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", err
		}
		name = []byte(rand.Text()[:16])
		err = os.WriteFile(file, name, 0o600)
	}
	if err != nil {
		return "", err
	}
	if n := string(name); n == "" || n != filepath.Base(n) || n == "." || n == ".." {
		return "", fmt.Errorf("%s does not contain the name of a folder: remove it to start empty", file)
	}
	return filepath.Join(fallbackRoot, string(name)), nil
}

// canEnter reports whether the server's user can search dir and all its parents. Missing folders will be created with
// mode 0755.
func (p *Postgres) canEnter(dir string) bool {
	if p.owner == nil {
		return true
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil {
			mode, st := info.Mode().Perm(), info.Sys().(*syscall.Stat_t)
			switch {
			case st.Uid == p.owner.Uid:
				mode >>= 6
			case st.Gid == p.owner.Gid:
				mode >>= 3
			}
			if mode&1 == 0 {
				return false
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// ownFolder creates dir, open only to the server's user.
func (p *Postgres) ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return err
	}
	if p.owner == nil {
		return nil
	}
	return os.Lchown(dir, int(p.owner.Uid), int(p.owner.Gid))
}

// folderLock is the lock of a data folder.
type folderLock struct{ file *os.File }

// Close unlocks the folder. A child that has forked and not yet executed its program holds a copy of the file, so
// closing ours alone would leave the folder locked for a short time.
func (l folderLock) Close() error {
	return errors.Join(syscall.Flock(int(l.file.Fd()), syscall.LOCK_UN), l.file.Close())
}

// lockFolder locks the folder for this process until the lock is closed.
func lockFolder(dir string) (*folderLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("data folder %s is in use by another process", dir)
	}
	return &folderLock{f}, nil
}

// evict waits until the server of a killed predecessor has ended: the kernel has signalled it, and we hold the
// folder's lock, so no other process uses it. It removes the pid file of a dead server.
func (p *Postgres) evict(ctx context.Context) error {
	pidFile := filepath.Join(p.data(), "postmaster.pid")
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return nil
	}
	first, _, _ := strings.Cut(string(b), "\n")
	main, _ := strconv.Atoi(strings.TrimSpace(first))
	deadline := time.Now().Add(stopPatience)
	for signalled := false; ; signalled = true {
		left := processesIn(p.data())
		if len(left) == 0 {
			break
		}
		if !signalled {
			p.log.WarnContext(ctx, "postgres of a killed process found, stopped", "pid", main)
			for _, pid := range left {
				if pid == main {
					_ = syscall.Kill(pid, syscall.SIGINT)
				}
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("an old server still runs in %s: stop process %d", p.data(), main)
		}
		if err := retry.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	// No process works in the folder, so the process of that number is dead or an unrelated one. In the second case
	// postgres would refuse to start.
	if err := os.Remove(pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// processesIn lists the processes whose working folder is dir, as that of every server process is. Without /proc it
// returns none, and postgres itself judges its pid file.
func processesIn(dir string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var pids []int
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at == dir {
			pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// makeSockets chooses the folder of the server's socket: the data folder, or a temporary one if that name is too long.
func (p *Postgres) makeSockets() error {
	p.sockets = filepath.Join(p.dir, "run")
	if len(filepath.Join(p.sockets, ".s.PGSQL."+postgresPort)) <= maxSocketPath {
		return p.ownFolder(p.sockets)
	}
	dir, err := os.MkdirTemp("/tmp", "cloudbot-pg-")
	if err != nil {
		return err
	}
	p.sockets = dir
	return p.ownFolder(dir)
}

func (p *Postgres) removeSockets() {
	if filepath.Dir(p.sockets) != p.dir {
		_ = os.RemoveAll(p.sockets)
	}
}
