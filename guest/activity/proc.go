package activity

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is one entry of /proc.
type process struct {
	pid, parent     int
	group, session  int
	tty             uint64 // device of its terminal; 0: none
	foreground      int    // group in the foreground of that terminal
	name            string
	started         string // in the kernel's ticks; with pid, it names the process
	root            string // of the /proc
	stopped, zombie bool
}

// processes reads all processes that can be read.
func processes(root string) (map[int]process, error) {
	dir, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProcess(root, pid); ok {
			all[pid] = p
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no process can be read")
	}
	return all, nil
}

// readProcess reads a process's stat; ok: it exists.
func readProcess(root string, pid int) (p process, ok bool) {
	text, err := os.ReadFile(filepath.Join(root, strconv.Itoa(pid), "stat"))
	if err != nil {
		return p, false
	}
	// The name is in brackets and may have any letters.
	from, to := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return p, false
	}
	f := strings.Fields(string(text[to+1:]))
	if len(f) < 20 {
		return p, false
	}
	number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	return process{
		pid: pid, name: string(text[from+1 : to]), stopped: f[0] == "T", zombie: f[0] == "Z" || f[0] == "X",
		parent: number(1), group: number(2), session: number(3), tty: uint64(uint32(number(4))), foreground: number(5), started: f[19], root: root,
	}, true
}

func (p process) path(name string) string { return filepath.Join(p.root, strconv.Itoa(p.pid), name) }

const maxCommand, maxEnvironment = 4 << 10, 256 << 10

// list reads a file of strings that end with NUL.
func (p process) list(name string, most int64) ([]string, error) {
	f, err := os.Open(p.path(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil || len(text) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00"), nil
}

func (p process) args() []string { args, _ := p.list("cmdline", maxCommand); return args }

// has reports whether the process started with a variable whose name begins with prefix; prefix may have the "=" and a value.
func (p process) has(prefix string) bool {
	env, _ := p.list("environ", maxEnvironment)
	for _, v := range env {
		if strings.HasPrefix(v, prefix) {
			return true
		}
	}
	return false
}

// within reports whether the process belongs to a systemd unit.
func (p process) within(unit string) bool {
	text, err := os.ReadFile(p.path("cgroup"))
	return err == nil && strings.Contains(string(text), "/"+unit)
}

// read returns when a program last read from the process's terminal, as the kernel keeps it in the device's access time,
// in whole steps of eight seconds.
func (p process) read() (at syscall.Timespec, err error) {
	for _, fd := range []string{"fd/0", "fd/1", "fd/2", "fd/255"} {
		info, err := os.Stat(p.path(fd))
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&os.ModeCharDevice != 0 && device(uint64(st.Rdev)) == device(p.tty) {
			return st.Atim, nil
		}
	}
	return at, fs.ErrNotExist
}

// device returns the major and the minor number. stat has the lower bits of both as the kernel's /proc has them.
func device(dev uint64) [2]uint64 {
	return [2]uint64{dev >> 8 & 0xfff, dev&0xff | dev>>12&0xfff00}
}
