package local

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/hold"
)

// needRoot skips the test unless it runs as root: only root can run programs as other users.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can give each machine a user of its own")
	}
}

// as runs a shell as a machine's user, outside the machine's process tree.
func as(t *testing.T, user uint32, script string) (string, error) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/bin:/bin"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestEachMachineHasItsOwnUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := reachable(t)
	c := open(t, dir)
	a, b := mustLaunch(t, c, "token-a"), mustLaunch(t, c, "token-b")
	users := map[string]uint32{}
	for _, id := range []string{a, b} {
		k, err := c.ledger.find(id)
		if err != nil || k.User < c.ledger.users.first {
			t.Fatalf("%s: user %d, %v, want no error and at least %v", id, k.User, err, c.ledger.users.first)
		}
		users[id] = k.User
		eventually(t, "its guest has made its home", func() bool {
			_, err := os.Stat(filepath.Join(c.room(id), stateDir, "home"))
			return err == nil
		})
		m, err := c.read(id)
		if err != nil {
			t.Fatal(err)
		}
		all := statuses()
		for _, pid := range append(hold.Descendants(m.Guest.PID), m.Guest.PID) {
			if s, ok := all[pid]; ok && strings.Join(s.field("Uid"), " ") != strings.TrimSpace(strings.Repeat(fmt.Sprint(k.User, " "), 4)) {
				t.Errorf("%s: process %d: got user %v, want %d", id, pid, s.field("Uid"), k.User)
			}
		}
	}
	if users[a] == users[b] {
		t.Errorf("both are user %d, want users[a] other than %v", users[a], users[b])
	}
	for _, place := range []string{c.cfg.Dir, c.room(b) + "/" + stateDir, c.room(b) + "/" + stateDir + "/home"} {
		if out, err := as(t, users[a], "ls -la "+place); err == nil {
			t.Errorf("one machine's user looks into %s, want an error\n%s", place, out)
		}
	}
	for _, file := range []string{c.ledger.path, c.file(a, userDataFile), c.file(a, machineFile), c.room(b) + "/" + configFile, c.file(a, logFile)} {
		if out, err := as(t, users[a], "cat "+file); err == nil {
			t.Errorf("one machine's user reads %s, want an error\n%s", file, out)
		}
	}
	// The machine keeps its user permanently.
	if err := c.Stop(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if k, err := c.ledger.find(a); err != nil || k.User != users[a] {
		t.Errorf("after a restart: user %d, %v, want no error and %v", k.User, err, users[a])
	}
}

// A process of the machine's user belongs to the machine, even without the mark and without a link to the machine.
func TestTerminationFindsStraysByUser(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := open(t, reachable(t))
	id, other := mustLaunch(t, c, "token-a"), mustLaunch(t, c, "token-b")
	k, err := c.ledger.find(id)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := as(t, k.User, "env -i setsid sleep 985 >/dev/null 2>&1 &"); err != nil {
		t.Fatal(out, err)
	}
	stray := func() bool {
		for _, pid := range processesOf(k.User) {
			if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(text), "sleep\x00985") {
				return true
			}
		}
		return false
	}
	eventually(t, "the stray runs", stray)
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if left := processesOf(k.User); len(left) > 0 {
		t.Errorf("processes %v of the machine's user are left, want none", left)
	}
	if m, err := c.read(other); err != nil || !m.Guest.alive() {
		t.Errorf("the other machine: got %+v %v, want no error and m.Guest.alive() true", m, err)
	}
}

// Machines also run if their users can enter neither the machines' folder nor that of the guest program.
func TestClosedFolder(t *testing.T) {
	t.Parallel()
	needRoot(t)
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(closed, "cloudbot-guest")
	if err := copyFile(guestPath, program); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Dir: filepath.Join(closed, "machines"), GuestPath: program, ControlPlaneURL: "http://127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		_ = os.RemoveAll(c.rooms)
	})
	id := mustLaunch(t, c, "token")
	eventually(t, "its guest has made its home", func() bool {
		_, err := os.Stat(filepath.Join(c.room(id), stateDir, "home"))
		return err == nil
	})
	if !strings.HasPrefix(c.room(id), fallbackRoot+"/") {
		t.Errorf("its room is %s, want to begin with %q", c.room(id), fallbackRoot+"/")
	}
	if err := c.Terminate(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{c.room(id), c.folder(id)} {
		if _, err := os.Stat(place); err == nil {
			t.Errorf("%s is left, want an error", place)
		}
	}
	if k, _ := c.ledger.find(id); len(processesOf(k.User)) > 0 {
		t.Error("processes are left")
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// A machine launched before machines had users gets one at its next boot, and its files get that owner.
func TestMachineOfBefore(t *testing.T) {
	t.Parallel()
	needRoot(t)
	c := open(t, reachable(t))
	id := idOf("token")
	before := ledger{path: c.ledger.path}
	if err := before.add(entry{Call: "launch", Machine: id, ClientToken: "token"}); err != nil {
		t.Fatal(err)
	}
	if err := c.prepare(id, `{"control_plane_url":"http://127.0.0.1:9","instance":"01INSTANCE","token":"t"}`); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(c.folder(id), stateDir, "home")
	if err := os.MkdirAll(home, 0o711); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(c.cfg.Dir, "foreign")
	for _, f := range []string{foreign, filepath.Join(home, "notes")} {
		if err := os.WriteFile(f, []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(foreign, filepath.Join(home, "trap")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	k, err := c.ledger.find(id)
	if err != nil || k.User == 0 || !k.running() {
		t.Fatalf("got %+v %v, want no error, k.User other than 0 and k.running() true", k, err)
	}
	for path, want := range map[string]uint32{home: k.User, filepath.Join(home, "notes"): k.User, foreign: 0} {
		st, err := os.Stat(path)
		if err != nil || st.Sys().(*syscall.Stat_t).Uid != want {
			t.Errorf("%s is of user %v, want %d (%v)", path, st.Sys().(*syscall.Stat_t).Uid, want, err)
		}
	}
	if m, err := c.read(id); err != nil || !m.Guest.alive() {
		t.Errorf("it does not run: got %+v %v, want no error and m.Guest.alive() true", m, err)
	}
}

func TestPickedUsersAreFree(t *testing.T) {
	t.Parallel()
	u := users{first: 1_990_000_000, count: 10}
	given := map[uint32]bool{}
	for i := range 10 {
		id, err := u.pick(fmt.Sprint("machine", i), func(id uint32) bool { return given[id] })
		if err != nil || id < u.first || id >= u.first+u.count || given[id] {
			t.Fatalf("got %d after %v: %v, want no error, id at least %v, id less than %v and given[id] false", id, given, err, u.first, u.first+u.count)
		}
		given[id] = true
	}
	if id, err := u.pick("one more", func(id uint32) bool { return given[id] }); err == nil {
		t.Errorf("an eleventh of ten is free: got %d, want an error", id)
	}
	if id, err := (users{first: 0, count: 1}).pick("root", func(uint32) bool { return false }); err == nil {
		t.Errorf("a user that exists was picked: got %d, want an error", id)
	}
}

func TestOthersRead(t *testing.T) {
	t.Parallel()
	dir := reachable(t)
	file, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir, file fs.FileMode
		want      bool
	}{{0o711, 0o600, false}, {0o711, 0o640, false}, {0o711, 0o644, true}, {0o700, 0o644, false}} {
		if err := os.Chmod(file, c.file); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, c.dir); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{file, link} {
			if got := OthersRead(path); got != c.want {
				t.Errorf("%s: folder %o, file %o: got %v, want %v", path, c.dir, c.file, got, c.want)
			}
		}
	}
}

// reachable returns a folder that any user may pass through; t.TempDir may be below a closed one.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "local-test-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
