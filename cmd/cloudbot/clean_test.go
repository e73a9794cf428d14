package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// cleanEnv makes the test binary start as the program does and print what it then finds.
const cleanEnv = "CLOUDBOT_TEST_START_CLEAN"

func TestMain(m *testing.M) {
	if os.Getenv(cleanEnv) == "" && os.Getenv(handedEnv) == "" {
		pgtest.Main(m)
	}
	handed := os.Getenv(handedEnv)
	if err := startClean(); err != nil {
		os.Stderr.WriteString(err.Error())
		os.Exit(3)
	}
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	pipe, _ := os.Readlink("/proc/self/fd/" + handed)
	shown, err := os.ReadFile("/proc/self/environ")
	if err != nil && os.Geteuid() != 0 {
		err = nil // for an ordinary user, not even the process itself may read it
	}
	_ = json.NewEncoder(os.Stdout).Encode(started{os.Getpid(), os.Args, string(shown), os.Getenv("SECRET"), os.Getenv("EMPTY") == "" && os.Getenv("LINES") == "a\nb=c", dumpable, pipe, err == nil})
	os.Exit(0)
}

// What is handed over is still there after the collector ran, which closes files that are no longer used.
func TestHandOverOutlivesTheCollector(t *testing.T) {
	for _, text := range []string{"A=b\x00SECRET=c", strings.Repeat("x", 200_000)} {
		fd, err := handOver([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			runtime.GC()
			time.Sleep(time.Millisecond) // finalizers and cleanups run on a goroutine of their own
		}
		f := os.NewFile(uintptr(fd), "environment")
		got, err := io.ReadAll(f)
		if err != nil || string(got) != text {
			t.Errorf("got %d bytes, %v, want the %d that were handed over", len(got), err, len(text))
		}
		_ = f.Close()
	}
}

type started struct {
	PID           int
	Args          []string
	Shown, Secret string
	Others        bool
	Dumpable      int
	Pipe          string
	OK            bool
}

func TestStartsClean(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]string{"small": "CANARY", "larger than a pipe": "CANARY" + strings.Repeat("x", 100_000)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "with", "arguments")
			cmd.Env = []string{cleanEnv + "=1", "SECRET=" + secret, "EMPTY=", "LINES=a\nb=c", "GOTRACEBACK=single"}
			var out, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &stderr
			if err := cmd.Run(); err != nil {
				t.Fatal(err, stderr.String())
			}
			var s started
			if err := json.Unmarshal(out.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			if s.PID != cmd.Process.Pid || len(s.Args) != 3 || s.Secret != secret || !s.Others || !s.OK {
				t.Errorf("got process %d with %v, a secret of %d bytes, other variables %v, readable %v; want process %d, 3 arguments, %d bytes, all set", s.PID, s.Args, len(s.Secret), s.Others, s.OK, cmd.Process.Pid, len(secret))
			}
			if strings.Contains(s.Shown, "CANARY") || strings.Contains(s.Shown, "LINES") {
				t.Errorf("the kernel shows the environment %.300q, want no variable that was handed over", s.Shown)
			}
			if s.Dumpable != 0 {
				t.Errorf("got dumpable %d, want 0: other processes may read its memory", s.Dumpable)
			}
			if strings.HasPrefix(s.Pipe, "pipe:") {
				t.Errorf("got %s still open, want the pipe closed", s.Pipe)
			}
		})
	}
}

func TestStartRefusesAForgedHandover(t *testing.T) {
	t.Parallel()
	for _, fd := range []string{"", "x", "0", "-1", "77"} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{handedEnv + "=" + fd, cleanEnv + "=1"}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "unset it") {
			t.Errorf("%q: got %v %s, want advice to unset it", fd, err, out)
		}
	}
}
