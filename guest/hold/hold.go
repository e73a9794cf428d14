// Package hold keeps track of every process of a machine that shares its computer with others. The process that runs
// it (the holder) starts the machine's guest, becomes the parent of orphaned processes (a "child subreaper"), and ends
// only when none is left. A program can escape neither with a session of its own nor with an empty environment.
//
// The one thing to know: a holder without children has no descendants at all, so all have ended when it ends.
package hold

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// grace is how long the guest may take to end its programs.
const grace = 4 * time.Second

// Run runs a program with the environment and output of this process, and returns its exit status once the program and
// all its descendants have ended. When ctx ends, the program gets SIGTERM and a few seconds; then all that are left
// are killed. The program and its descendants cannot gain rights from set-user-id files, and die with this process.
// They do not inherit the descriptor keep.
func Run(ctx context.Context, keep int, path string, args ...string) (status int, err error) {
	// The parent-death signal and the refusal of new rights depend on the thread that forks.
	runtime.LockOSThread()
	syscall.CloseOnExec(keep)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become the parent of orphans: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("give up new rights: %w", err)
	}
	program, err := syscall.ForkExec(path, append([]string{path}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
		Sys: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	ended := make(chan int, 1)
	none := make(chan error, 1)
	go func() { none <- reap(program, ended) }()
	select {
	case status = <-ended:
	case <-ctx.Done():
		_ = syscall.Kill(program, syscall.SIGTERM)
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case status = <-ended:
		case <-t.C:
		}
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, pid := range Descendants(os.Getpid()) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case err := <-none:
			return status, err
		case <-tick.C:
		}
	}
}

// reap waits for children, own or inherited, until there are none. ended receives the program's exit status.
func reap(program int, ended chan<- int) error {
	for {
		var s syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &s, 0, nil); {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ECHILD):
			return nil
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case pid == program:
			ended <- max(s.ExitStatus(), 0)
		}
	}
}

// Descendants lists the living processes below pid.
func Descendants(pid int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The program's name is in brackets and may contain any character. After it come state and parent.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	var found []int
	for next := children[pid]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, children[next[0]]...)
	}
	return found
}

// End kills all processes of the current user except itself, at once, so that none can start another in between. Root
// is refused: its processes belong to the whole computer.
func End() error {
	if os.Getuid() == 0 || os.Geteuid() == 0 {
		return errors.New("end all processes of a user: refused for root")
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end all processes of user %d: %w", os.Getuid(), err)
	}
	return nil
}
