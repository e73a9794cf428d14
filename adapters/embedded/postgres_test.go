package embedded_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/adapters/embedded"
)

// childEnv makes the test binary act as a server process that will be killed.
const childEnv = "EMBEDDED_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		p, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir})
		if err != nil {
			slog.Error("child", "err", err)
			os.Exit(1)
		}
		os.Stdout.WriteString(p.URL() + "\n")
		select {}
	}
	os.Exit(m.Run())
}

// folder returns a folder that the server's user can reach, unlike t.TempDir under a root-owned 0700 parent.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cloudbot-embedded-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, dir string) *embedded.Postgres {
	t.Helper()
	p, err := embedded.StartPostgres(context.Background(), embedded.PostgresConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func query[T any](t *testing.T, url, sql string) (v T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDataSurvivesARestart(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	p := start(t, dir)
	conn, err := pgx.Connect(t.Context(), p.URL())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `CREATE TABLE kept AS SELECT 42 AS n`); err != nil {
		t.Fatal(err)
	}
	// The connection stays open: a stop must not wait for it.
	defer conn.Close(context.Background())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, start(t, dir).URL(), `SELECT n FROM kept`); got != 42 {
		t.Fatalf("after the restart: got %d, want 42", got)
	}
}

func TestOneProcessAFolder(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	start(t, dir)
	if _, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir}); err == nil {
		t.Fatal("a second server started in the same folder")
	}
}

func TestOpensNoPort(t *testing.T) {
	t.Parallel()
	p := start(t, folder(t))
	if got := query[string](t, p.URL(), `SHOW listen_addresses`); got != "" {
		t.Fatalf("listens on %q, want \"\"", got)
	}
	if got := query[string](t, p.URL(), `SHOW synchronous_commit`); got != "on" {
		t.Fatalf("synchronous_commit is %s, want \"on\"", got)
	}
}

func TestStopsWithItsContext(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	p, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.Close(); err != nil { // waits for the stop in progress
		t.Fatal(err)
	}
	if _, err := pgx.Connect(t.Context(), p.URL()); err == nil {
		t.Fatal("still accepts connections")
	}
}

func TestLongFolderNames(t *testing.T) {
	t.Parallel()
	p := start(t, filepath.Join(folder(t), strings.Repeat("a-very-long-name-", 9)))
	if query[int](t, p.URL(), `SELECT 1`) != 1 {
		t.Fatal("no answer")
	}
}

// When a process is killed its server ends as well, and the next start works in spite of what is left behind.
func TestSurvivesKill(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	if n, err := out.Read(buf); n == 0 {
		t.Fatalf("the child said nothing: got %v, want n other than 0", err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	p := start(t, dir)
	if query[int](t, p.URL(), `SELECT 1`) != 1 {
		t.Fatal("no answer")
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	// A pid file whose number now belongs to another process, as after a container's restart.
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(filepath.Join(dir, "data", "postmaster.pid"), []byte(pid+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestClosedParentFolder(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root drops its rights; here the folder is ours")
	}
	dir := folder(t)
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir)
	if os.Geteuid() == 0 {
		data := query[string](t, p.URL(), `SHOW data_directory`)
		t.Cleanup(func() {
			p.Close() // before its files are removed
			os.RemoveAll(filepath.Dir(data))
		})
		if !strings.HasPrefix(data, "/var/lib/cloudbot/") {
			t.Fatalf("data in %s, want to begin with \"/var/lib/cloudbot/\"", data)
		}
	}
}

func TestWarmStart(t *testing.T) {
	dir := folder(t)
	if err := start(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	start(t, dir)
	t.Logf("warm start: %s", time.Since(began).Round(time.Millisecond))
}

func TestNoBinaries(t *testing.T) {
	t.Parallel()
	_, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: folder(t), BinDir: t.TempDir()})
	if !errors.Is(err, embedded.ErrNoPostgres) {
		t.Fatalf("got %v, want error %v", err, embedded.ErrNoPostgres)
	}
}

// After the data folder is removed the server starts empty, even if its files were elsewhere.
func TestRemovedFolderBeginsAfresh(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only files of root are elsewhere")
	}
	dir := folder(t)
	if err := os.Chmod(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for range 2 {
		p := start(t, dir)
		data := query[string](t, p.URL(), `SHOW data_directory`)
		seen = append(seen, data)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(filepath.Dir(data)) })
		for _, name := range []string{dir, dir + ".elsewhere"} {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if os.Geteuid() == 0 && seen[0] == seen[1] {
		t.Errorf("got both in %s, want two folders", seen[0])
	}
}

// A child between fork and exec has a copy of every open file.
func TestAFolderIsFreeDespiteACopyOfItsLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, unlock, err := embedded.LockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	duplicate, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(duplicate)
	if _, _, err := embedded.LockFolder(dir); err == nil {
		t.Error("got a second lock, want the folder in use")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	_, unlock, err = embedded.LockFolder(dir)
	if err != nil {
		t.Fatalf("got %v, want the folder free after its lock was closed", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
