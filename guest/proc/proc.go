// Package proc runs the guest's child processes. Each has its own process group and, on request, an ordinary user. It
// dies with the guest, even if the guest is killed, and stopping it ends its whole group.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// User is the user of a child; nil: the guest's own.
type User struct {
	Name     string
	UID, GID uint32
}

// Ordinary returns the user for children: nil if the guest is not root, else the first of names that exists.
func Ordinary(names ...string) (*User, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	for _, n := range names {
		u, err := user.Lookup(n)
		if n == "" || err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("user %s: %w", n, err)
		}
		return &User{n, uint32(uid), uint32(gid)}, nil
	}
	return nil, fmt.Errorf("none of the users %q exists", names)
}

// Own makes u the owner of path; nil: no change.
func (u *User) Own(path string) error {
	if u == nil {
		return nil
	}
	return os.Chown(path, int(u.UID), int(u.GID))
}

// CanReach reports whether u may enter dir and every folder above it.
func (u *User) CanReach(dir string) bool {
	if u == nil || u.UID == 0 {
		return true
	}
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		var st syscall.Stat_t
		if syscall.Stat(d, &st) != nil {
			return false
		}
		bit := uint32(0o001)
		switch {
		case st.Uid == u.UID:
			bit = 0o100
		case st.Gid == u.GID:
			bit = 0o010
		}
		if st.Mode&bit == 0 {
			return false
		}
		if d == filepath.Dir(d) {
			return true
		}
	}
}

// Child describes a process.
type Child struct {
	Path   string
	Args   []string // without the program's name
	Env    []string // the whole environment; nothing is inherited
	Dir    string
	User   *User
	Output io.Writer  // standard output and error; nil: discarded
	Files  []*os.File // become descriptors 3, 4, …; Run closes them here
}

// ErrEnded says that a child ended without an error. For a child that should keep running, that is an error.
var ErrEnded = errors.New("it ended")

const stopWithin = 3 * time.Second

// Run starts the child and returns when it and its group have ended: on its own, with its error, or because ctx ended.
// started is called with its pid once it runs; nil: no call.
func Run(ctx context.Context, c Child, started func(pid int)) error {
	// The parent-death signal depends on the thread that forks, so this goroutine keeps its thread as long as the
	// child runs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = c.Env, c.Dir, c.Files
	cmd.Stdout, cmd.Stderr = c.Output, c.Output
	cmd.WaitDelay = time.Second // a grandchild may keep the output pipe open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c.User != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID}
	}
	err := cmd.Start()
	for _, f := range c.Files {
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", filepath.Base(c.Path), err)
	}
	pid := cmd.Process.Pid
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		t := time.NewTimer(stopWithin)
		defer t.Stop()
		select {
		case <-ended:
		case <-t.C:
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}()
	if started != nil {
		started(pid)
	}
	err = cmd.Wait()
	close(ended)
	<-stopped
	_ = syscall.Kill(-pid, syscall.SIGKILL) // what is left of the group
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = ErrEnded
	}
	return fmt.Errorf("%s: %w", filepath.Base(c.Path), err)
}
