// Package units runs desktop and agent as the systemd units that package install put on the machine. They outlive a
// restart of the guest, but not of the machine.
//
// The one thing to know: the units' secrets are files in /run/cloudbot, which is in memory, and the units do not start
// without them.
package units

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/proc"
)

// Dir is the folder of the units' secrets.
const Dir = "/run/cloudbot"

// Addresses that the units listen on.
const (
	vncAddr   = "127.0.0.1:5900"
	agentAddr = "127.0.0.1:18789"
)

const (
	quickly  = 250 * time.Millisecond // between checks until a unit is ready
	steadily = 5 * time.Second        // after that
)

// Control runs a command of systemctl: "start", "cloudbot-xvnc.service".
type Control func(ctx context.Context, args ...string) error

func systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Folder creates Dir if it is missing and checks that it is in memory and writable only by root.
func Folder(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return err
	}
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	if t := uint32(fs.Type); t != tmpfs && t != ramfs {
		return fmt.Errorf("%s is not in memory: secrets will not be written there", dir)
	}
	return os.Chmod(dir, 0o711)
}

// own creates a folder below dir, owned by u.
func own(dir, name string, u *proc.User) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return u.Own(path)
}

// write replaces a file of mode 0600 owned by u; nil: by root. It returns false if the file had that content.
func write(path string, data []byte, u *proc.User) (bool, error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return false, nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close(), u.Own(f.Name())); err != nil {
		return false, err
	}
	return true, os.Rename(f.Name(), path)
}

// greets reports whether a VNC server answers at addr.
func greets(ctx context.Context, addr string) bool {
	dialer := net.Dialer{Timeout: 2 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 4)
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "RFB "
}
