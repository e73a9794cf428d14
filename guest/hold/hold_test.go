package hold

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scriptEnv makes the test binary hold a shell that runs the script it names.
const scriptEnv = "HOLD_TEST_SCRIPT"

func TestMain(m *testing.M) {
	script, ok := os.LookupEnv(scriptEnv)
	if !ok {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	status, err := Run(ctx, 3, "/bin/sh", "-c", script)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	os.Exit(status)
}

// held is a running holder.
type held struct {
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
	lock  *os.File // our end of a file that only the holder keeps open
}

func start(t *testing.T, script string) *held {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{scriptEnv + "=" + script, "PATH=" + os.Getenv("PATH")}
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); r.Close() })
	return &held{cmd, in, bufio.NewScanner(out), r}
}

// pids reads the ids that the script prints, one per line.
func (h *held) pids(t *testing.T, n int) (list []int) {
	t.Helper()
	for len(list) < n {
		if !h.lines.Scan() {
			t.Fatalf("the script ended after %v: %v, want h.lines.Scan() true", list, h.lines.Err())
		}
		pid, err := strconv.Atoi(strings.TrimSpace(h.lines.Text()))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, pid)
	}
	return list
}

// alive reports whether a process lives; a zombie does not.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// escapes lists ways in which a child leaves its group, session, environment and parents.
const escapes = `
env -i setsid sleep 987 >/dev/null 2>&1 & echo $!
env -i setsid sh -c 'sleep 988 >/dev/null 2>&1 & echo $!'
(setsid sh -c '(env -i setsid sh -c "sleep 989 >/dev/null 2>&1 & echo \$!" &)' &)
trap "" TERM; env -i setsid sh -c 'trap "" TERM HUP INT; echo $$; exec sleep 990 >/dev/null 2>&1' &
`

func TestNothingEscapes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		then   string
		end    func(*held)
		status int
	}{
		"the program ends":        {"read x; exit 7", func(h *held) { h.in.Close() }, 7},
		"the holder is asked to":  {"trap 'exit 3' TERM; while :; do sleep 0.05; done", func(h *held) { _ = h.cmd.Process.Signal(syscall.SIGTERM) }, 3},
		"the program is stubborn": {"while :; do sleep 0.05; done", func(h *held) { _ = h.cmd.Process.Signal(syscall.SIGTERM) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, escapes+c.then)
			pids := h.pids(t, 4)
			c.end(h)
			_, _ = io.Copy(io.Discard, h.lock) // ends with the holder
			_ = h.cmd.Wait()
			if got := h.cmd.ProcessState.ExitCode(); got != c.status {
				t.Errorf("status %d, want %d", got, c.status)
			}
			for _, pid := range pids {
				if alive(pid) {
					t.Errorf("process %d is alive after its holder, want alive(pid) false", pid)
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		})
	}
}

func TestProgramDiesWithItsHolder(t *testing.T) {
	t.Parallel()
	h := start(t, "echo $$; while :; do sleep 0.05; done")
	pid := h.pids(t, 1)[0]
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(60 * time.Second); alive(pid); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the program outlived its holder")
		}
	}
}

func TestHeldGainNoRights(t *testing.T) {
	t.Parallel()
	h := start(t, "grep NoNewPrivs /proc/self/status; ls /proc/$$/fd")
	text := ""
	for h.lines.Scan() {
		text += h.lines.Text() + " "
	}
	_ = h.cmd.Wait()
	if !strings.Contains(text, "NoNewPrivs:\t1 ") || strings.Contains(text, " 3 ") {
		t.Errorf("rights and descriptors: got %q, want %q in text and no \" 3 \" in text", text, "NoNewPrivs:\t1 ")
	}
}

func TestEndRefusesRoot(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("as an ordinary user it ends this very test")
	}
	if End() == nil {
		t.Error("root's processes may be ended")
	}
}
