package local

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/paths"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// locksDir contains a fixed number of lock files. A lock file for each machine would have to be removed with the
// machine, which cannot be done safely.
const locksDir = ".locks"

// Files in a machine's folder. The wanted state of the machine is in the ledger.
const (
	userDataFile = "user-data.json" // as launched, with the enrolment token
	machineFile  = "machine.json"   // a machine
	aliveFile    = "alive"          // locked while a guest of this machine runs
	logFile      = "guest.log"
)

// Files in a machine's room, which is its folder unless its user cannot enter that.
const (
	configFile = "guest.json" // of the current boot
	stateDir   = "state"      // the guest's default
)

// machine says which processes run a machine. It is stored in the machine's folder.
type machine struct {
	ID    string  `json:"id"`
	User  uint32  `json:"-"`     // the machine's own, by the ledger; 0: the control plane's
	Guest process `json:"guest"` // the process that holds all others; zero: never started
	Owner process `json:"owner"` // the control plane that started or adopted it
	URL   string  `json:"url"`   // where its guest connects to
}

func (c *Cloud) folder(id string) string { return filepath.Join(c.cfg.Dir, id) }

func (c *Cloud) room(id string) string { return filepath.Join(c.rooms, id) }

func (c *Cloud) file(id, name string) string { return filepath.Join(c.folder(id), name) }

// read returns the stored machine; without processes if it was never written.
func (c *Cloud) read(id string) (machine, error) {
	m := machine{ID: id}
	if c.ledger.users.count != 0 {
		k, err := c.ledger.find(id)
		if err != nil {
			return m, err
		}
		m.User = k.User
	}
	text, err := os.ReadFile(c.file(id, machineFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, fmt.Errorf("read state of %s: %w", id, err)
	}
	return m, nil
}

func (c *Cloud) write(m machine) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return replaceFile(c.file(m.ID, machineFile), text)
}

// prepare creates the machine's folder with its user-data, unless it exists.
func (c *Cloud) prepare(id, userData string) error {
	if _, err := os.Stat(c.file(id, userDataFile)); err == nil {
		return nil
	}
	if err := os.MkdirAll(c.folder(id), 0o711); err != nil { // so that the desktop's user can reach its home
		return err
	}
	return replaceFile(c.file(id, userDataFile), []byte(userData))
}

// remove deletes the machine's files, inside and outside its folder.
func (c *Cloud) remove(id string) error {
	state := filepath.Join(c.room(id), stateDir)
	err := errors.Join(os.RemoveAll(paths.Shm(state)), os.RemoveAll(paths.Home(state)), os.RemoveAll(c.room(id)), os.RemoveAll(c.folder(id)))
	if c.rooms != c.cfg.Dir {
		_ = os.Remove(c.rooms) // fails if other rooms are in it
	}
	return err
}

// locked runs f while it holds the machine's lock against other goroutines and processes.
func (c *Cloud) locked(ctx context.Context, id string, f func() error) error {
	sum := sha256.Sum256([]byte(id))
	lock, err := os.OpenFile(filepath.Join(c.cfg.Dir, locksDir, fmt.Sprintf("%02x", sum[0]&0x3f)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // also releases the lock
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("lock %s: %w", id, err)
	}
	return f()
}

// flock waits for the lock until ctx ends.
func flock(ctx context.Context, f *os.File) error {
	for backoff := (retry.Backoff{First: time.Millisecond, Max: 50 * time.Millisecond}); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return err
		}
		if err := backoff.Sleep(ctx); err != nil {
			return err
		}
	}
}

// replaceFile writes a file of mode 0600. After a crash it has either the old or the new content.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
