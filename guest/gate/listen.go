package gate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// listen takes the display's abstract socket, which at most one process has and which ends with it, then the socket's file.
// Programs try the abstract one first, so another user must not have it.
func listen(dir string, number int) ([]*net.UnixListener, error) {
	path := filepath.Join(dir, "X"+strconv.Itoa(number))
	abstract, err := net.ListenUnix("unix", &net.UnixAddr{Name: "@" + path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	file, err := listenFile(path)
	if err != nil {
		abstract.Close()
		return nil, err
	}
	return []*net.UnixListener{file, abstract}, nil
}

func listenFile(path string) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	if c, err := net.DialUnix("unix", nil, addr); err == nil {
		c.Close()
		return nil, fmt.Errorf("another program serves %s", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		_ = os.Remove(path) // a killed process left it
	}
	l, err := net.ListenUnix("unix", addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // as the server's own: the cookie and admits decide
		l.Close()
		return nil, err
	}
	return l, nil
}

// admits reports whether the program's user may use the display.
func (g *Gate) admits(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	_ = raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || cred == nil {
		return false
	}
	return cred.Uid == 0 || int(cred.Uid) == os.Getuid() || slices.Contains(g.c.Users, int(cred.Uid))
}
