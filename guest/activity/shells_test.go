package activity_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cloudbot-ai/control-plane/guest/activity"
)

// pty is a terminal with a program in a session of its own.
type pty struct {
	t      *testing.T
	master *os.File
	shown  atomic.Int64 // bytes that the terminal showed
	cmd    *exec.Cmd
}

// terminal starts a program on a new terminal of the kernel.
func terminal(t *testing.T, env []string, name string, args ...string) *pty {
	t.Helper()
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	ioctl := func(request uintptr, n *int32) {
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(n))); e != 0 {
			t.Fatal(e)
		}
	}
	const unlock, number = 0x40045431, 0x80045430
	var no, n int32
	ioctl(unlock, &no)
	ioctl(number, &n)
	p := &pty{t: t, master: os.NewFile(uintptr(fd), "ptmx")}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(int(n)), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	p.cmd = exec.Command(name, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TERM=dumb", "PS1=ready> "}, env...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b := make([]byte, 4096)
		for {
			n, err := p.master.Read(b)
			p.shown.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		p.master.Close() // hangs the session up
		_ = p.cmd.Wait()
		<-read
	})
	return p
}

func (p *pty) say(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.master, text); err != nil && !errors.Is(err, os.ErrClosed) {
		p.t.Fatal(err)
	}
}

// looks waits until the terminals are found used, or not, three times in a row.
func looks(t *testing.T, s *activity.Shells, what string, want bool) {
	t.Helper()
	looksAfter(t, s, what, want, func() {})
}

func looksAfter(t *testing.T, s *activity.Shells, what string, want bool, before func()) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for row := 0; row < 3; time.Sleep(50 * time.Millisecond) {
		before()
		seen, err := s.Look()
		if err != nil {
			t.Fatal(err)
		}
		got := seen.Typed || seen.Works
		if row++; got != want {
			row = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got used %v, want %v", what, got, want)
		}
	}
}

// once waits until input in a terminal is found.
func once(t *testing.T, s *activity.Shells, what string, before func()) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		before()
		if seen, err := s.Look(); err != nil {
			t.Fatal(err)
		} else if seen.Typed {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: got unused for a minute, want used", what)
		}
	}
}

var marks atomic.Int64

// mark returns a variable that only this test's terminals have.
func mark(t *testing.T) string {
	return fmt.Sprintf("CLOUDBOT_MACHINE=%s-%d-%d", t.Name(), os.Getpid(), marks.Add(1))
}

// ready waits until the shell has shown its prompt.
func (p *pty) ready() {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); p.shown.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatal("no prompt within a minute")
		}
	}
}

// An open, silent shell is idle. Input, and a program in the foreground, are use; one in the background is not.
func TestShell(t *testing.T) {
	t.Parallel()
	m := mark(t)
	s := &activity.Shells{Mark: m}
	p := terminal(t, []string{m}, "bash", "--norc", "-i")
	p.ready()
	looks(t, s, "a silent shell", false)
	once(t, s, "input", func() { p.say("\n") })
	looks(t, s, "silent again", false)
	p.say("sleep 1000\n")
	looks(t, s, "a program", true)
	if seen, err := s.Look(); err != nil || seen != (activity.Seen{Works: true}) {
		t.Errorf("a program that its user has left: got %+v, %v, want a program without input", seen, err)
	}
	p.say("\x1a") // stopped: the shell waits for input
	looks(t, s, "a stopped program", false)
	p.say("bg\n")
	looks(t, s, "a program in the background", false)
	p.say("fg\n")
	looks(t, s, "a program in the foreground again", true)
	p.say("\x03")
	looks(t, s, "an interrupted program", false)
	p.say("bash --norc\n")
	looks(t, s, "a shell in the shell", false)
	p.say("sleep 1000\n")
	looks(t, s, "a program in the shell in the shell", true)
}

// A terminal that opens while the machine runs is use, once: its user logged in.
func TestNewShell(t *testing.T) {
	t.Parallel()
	m := mark(t)
	s := &activity.Shells{Mark: m}
	looks(t, s, "no terminal", false)
	p := terminal(t, []string{m}, "bash", "--norc", "-i")
	p.ready()
	once(t, s, "a log-in", func() {})
	looks(t, s, "silent", false)
}

// A terminal in a terminal: what carries it is no program.
func TestCarriedShell(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("script is not installed")
	}
	m := mark(t)
	s := &activity.Shells{Mark: m}
	p := terminal(t, []string{m, "SHELL=/bin/sh"}, "bash", "--norc", "-i")
	p.ready()
	p.say(script + " -q -c 'exec bash --norc -i' /dev/null\n")
	looks(t, s, "a carried shell", false)
	p.say("sleep 1000\n")
	looks(t, s, "a program in a carried shell", true)
}

// What the agent starts is no use of a terminal, neither is a shell with a command of its own, and other machines' terminals
// are theirs.
func TestNotAShell(t *testing.T) {
	t.Parallel()
	m := mark(t)
	s := &activity.Shells{Mark: m}
	looks(t, s, "no terminal", false)
	agents := terminal(t, []string{m, "OPENCLAW_GATEWAY_TOKEN=x"}, "bash", "--norc", "-i")
	agents.ready()
	agents.say("sleep 1000\n")
	children := terminal(t, []string{m, "OPENCLAW_STATE_DIR=/x"}, "bash", "--norc", "-i")
	children.ready()
	children.say("exec env -u OPENCLAW_STATE_DIR bash --norc -c 'bash --norc -i; true'\n")
	terminal(t, []string{m}, "bash", "-c", "sleep 1000; true")
	terminal(t, []string{m}, "bash", "-lc", "sleep 1000; true")
	terminal(t, []string{m}, "sleep", "1000")
	others := terminal(t, []string{mark(t)}, "bash", "--norc", "-i")
	others.ready()
	others.say("sleep 1000\n")
	looksAfter(t, s, "terminals of others", false, func() { agents.say("\n") })
	mine := terminal(t, []string{m}, "bash", "--norc", "-i")
	mine.ready()
	mine.say("sleep 1000\n")
	looks(t, s, "a terminal of this machine", true) // so the ones before could have been found
}

// A computer whose processes cannot be read is not idle.
func TestNoProcesses(t *testing.T) {
	t.Parallel()
	if _, err := (&activity.Shells{Root: t.TempDir()}).Look(); err == nil {
		t.Error("an empty /proc: got no error, want one")
	}
}
