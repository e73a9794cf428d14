package local

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/hold"
)

// process identifies a process permanently: the system may reuse the id alone for another one.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since the computer started
}

func (p process) zero() bool { return p.PID == 0 }

// findProcess returns the process that currently has this id.
func findProcess(pid int) (process, error) {
	fields, err := stat(pid)
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: fields[19]}, nil
}

// alive reports whether the process runs; a zombie does not.
func (p process) alive() bool {
	if p.zero() {
		return false
	}
	fields, err := stat(p.PID)
	return err == nil && fields[19] == p.Start && fields[0] != "Z" && fields[0] != "X"
}

// stat returns the fields of /proc/PID/stat from the third one (state) on.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The second field is the program's name in brackets and may contain any character.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return nil, fmt.Errorf("read /proc/%d/stat: unknown format", pid)
	}
	return fields, nil
}

// machineEnv marks the processes of a machine with its folder; the guest's children inherit it. It helps to find
// processes that are no longer linked to the machine otherwise. A program that cleans its environment loses it.
const machineEnv = "CLOUDBOT_MACHINE"

const maxLog = 4 << 20 // bytes of a guest's log file that survive a restart

// findGuest returns the path of the guest program.
func findGuest(path string) (string, error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		path = filepath.Join(filepath.Dir(self), "cloudbot-guest")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(path); err != nil || st.IsDir() || st.Mode()&0o111 == 0 {
		return "", fmt.Errorf("guest program %s not found: run make build, or set its path", path)
	}
	return path, nil
}

// ensureRunning starts the machine's guest unless it runs, and makes this control plane its owner.
func (c *Cloud) ensureRunning(m machine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("this control plane is stopping")
	}
	// The guest inherits the locked descriptor. So the lock shows that it lives from its first moment, even if this
	// process is killed before it records the guest's id.
	lock, err := os.OpenFile(c.file(m.ID, aliveFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil
		}
		return err
	}
	if m.User == 0 && c.ledger.users.count != 0 { // launched before machines had users of their own
		k, err := c.ledger.find(m.ID)
		if err == nil {
			err = c.ledger.add(entry{Call: "start", Machine: m.ID, ClientToken: k.ClientToken})
		}
		if err == nil {
			k, err = c.ledger.find(m.ID)
		}
		if err != nil {
			return err
		}
		m.User = k.User
	}
	if !waitUntil(c.cfg.Grace, func() bool { return c.sweep(m) == 0 }) { // what a killed guest left behind
		return errors.New("processes of the last boot did not end")
	}
	if err := c.furnish(m.ID, m.User); err != nil {
		return fmt.Errorf("make its folders: %w", err)
	}
	if err := c.boot(m); err != nil {
		return fmt.Errorf("write guest's configuration: %w", err)
	}
	log, err := openLog(c.file(m.ID, logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, closeGuest, err := c.guestAs(m.User, lock, "hold", "-config", filepath.Join(c.room(m.ID), configFile))
	if err != nil {
		return err
	}
	defer closeGuest()
	cmd.Dir = c.room(m.ID)
	cmd.Env = append(cmd.Env, "HOME="+c.room(m.ID), machineEnv+"="+c.folder(m.ID))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	c.reaped.Go(func() { _ = cmd.Wait() })
	m.Guest, err = findProcess(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("guest ended immediately, see %s: %w", log.Name(), err)
	}
	m.Owner, m.URL = c.self, c.cfg.ControlPlaneURL
	return c.write(m)
}

// guestAs prepares a run of the guest program by a user; 0: our own. lock becomes descriptor 3. The program may be in
// a folder that the user cannot enter, so it is opened here and stays open until the returned function is called.
func (c *Cloud) guestAs(owner uint32, lock *os.File, args ...string) (cmd *exec.Cmd, done func(), err error) {
	cmd = exec.Command(c.guest, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	// A session of its own, so that the machine outlives a control plane that crashes.
	cmd.SysProcAttr, cmd.ExtraFiles, done = &syscall.SysProcAttr{Setsid: true}, []*os.File{lock}, func() {}
	if owner == 0 {
		return cmd, done, nil
	}
	cmd.Env = append(cmd.Env, "USER=cloudbot", "LOGNAME=cloudbot")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner, Gid: owner} // without any other group
	if othersEnter(filepath.Dir(c.guest)) {
		return cmd, done, nil
	}
	program, err := os.Open(c.guest)
	if err != nil {
		return nil, nil, err
	}
	cmd.Path, cmd.Args[0] = "/proc/self/fd/4", "/proc/self/fd/4"
	cmd.ExtraFiles = append(cmd.ExtraFiles, program)
	return cmd, func() { program.Close() }, nil
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// alive reports whether a guest of the machine lives, which then holds the lock.
func (c *Cloud) alive(id string) (bool, error) {
	f, err := os.Open(c.file(id, aliveFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// A shared lock: two processes that look at once must not take each other for the guest.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// boot writes the guest's configuration for one boot: the user-data, a new boot id, and what the control plane currently
// has: its URL, and this computer's agent.
func (c *Cloud) boot(m machine) error {
	text, err := os.ReadFile(c.file(m.ID, userDataFile))
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	config["boot"], config["control_plane_url"] = rand.Text(), c.cfg.ControlPlaneURL
	if c.cfg.Agent != nil {
		config["agent"] = c.cfg.Agent().config()
	}
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	path := filepath.Join(c.room(m.ID), configFile)
	if err := replaceFile(path, text); err != nil || m.User == 0 {
		return err
	}
	return os.Chown(path, int(m.User), int(m.User))
}

// end ends all of the machine's processes. The process that holds them ends when no other is left.
func (c *Cloud) end(m machine) error {
	if m.Guest.alive() {
		_ = syscall.Kill(m.Guest.PID, syscall.SIGTERM)
		waitUntil(c.cfg.Grace, func() bool { return !m.Guest.alive() })
	}
	gone := waitUntil(c.cfg.Grace, func() bool {
		// A process that exits loses its mark before it releases the lock.
		alive, err := c.alive(m.ID)
		return c.sweep(m) == 0 && err == nil && !alive
	})
	if !gone {
		return fmt.Errorf("end %s: its processes did not end", m.ID)
	}
	return nil
}

// sweep kills the machine's processes and returns how many there were. The process that holds them is killed last:
// until then it inherits those whose parents die.
func (c *Cloud) sweep(m machine) int {
	found := c.processes(m)
	if m.User != 0 && len(found) > 0 {
		if err := c.endUser(m.User); err != nil {
			c.log.Warn("ending a machine's processes failed", "machine", m.ID, "err", err)
		}
	}
	for _, pid := range found {
		if pid != m.Guest.PID || len(found) == 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return len(found)
}

// endUser kills all processes of a user at once, which only a process of that user can do.
func (c *Cloud) endUser(owner uint32) error {
	cmd, done, err := c.guestAs(owner, nil, "end")
	if err != nil {
		return err
	}
	defer done()
	cmd.Dir = "/"
	return cmd.Run()
}

// processes returns the machine's living processes: those of its user, the descendants of their holder, and those
// with the machine's mark.
func (c *Cloud) processes(m machine) []int {
	mark := []byte("\x00" + machineEnv + "=" + c.folder(m.ID) + "\x00")
	below := map[int]bool{}
	if m.Guest.alive() {
		below[m.Guest.PID] = true
		for _, pid := range hold.Descendants(m.Guest.PID) {
			below[pid] = true
		}
	}
	var found []int
	for pid, s := range statuses() {
		if below[pid] || m.User != 0 && s.user(m.User) {
			found = append(found, pid)
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err == nil && bytes.Contains(append([]byte{0}, env...), mark) { // else it has ended, or is not the machine's
			found = append(found, pid)
		}
	}
	return found
}

// waitUntil calls done until it returns true, for at most within, and returns its last result.
func waitUntil(within time.Duration, done func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); ; <-tick.C {
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
