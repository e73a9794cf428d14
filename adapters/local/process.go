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
)

// process names a process for good: its id alone may be given to another one later.
type process struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // clock ticks since the computer started
}

func (p process) zero() bool { return p.PID == 0 }

// findProcess names the process that has this id now.
func findProcess(pid int) (process, error) {
	fields, err := stat(pid)
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Start: fields[19]}, nil
}

// alive tells whether it runs; a zombie does not.
func (p process) alive() bool {
	if p.zero() {
		return false
	}
	fields, err := stat(p.PID)
	return err == nil && fields[19] == p.Start && fields[0] != "Z" && fields[0] != "X"
}

// stat returns the fields of /proc/PID/stat from the third, state, on.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, err
	}
	// The second field is the program's name in brackets and may hold anything.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return nil, fmt.Errorf("read /proc/%d/stat: unknown format", pid)
	}
	return fields, nil
}

// machineEnv marks every process of a machine with its folder; the guest hands it on to what it
// starts. A session or group would not do: a program may leave either.
const machineEnv = "CLOUDBOT_MACHINE"

const maxLog = 4 << 20 // bytes of a guest's log file that survive a restart

// findGuest settles on the guest's program.
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
		return "", fmt.Errorf("the guest's program %s is missing: run make build, or say where it is", path)
	}
	return path, nil
}

// ensureRunning starts the machine's guest unless it runs, and makes it ours.
func (c *Cloud) ensureRunning(m machine) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("this control plane is stopping")
	}
	// The guest inherits the locked descriptor: the lock says that it lives from the moment it exists,
	// even if we are killed before its id is written down.
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
	c.sweep(m.ID) // what a guest that was killed left over
	if err := c.boot(m.ID); err != nil {
		return fmt.Errorf("write guest's configuration: %w", err)
	}
	log, err := openLog(c.file(m.ID, logFile))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.guest, "-config", configFile)
	cmd.Dir = c.folder(m.ID)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.folder(m.ID), "LANG=C.UTF-8", machineEnv + "=" + c.folder(m.ID)}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock}
	// A session of its own: the machine outlives a control plane that crashes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start guest: %w", err)
	}
	c.reaped.Go(func() { _ = cmd.Wait() })
	m.Guest, err = findProcess(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("guest ended at once, see %s: %w", log.Name(), err)
	}
	m.Owner, m.URL = c.self, c.cfg.ControlPlaneURL
	return c.write(m)
}

func openLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if st, err := os.Stat(path); err == nil && st.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

// alive tells whether a guest of the machine lives: it holds the lock then.
func (c *Cloud) alive(id string) (bool, error) {
	f, err := os.Open(c.file(id, aliveFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	// A shared lock: two that look at once must not take each other for the guest.
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// boot writes the guest's configuration for one boot: the user-data, a new boot id, and where the
// control plane is now.
func (c *Cloud) boot(id string) error {
	text, err := os.ReadFile(c.file(id, userDataFile))
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	config["boot"], config["control_plane_url"] = rand.Text(), c.cfg.ControlPlaneURL
	if text, err = json.Marshal(config); err != nil {
		return err
	}
	return replaceFile(c.file(id, configFile), text)
}

// end ends the machine's processes, all of them.
func (c *Cloud) end(m machine) error {
	if m.Guest.alive() {
		_ = syscall.Kill(m.Guest.PID, syscall.SIGTERM)
		waitUntil(c.cfg.Grace, func() bool { return !m.Guest.alive() })
	}
	gone := waitUntil(c.cfg.Grace, func() bool {
		// A process that exits loses its mark before it lets go of the lock.
		alive, err := c.alive(m.ID)
		return c.sweep(m.ID) == 0 && err == nil && !alive
	})
	if !gone {
		return fmt.Errorf("end %s: its processes do not end", m.ID)
	}
	return nil
}

// sweep kills what is marked as the machine's and returns how many processes there were.
func (c *Cloud) sweep(id string) int {
	found := c.processes(id)
	for _, pid := range found {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return len(found)
}

// processes finds the machine's processes by their mark.
func (c *Cloud) processes(id string) []int {
	mark := []byte(machineEnv + "=" + c.folder(id))
	entries, _ := os.ReadDir("/proc")
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue // gone, or somebody else's
		}
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(v, mark) {
				found = append(found, pid)
				break
			}
		}
	}
	return found
}

// waitUntil asks until done says yes, for at most so long, and returns its last word.
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
