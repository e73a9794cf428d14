package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/hold"
)

// canary is the start of each secret of the attacked server.
const canary = "CANARYcanaryCANARY"

// TestBreakIn types a line into the terminal of one desktop, as its user may, and looks from there for the server's
// secrets and for the other desktop. If the server runs as root, it finds nothing. If the server runs as an ordinary
// user, its desktops have the same user and can read its files, but not its secrets from the process. In both cases a
// terminated desktop leaves no process.
func TestBreakIn(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"Xvnc", "xterm", "openbox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed, so no desktop has a shell: deploy/prerequisites.sh installs it", program)
		}
	}
	root := os.Geteuid() == 0
	given := map[string]string{
		"JWT_SECRET_KEY":         canary + "-access-0123456789abcdef0123456789",
		"JWT_REFRESH_SECRET_KEY": canary + "-refresh-0123456789abcdef012345678",
		"AWS_SECRET_ACCESS_KEY":  canary + "-aws",
		"STRIPE_SECRET_KEY":      canary + "-of-a-name-that-the-server-does-not-know",
	}
	open, err := os.MkdirTemp("", "cloudbot-breakin-")
	if err == nil {
		err = os.Chmod(open, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	var env []string
	for name, value := range given {
		env = append(env, name+"="+value)
	}
	key := filepath.Join(open, "encryption-key")
	if err := os.WriteFile(key, []byte("Q0FOQVJZY2FuYXJ5Q0FOQVJZY2FuYXJ5Q0FOQVJZY2E=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env = append(env, "ENCRYPTION_KEY_FILE="+key, "GIVE_USERS_A_SHELL_ON_THIS_COMPUTER=true")
	s := newServer(t, env...)
	s.start()
	mallory, alice := signUp(t, s.URL, "mallory@example.com"), signUp(t, s.URL, "alice@example.com")
	victim := alice.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	own := mallory.must(http.StatusAccepted, "POST", "/api/instances", "{}").field("id")
	alice.awaitInstance(victim, "ready", "true")
	mallory.awaitInstance(own, "ready", "true")

	at := plan{Canary: canary, Server: s.cmd.Process.Pid, Admin: s.Admin, Files: []string{key}}
	mine := s.machineOf(own)
	err = filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case strings.HasPrefix(path+"/", mine+"/"), strings.HasPrefix(path+"/", filepath.Join(s.dir, "guests")+"/"), err != nil:
			return nil // its own; what every machine downloads; what was removed meanwhile
		case d.IsDir():
			at.Folders = append(at.Folders, path)
		case d.Type() == fs.ModeSocket && strings.Contains(path, ".s.PGSQL."):
			at.Sockets = append(at.Sockets, path)
		case d.Type().IsRegular():
			at.Files = append(at.Files, path)
		}
		return nil
	})
	if err != nil || len(at.Sockets) != 1 || !slices.Contains(at.Files, filepath.Join(s.dir, "secrets.json")) {
		t.Fatalf("the plan is incomplete: got %v, sockets %v, %d files, want 1 socket and secrets.json", err, at.Sockets, len(at.Files))
	}
	text, err := json.Marshal(at)
	if err == nil {
		err = os.WriteFile(filepath.Join(open, "plan"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	got := mallory.probe(own, open)
	t.Logf("as %s, past %d processes and %d displays, it got %d things", got.User, got.Processes, got.Displays, len(got.Got))
	for _, g := range got.Got {
		place, _, _ := strings.Cut(g, ": ")
		process := strings.HasPrefix(place, fmt.Sprintf("/proc/%d/", at.Server))
		if root || process || strings.Contains(g, canary) && strings.HasPrefix(place, "/proc/") {
			t.Errorf("a shell in a desktop read %.300q, want nothing", g)
		}
	}
	if got.Displays == 0 || len(got.Children) != 3 {
		t.Errorf("the probe: got %d other displays and children %v, want a display and 3 children", got.Displays, got.Children)
	}
	for _, pid := range got.Children {
		if !running(pid) {
			t.Errorf("process %d: got stopped, want running before the termination", pid)
		}
	}
	mallory.must(http.StatusAccepted, "DELETE", "/api/instances/"+own, "")
	mallory.awaitInstance(own, "status", "terminated")
	for _, pid := range got.Children {
		if running(pid) {
			t.Errorf("process %d of the terminated desktop: got running, want stopped", pid)
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	alice.awaitInstance(victim, "ready", "true") // unharmed
	// Even root finds no secret in the initial environment of the server and its children.
	for _, pid := range append(s.children(), at.Server) {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil && strings.Contains(string(text), canary) {
			t.Errorf("the environment of process %d: got %.200q, want no secret", pid, text)
		}
	}
	alice.must(http.StatusAccepted, "DELETE", "/api/instances/"+victim, "")
	alice.awaitInstance(victim, "status", "terminated")
}

// plan and report are those of e2e/probe.
type plan struct {
	Canary                  string
	Server                  int
	Files, Folders, Sockets []string
	Admin                   string
}

type report struct {
	User                string
	Got                 []string
	Children            []int
	Displays, Processes int
}

// probe runs the probe in the shell of a desktop and returns its report.
func (c *client) probe(id, dir string) (r report) {
	c.t.Helper()
	result := filepath.Join(dir, "report")
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	ws, err := c.bridge(ctx, id, "vnc", "vnc")
	if err != nil {
		c.t.Fatal(err)
	}
	defer ws.CloseNow()
	conn := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	if _, err := rfbHello(conn); err != nil {
		c.t.Fatal(err)
	}
	line := fmt.Sprintf("%s %s %s\n", filepath.Join(bin, "probe"), filepath.Join(dir, "plan"), result)
	var typed time.Time
	await(c.t, 60*time.Second, "the terminal to run the probe", func() bool {
		if text, err := os.ReadFile(result); err == nil && json.Unmarshal(text, &r) == nil {
			return true
		}
		// The terminal may appear later than the desktop.
		if time.Since(typed) > 5*time.Second {
			if err := rfbType(conn, line); err != nil {
				c.t.Fatal(err)
			}
			typed = time.Now()
		}
		return false
	})
	return r
}

// rfbType presses and releases the key of each character.
func rfbType(conn interface{ Write([]byte) (int, error) }, text string) error {
	for _, r := range text {
		key := uint32(r)
		if r == '\n' {
			key = 0xff0d
		}
		for _, down := range []byte{1, 0} {
			event := binary.BigEndian.AppendUint32([]byte{4, down, 0, 0}, key)
			if _, err := conn.Write(event); err != nil {
				return err
			}
		}
	}
	return nil
}

// machineOf returns the folder of an instance's machine.
func (s *server) machineOf(instance string) string {
	s.t.Helper()
	files, _ := filepath.Glob(filepath.Join(s.dir, "machines", "local-*", "user-data.json"))
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), instance) {
			return filepath.Dir(f)
		}
	}
	s.t.Fatalf("no machine of instance %s", instance)
	return ""
}

// children returns the server's child processes and their descendants.
func (s *server) children() []int { return hold.Descendants(s.cmd.Process.Pid) }

// running reports whether a process is alive; a zombie is not.
func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}
