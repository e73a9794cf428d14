package local

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cloudbot-ai/control-plane/guest/paths"
)

// If the control plane runs as root, each machine has a user of its own: a number without a name or a password. The
// numbers are outside the ranges of people, packages and containers, unless this is itself a container with fewer
// numbers. A folder's ledger never gives a number twice. The start within the range depends on the folder's path, so
// that two folders on one computer use different numbers.
var (
	ownUsers   = users{first: 1_900_000_000, count: 90_000_000}
	fewerUsers = users{first: 40_000, count: 20_000}
)

// users is a range of user ids. The zero value means that the control plane is not root, and machines run as its user.
type users struct{ first, count uint32 }

// usersHere returns the range; zero if this process may not run others as users of their own.
func usersHere() (users, error) {
	if os.Geteuid() != 0 {
		return users{}, nil
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return users{}, fmt.Errorf("read the available user ids: %w", err)
	}
	for _, u := range []users{ownUsers, fewerUsers} {
		for line := range strings.Lines(string(text)) {
			var first, outside, count uint64
			if _, err := fmt.Sscan(line, &first, &outside, &count); err == nil && first <= uint64(u.first) && first+count >= uint64(u.first+u.count) {
				return u, nil
			}
		}
	}
	return users{}, errors.New("each machine needs a user id of its own, and this container has fewer than 60000: run the server as a user other than root, or give the container more ids")
}

// pick returns a number that is not taken and that no user or process of this computer has.
func (u users) pick(machine string, taken func(uint32) bool) (uint32, error) {
	sum := sha256.Sum256([]byte(machine))
	start := binary.BigEndian.Uint32(sum[:])
	for i := range uint32(1000) {
		id := u.first + (start%u.count+i)%u.count
		if _, err := user.LookupId(strconv.FormatUint(uint64(id), 10)); err == nil || taken(id) || len(processesOf(id)) > 0 {
			continue
		}
		return id, nil
	}
	return 0, errors.New("no free user id for the machine")
}

// processesOf lists the living processes of a user.
func processesOf(id uint32) []int {
	var found []int
	for pid, s := range statuses() {
		if s.user(id) {
			found = append(found, pid)
		}
	}
	return found
}

// status holds the fields of /proc/PID/status.
type status string

func (s status) field(name string) []string {
	_, rest, _ := strings.Cut(string(s), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strings.Fields(line)
}

// user reports whether the process has a user's rights, or had them and can regain them.
func (s status) user(id uint32) bool {
	text := strconv.FormatUint(uint64(id), 10)
	for _, f := range s.field("Uid") {
		if f == text {
			return true
		}
	}
	return false
}

// statuses returns the status of each living process, by id.
func statuses() map[int]status {
	all := map[int]status{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		s := status(text)
		if f := s.field("State"); len(f) > 0 && f[0] != "Z" && f[0] != "X" {
			all[pid] = s
		}
	}
	return all
}

// fallbackRoot contains the machines' rooms if their users cannot enter the machines' folder.
const fallbackRoot = "/var/lib/cloudbot"

// roomsFor returns the folder of the machines' rooms: dir, if other users can enter it.
func roomsFor(dir string, u users) string {
	if u.count == 0 || othersEnter(dir) {
		return dir
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(fallbackRoot, fmt.Sprintf("machines-%x", sum[:8]))
}

// othersEnter reports whether any user may pass through dir and all folders above it.
func othersEnter(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// OthersRead reports whether any user of this computer may read a file.
func OthersRead(file string) bool {
	file, err := filepath.Abs(file)
	if err != nil {
		return true
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	st, err := os.Stat(file)
	return err == nil && st.Mode().Perm()&0o004 != 0 && othersEnter(filepath.Dir(file))
}

// furnish creates the machine's room and the folders of its user: its state, and its memory-backed folder.
func (c *Cloud) furnish(id string, owner uint32) error {
	state := filepath.Join(c.room(id), stateDir)
	if err := os.MkdirAll(c.room(id), 0o711); err != nil {
		return err
	}
	if owner == 0 {
		return nil // the guest creates the rest
	}
	// Remove the folder of a killed guest, or one that another user put under its name. The guest uses the new one.
	err := os.RemoveAll(paths.Shm(state))
	if err == nil {
		err = paths.Make(paths.Shm(state), int(owner), int(owner))
	}
	if err != nil {
		return err
	}
	switch st, err := os.Lstat(state); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.Mkdir(state, 0o700); err != nil {
			return err
		}
	case err != nil:
		return err
	case st.Sys().(*syscall.Stat_t).Uid == owner:
		return nil
	}
	return handOver(state, owner)
}

// handOver changes the owner of a folder and its contents to a user. A file with a second hard link may belong to
// another user, so it is left alone. The folder itself comes last, so that an interrupted run is repeated.
func handOver(dir string, owner uint32) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if !st.IsDir() && st.Sys().(*syscall.Stat_t).Nlink > 1 {
			return nil
		}
		return os.Lchown(path, int(owner), int(owner))
	})
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(dir, 0o700), os.Lchown(dir, int(owner), int(owner)))
}

// socketFolders creates the folders of X's sockets as the system's boot does. A machine that created one could remove
// the sockets of others.
func socketFolders() {
	for _, dir := range []string{"/tmp/.X11-unix", "/tmp/.ICE-unix"} {
		if os.Mkdir(dir, 0o777) == nil {
			_ = os.Chmod(dir, 0o777|fs.ModeSticky)
		}
	}
}
