// Package e2e plays users and faults against real server processes on real Postgres and JetStream.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

// bin is the folder of the programs under test, built once by TestMain.
var bin string

func TestMain(m *testing.M) {
	// The tests wait for servers and timers more than for a CPU, so more of them run at a time than go test would
	// choose on a small computer.
	_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	dir, err := os.MkdirTemp("", "cloudbot-e2e-")
	if err == nil {
		// A machine's guest runs as another user and must reach its program.
		err = os.Chmod(dir, 0o755)
	}
	if built, _ := filepath.Abs("../bin"); err == nil && os.Getenv("STORY") != "" && exists(filepath.Join(built, "cloudbot")) {
		// make story has built all that the story needs.
		bin = built
		os.Exit(func() int {
			defer os.RemoveAll(dir)
			return pgtest.Run(m)
		}())
	}
	if err == nil {
		bin = dir
		err = build("../cmd/cloudbot", "../cmd/cloudbot-guest", "../adapters/ec2/ec2test/cmd/ec2test", "./probe")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs under test:", err)
		os.Exit(1)
	}
	// pgtest.Main would exit before the temporary folder is removed.
	os.Exit(func() int {
		defer os.RemoveAll(dir)
		return pgtest.Run(m)
	}())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// build builds programs into bin, with failpoints. Its other flags are those of make build, so that both share
// compiled packages, and one command links several programs at a time.
func build(packages ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-tags", "failpoints", "-o", bin + "/"}, packages...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// server is one control-plane process.
type server struct {
	t     testing.TB
	bin   string // folder of its programs; "": bin
	dir   string // DATA_DIR
	port  string
	env   []string
	cmd   *exec.Cmd
	out   *lockedBuffer
	exit  chan struct{} // closed when the process has ended
	URL   string
	Admin string
	token string // for Admin; "": none is needed
}

// newServer returns a server with its own data folder. start starts it.
func newServer(t testing.TB, env ...string) *server {
	dir, err := os.MkdirTemp("", "cloudbot-data-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // the private Postgres' user passes through
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, dir: dir, port: freePort(t), env: env}
	s.URL = "http://127.0.0.1:" + s.port
	t.Cleanup(func() {
		s.stop()
		killIn(s.dir) // machines that a failed test left
		if t.Failed() && s.out != nil {
			t.Logf("the server said:\n%s", s.out.tail(8000))
		}
	})
	return s
}

// killIn kills the processes whose working folder is dir or below it.
func killIn(dir string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd+"/", dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// freePort returns a port that a server keeps over restarts, because machines dial it. It is below the ports that the
// kernel assigns, so no other process gets it while the server is down.
func freePort(t testing.TB) string {
	for range 100 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("found no free port")
	return ""
}

// start starts the server and waits until it is ready.
func (s *server) start(extra ...string) {
	s.t.Helper()
	s.launch(extra...)
	s.waitReady()
}

func (s *server) launch(extra ...string) {
	s.t.Helper()
	os.Remove(filepath.Join(s.dir, "running.json"))
	s.out, s.exit = &lockedBuffer{}, make(chan struct{})
	s.cmd = exec.Command(filepath.Join(cmp.Or(s.bin, bin), "cloudbot"), "serve")
	s.cmd.Dir = s.dir
	s.cmd.Env = append(append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "DATA_DIR=" + s.dir, "PORT=" + s.port, "ADMIN_ADDR=127.0.0.1:0",
		"ENVIRONMENT=test", "LOG_LEVEL=info", "LOCAL_AGENT=stand-in",
	}, s.env...), extra...)
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exit := s.cmd, s.exit
	go func() {
		_ = cmd.Wait()
		close(exit)
	}()
}

func (s *server) waitReady() {
	s.t.Helper()
	await(s.t, 60*time.Second, "the server to be ready", func() bool {
		select {
		case <-s.exit:
			s.t.Fatalf("the server ended:\n%s", s.out.tail(4000))
		default:
		}
		var r struct {
			Admin string `json:"admin_url"`
			Token string `json:"admin_token"`
		}
		text, err := os.ReadFile(filepath.Join(s.dir, "running.json"))
		if err != nil || json.Unmarshal(text, &r) != nil {
			return false
		}
		s.Admin, s.token = r.Admin, r.Token
		res, err := http.Get(s.URL + "/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// stop ends the server as Ctrl-C does and waits for it to end.
func (s *server) stop() { s.signal(syscall.SIGTERM) }

// kill ends it as a crash does.
func (s *server) kill() { s.signal(syscall.SIGKILL) }

func (s *server) signal(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exit:
	case <-time.After(60 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exit
		s.t.Errorf("the server did not end within 30 s of %v", sig)
	}
}

// admin gets a page of the operators' listener, as an operator.
func (s *server) admin(path string) []byte {
	s.t.Helper()
	a := (&client{t: s.t, base: s.Admin, token: s.token}).must(http.StatusOK, "GET", path, "")
	return a.body
}

// cli runs one of the operator's tools beside the server and returns its output.
func (s *server) cli(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "cloudbot"), args...)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "DATA_DIR=" + s.dir, "LOG_LEVEL=warn"}, s.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("cloudbot %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// await polls until ok returns true.
func await(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %v for %s", within, what)
		case <-tick.C:
		}
	}
}

// client is a user of one server.
type client struct {
	origin string // of the page that a browser shows; "": base
	t      testing.TB
	base   string
	token  string
	from   string       // its address behind the balancer; "": the connection's
	via    *http.Client // nil: http.DefaultClient
}

// answer is an HTTP response with its whole body.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// field returns the field of the JSON body at a dotted path, "" if there is none.
func (a answer) field(path string) string {
	var v any
	if json.Unmarshal(a.body, &v) != nil {
		return ""
	}
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = m[name]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (c *client) try(method, path, body string, header ...string) (answer, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.from != "" {
		req.Header.Set("X-Forwarded-For", c.from)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := cmp.Or(c.via, http.DefaultClient).Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, text}, err
}

func (c *client) do(method, path, body string, header ...string) answer {
	c.t.Helper()
	a, err := c.try(method, path, body, header...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// must calls do and fails the test on another status.
func (c *client) must(status int, method, path, body string, header ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, header...)
	if a.status != status {
		c.t.Fatalf("%s %s: status %d, want %d\n%s", method, path, a.status, status, a.body)
	}
	return a
}

// passPhrase is the password of each account that signUp creates.
const passPhrase = "a long enough pass phrase"

// signUp creates an account and returns its user, logged in.
func signUp(t testing.TB, base, email string) *client {
	t.Helper()
	c := &client{t: t, base: base}
	c.signUp(email)
	return c
}

// logIn returns the user of an account, and its refresh token.
func logIn(t testing.TB, base, email, password string) (c *client, refresh string) {
	t.Helper()
	c = &client{t: t, base: base}
	a := c.must(http.StatusOK, "POST", "/api/auth/login", fmt.Sprintf(`{"email":%q,"password":%q}`, email, password))
	c.token = a.field("access_token")
	return c, a.field("refresh_token")
}

// signUp creates an account and logs the client in.
func (c *client) signUp(email string) {
	c.t.Helper()
	c.token = c.must(http.StatusCreated, "POST", "/api/auth/signup",
		fmt.Sprintf(`{"email":%q,"password":%q}`, email, passPhrase)).field("access_token")
}

// awaitInstance polls the instance until a field has a value. The server may restart meanwhile.
func (c *client) awaitInstance(id, path, value string) {
	c.t.Helper()
	var last answer
	defer func() {
		if c.t.Failed() {
			c.t.Logf("the instance at last: %s", last.body)
		}
	}()
	await(c.t, 90*time.Second, path+" "+value, func() bool {
		a, err := c.try("GET", "/api/instances/"+id, "")
		if err == nil {
			last = a
		}
		return err == nil && a.field(path) == value
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	return s[max(0, len(s)-n):]
}
