package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Bouncer starts a PgBouncer in front of a database and returns the URL through it. mode is session, transaction or
// statement; settings are added to its configuration. It ends with the test.
func Bouncer(t testing.TB, databaseURL, mode string, settings ...string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // not on every user's PATH
	}
	target, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "cloudbot-bouncer-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // it refuses to run as root
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := freePort(t)
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "ini")
	server := fmt.Sprintf("%s = host=%s port=%d", target.Database, target.Host, target.Port)
	if target.Password != "" {
		server += fmt.Sprintf(" password='%s'", target.Password)
	}
	text := append([]string{
		"[databases]", server,
		"[pgbouncer]", "listen_addr = 127.0.0.1", "listen_port = " + port, "unix_socket_dir =",
		"auth_type = trust", "auth_file = " + users, "pool_mode = " + mode, "default_pool_size = 40",
	}, settings...)
	for file, content := range map[string]string{
		users:  fmt.Sprintf("%q %q\n", target.User, target.Password),
		config: strings.Join(text, "\n") + "\n",
	} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, config)
	said := &strings.Builder{}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: ownerOf(t, target.Host)}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run deploy/prerequisites.sh test", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(60 * time.Second); ; {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			break
		}
		select {
		case <-ended:
			t.Fatalf("pgbouncer ended: %s", said.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("pgbouncer did not listen within 20 s")
		}
	}
	through := url.URL{Scheme: "postgres", User: url.UserPassword(target.User, target.Password), Host: "127.0.0.1:" + port, Path: target.Database, RawQuery: "sslmode=disable"}
	return through.String()
}

// ownerOf returns the user who may use the socket in a folder if we are root; else nil.
func ownerOf(t testing.TB, folder string) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	if !strings.HasPrefix(folder, "/") {
		return nobody
	}
	info, err := os.Stat(folder)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 {
		return &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	return nobody
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
