package agentconfig

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// Files in the home folder of the agent's user.
const (
	Dir    = ".openclaw"
	file   = Dir + "/openclaw.json"
	record = Dir + "/cloudbot-settings.json"
)

// maxFile is more than any configuration has, in bytes.
const maxFile = 1 << 20

// Write merges our settings into the configuration in home, which belongs to u; nil: to this process's user. It also creates
// the workspace with its AGENTS.md if that is missing. The agent can write there, too, so Write follows no link out of home.
// It returns what is configured then, which may be the user's choice.
func Write(home string, u *proc.User, f Facts) (s State, err error) {
	root, err := os.OpenRoot(home)
	if err != nil {
		return s, err
	}
	defer root.Close()
	if err := makeDir(root, Dir, 0o700, u); err != nil {
		return s, err
	}
	s, err = writeSettings(root, u, f)
	return s, errors.Join(err, writeWorkspace(root, home, u, f))
}

// Read returns what the configuration in home gives the agent, with or without a screen. ok is false if there is none that
// can be read.
func Read(home string, screen bool) (s State, ok bool) {
	root, err := os.OpenRoot(home)
	if err != nil {
		return s, false
	}
	defer root.Close()
	text, err := read(root, file)
	if err != nil || text == nil {
		return s, false
	}
	if _, err := parse(text); err != nil {
		return s, false
	}
	return stateOf(text, Facts{Screen: screen}), true
}

func writeSettings(root *os.Root, u *proc.User, f Facts) (s State, err error) {
	old, err := read(root, file)
	if err != nil {
		return s, err
	}
	last, err := read(root, record)
	if err != nil {
		return s, err
	}
	text, ours, err := Merge(old, last, f)
	if err != nil {
		return s, err
	}
	// The record last: if only the file is written, the next Merge finds what it wants there, and takes it as ours.
	if old == nil || !bytes.Equal(old, text) {
		if err := write(root, file, text, u); err != nil {
			return s, err
		}
	}
	if !bytes.Equal(last, ours) {
		err = write(root, record, ours, u)
	}
	return stateOf(text, f), err
}

func makeDir(root *os.Root, name string, mode fs.FileMode, u *proc.User) error {
	err := root.Mkdir(name, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil || u == nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chown(int(u.UID), int(u.GID)) // a file of root's may have the name by now, as a hard link
}

// read returns the contents of a regular file; nil: there is none.
func read(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would block
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", name, maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// write replaces a file, so that readers see either the old or the new one.
func write(root *os.Root, name string, data []byte, u *proc.User) error {
	temp := name + ".new-" + rand.Text()
	f, err := root.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer root.Remove(temp)
	_, err = f.Write(data)
	if err == nil && u != nil {
		err = f.Chown(int(u.UID), int(u.GID))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(temp, name)
}
