package desktop

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// TestLookingIsNotGuessing connects without logging in, more often than VNC servers accept before they see an attack: the
// guest does so as long as the machine runs. The viewer's own log-in must still work.
func TestLookingIsNotGuessing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := New(Config{Kind: X11, Password: "pass", Home: dir, Shm: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skip(err)
	}
	if d.x.xvnc == "" {
		t.Skip("Xvnc is not installed, and only Xvnc counts connections")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-d.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until the desktop is up")
	}
	for range 12 {
		c := dial(t, d)
		expect(t, c, 12)
		c.Close()
	}
	c := dial(t, d)
	defer c.Close()
	expect(t, c, 12)
	send(t, c, []byte("RFB 003.008\n"))
	types := expect(t, c, 1)
	expect(t, c, int(types[0]))
	send(t, c, []byte{2}) // VNC authentication
	answer := rfb.Answer("pass", expect(t, c, 16))
	send(t, c, answer[:])
	if result := expect(t, c, 4); result[3] != 0 {
		t.Errorf("the log-in was refused: got %v, want 0", result)
	}
}

// TestComesBackOnItsDisplay kills the X server: the agent keeps its environment over that.
func TestComesBackOnItsDisplay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := New(Config{Kind: X11, Password: "pass", Home: dir, Shm: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Skip(err)
	}
	if env, _ := d.Env(); len(env) > 0 {
		t.Errorf("before it runs: got %v, want no environment", env)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	select {
	case <-d.Up():
	case <-time.After(60 * time.Second):
		t.Fatal("timed out waiting until the desktop is up")
	}
	before, changed := d.Env()
	if before["DISPLAY"] == "" || before["XAUTHORITY"] != filepath.Join(dir, "xauthority") {
		t.Errorf("got %v, want the display and its authority file", before)
	}
	pid := server(t, display(d.number))
	if err := d.Hold(time.Hour); err != nil {
		t.Fatal(err)
	}
	old := d.Addr()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(60 * time.Second); d.Addr() == "" || d.Addr() == old; {
		select {
		case <-deadline:
			t.Fatal("timed out waiting until the desktop is back")
		case <-changed:
			after, _ := d.Env()
			t.Fatalf("got %v after the end of the X server, want still %v", after, before)
		case <-tick.C:
		}
	}
	if got := d.Held(); got < 50*time.Minute {
		t.Errorf("got %v of the hold after the end of the X server, want nearly an hour", got)
	}
}

// server returns the pid of a display's X server.
func server(t *testing.T, display string) int {
	t.Helper()
	c, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(display, ":"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peer *syscall.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		peer, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return int(peer.Pid)
}

func dial(t *testing.T, d *Desktop) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

func expect(t *testing.T, r io.Reader, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func send(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}
