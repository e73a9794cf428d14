package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// handedEnv names the file descriptor from which the restarted process reads its environment.
const handedEnv = "CLOUDBOT_ENVIRONMENT_FD"

// runtimeEnv is what Go's runtime reads before main. It stays visible to others and holds no secret.
var runtimeEnv = []string{"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GOCOVERDIR"}

// startClean hides the environment: the program starts again, as the same process, with an empty environment and reads
// the old one from a pipe. The kernel shows the environment that a process started with until it ends, even after
// variables are unset. Other processes cannot read this one's memory, and it leaves no core file. Child processes get
// an environment by name, never this one.
func startClean() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // exec undoes it
		return fmt.Errorf("close this process to others: %w", err)
	}
	if text, ok := os.LookupEnv(handedEnv); ok {
		return takeEnvironment(text)
	}
	var kept, handed []string
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); slices.Contains(runtimeEnv, name) {
			kept = append(kept, v)
		} else {
			handed = append(handed, v)
		}
	}
	if len(handed) == 0 {
		return nil
	}
	fd, err := handOver([]byte(strings.Join(handed, "\x00")))
	if err != nil {
		return fmt.Errorf("hand the environment over: %w", err)
	}
	env := append(kept, handedEnv+"="+strconv.Itoa(fd))
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, env)
	}
	if err != nil { // its file was replaced or has no name
		err = syscall.Exec("/proc/self/exe", os.Args, env)
	}
	return fmt.Errorf("start again without secrets in the environment: %w", err)
}

// handOver fills a pipe and returns its reading end, which survives an exec. It is no os.File, because the collector closes a file
// that is no longer used, perhaps before the exec.
func handOver(text []byte) (fd int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, unix.Close(ends[1])) }()
	// Nothing reads until everything is written, so the pipe must hold it all.
	if size, err := unix.FcntlInt(uintptr(ends[1]), unix.F_GETPIPE_SZ, 0); err != nil || size < len(text) {
		if _, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, len(text)); err != nil {
			return 0, fmt.Errorf("an environment of %d bytes is too large: %w", len(text), err)
		}
	}
	for len(text) > 0 {
		n, err := unix.Write(ends[1], text)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		text = text[max(n, 0):]
	}
	_, err = unix.FcntlInt(uintptr(ends[0]), unix.F_SETFD, 0)
	return ends[0], err
}

// takeEnvironment reads what handOver wrote.
func takeEnvironment(fd string) error {
	n, err := strconv.Atoi(fd)
	if err != nil || n < 3 {
		return fmt.Errorf("%s is for cloudbot's own use; unset it", handedEnv)
	}
	f := os.NewFile(uintptr(n), "environment")
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close(), os.Unsetenv(handedEnv)); err != nil {
		return fmt.Errorf("%s is for cloudbot's own use; unset it (%w)", handedEnv, err)
	}
	for v := range strings.SplitSeq(string(text), "\x00") {
		if name, value, ok := strings.Cut(v, "="); ok && name != "" {
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
	}
	return nil
}
