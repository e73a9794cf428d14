// Package proc runs the guest's child processes: each in its own group, as an ordinary user where
// that is asked for, killed with the guest however the guest ends, and killed wholly at stop.
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

// User is whom a child runs as; nil: as the guest itself.
type User struct {
	Name     string
	UID, GID uint32
}

// Ordinary finds the user for children: nil where the guest is not root, else the first of names
// that exists.
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

// Own hands path to u; nil: nothing.
func (u *User) Own(path string) error {
	if u == nil {
		return nil
	}
	return os.Chown(path, int(u.UID), int(u.GID))
}

// CanReach tells whether u may enter every folder above and including dir.
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

// ErrEnded says that a child ended without an error, which is one for what is meant to stay.
var ErrEnded = errors.New("it ended")

const stopWithin = 3 * time.Second

// Run starts the child and returns when it has ended and its group is gone: on its own, with its
// error, or because ctx ended. started is called with its pid once it runs; nil: nobody.
func Run(ctx context.Context, c Child, started func(pid int)) error {
	// The parent-death signal belongs to the thread that forks, so this goroutine keeps its thread
	// for the child's whole life.
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
