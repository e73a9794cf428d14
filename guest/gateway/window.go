package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/proc"
	"github.com/cloudbot-ai/control-plane/guest/x11"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// managedWithin is how long the demo waits for a window manager; there may be none.
const managedWithin = 5 * time.Second

// windowTitle is how the demo finds its window.
const windowTitle = "CloudBot demo agent"

// sheet is what runs in the demo's window: a sheet of paper, then a shell in a folder of its own with what was typed.
const sheet = `mkdir -m 700 "$PAPER" && cd "$PAPER" || exit
trap 'cd /; rm -rf "$PAPER"' EXIT
trap exit HUP TERM
clear
printf '\033[1;33m  The demo agent types in this window.\033[0m\n\n'
cat >greeting.txt
printf '\n'
PS1='demo $ ' sh -i
`

// window is the demo's terminal.
type window struct {
	dir    string // of its shell
	cancel context.CancelFunc
	ended  chan struct{} // closed when its processes have ended
	err    error         // why they ended
	id     x11.Window
}

func (w *window) close() {
	w.cancel()
	<-w.ended
}

// closed reports whether the window is no longer there.
func (w *window) closed() bool {
	select {
	case <-w.ended:
		return true
	case <-time.After(time.Second): // the server says it before the process ends
		return false
	}
}

// terminal returns the arguments of a terminal of so many columns and rows at a place of the screen; none: there is no
// terminal that the demo knows.
func terminal(path string, x, y int) []string {
	look := func(name string) string {
		for _, dir := range strings.Split(path, ":") {
			if p, err := exec.LookPath(dir + "/" + name); dir != "" && err == nil {
				return p
			}
		}
		return ""
	}
	if p := look("xterm"); p != "" {
		return []string{p, "-T", windowTitle, "-geometry", fmt.Sprintf("58x17+%d+%d", x, y), "-bg", "#10222e", "-fg", "#e8eef2", "-cr", "#f2a65a",
			"-bd", "#f2a65a", "-b", "14", "-fa", "Monospace", "-fs", "14", "-xrm", "*allowTitleOps: true", "-e", "/bin/sh", "-c", sheet}
	}
	if p := look("xfce4-terminal"); p != "" {
		return []string{p, "--disable-server", "--title", windowTitle, "--geometry", fmt.Sprintf("58x17+%d+%d", x, y), "--hide-menubar", "--hide-scrollbar",
			"--font", "Monospace 14", "-x", "/bin/sh", "-c", sheet}
	}
	return nil
}

var errNoTerminal = errors.New("no terminal is installed on this machine")

// openWindow starts the terminal as the desktop's user and waits until it is on the screen.
func openWindow(ctx context.Context, d *x11.Display, env map[string]string, user *proc.User) (*window, error) {
	width, height, err := d.Size()
	if err != nil {
		return nil, err
	}
	// A window that appears while a window manager takes over may stay hidden.
	for deadline := time.Now().Add(managedWithin); time.Now().Before(deadline); {
		if managed, err := d.Managed(); managed || err != nil || retry.Sleep(ctx, 30*time.Millisecond) != nil {
			break
		}
	}
	old, err := d.Find(windowTitle, 0) // the server may still have the window of the demo before
	if err != nil {
		return nil, err
	}
	args := terminal(env["PATH"], max(0, width-760), max(0, height-540))
	if len(args) == 0 {
		return nil, errNoTerminal
	}
	dir := filepath.Join(os.TempDir(), "cloudbot-demo-"+strings.ToLower(rand.Text()[:6]))
	all := []string{"PAPER=" + dir}
	for name, value := range env {
		all = append(all, name+"="+value)
	}
	out := &tail{}
	life, cancel := context.WithCancel(context.Background())
	w := &window{dir: dir, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		w.err = proc.Run(life, proc.Child{Path: args[0], Args: args[1:], Env: all, Dir: env["HOME"], User: user, Output: out}, nil)
	}()
	for deadline := time.Now().Add(15 * time.Second); ; {
		if w.id, err = d.Find(windowTitle, old); w.id != 0 {
			return w, nil
		}
		select {
		case <-w.ended:
			return nil, fmt.Errorf("the terminal did not start: %w: %s", w.err, out)
		default:
		}
		if err == nil && time.Now().After(deadline) {
			err = errors.New("the terminal's window did not appear")
		}
		if err == nil {
			err = retry.Sleep(ctx, 30*time.Millisecond)
		}
		if err != nil {
			w.close()
			return nil, err
		}
	}
}

// tail keeps the end of a program's output.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-300):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(bytes.ToValidUTF8(t.b, nil)))
}
