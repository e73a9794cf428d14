package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a control plane.
type server struct {
	t    testing.TB
	dir  string // DATA_DIR
	port string
	URL  string // as its users reach it
	out  *lockedBuffer
}

// newServer creates the server's folders, and builds its program in bin and the guest in store.
func newServer(t *testing.T) (s *server, bin, store string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "cloudbot-machine-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, store = filepath.Join(dir, "bin"), filepath.Join(dir, "assets")
	for _, d := range []string{bin, store} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build(t, filepath.Join(store, guestName), "../../cmd/cloudbot-guest")
	build(t, filepath.Join(bin, "cloudbot"), "../../cmd/cloudbot")
	port := freePort(t, "127.0.0.1")
	return &server{t: t, dir: filepath.Join(dir, "data"), port: port, URL: "http://127.0.0.1:" + port, out: &lockedBuffer{}}, bin, store
}

const guestName = "cloudbot-guest-linux-amd64"

// startServer runs the control plane with the shim in place of the guest.
func startServer(t *testing.T, n network, shim func(publicURL, guestSHA256 string) any) *server {
	t.Helper()
	s, bin, store := newServer(t)
	shimFile := filepath.Join(bin, "cloudbot-guest")
	build(t, shimFile, "./shim")
	if err := os.Chmod(shimFile, 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	public := s.front(n)
	s.run(bin, "LOG_LEVEL=debug", "CONTROL_PLANE_URL="+public, "LOCAL_DEV_MODE=true", "CORS_ORIGINS="+s.URL, "ASSETS_DIR="+store)
	// At this point, because an image is baked with what the control plane serves.
	text, err := json.Marshal(shim(public, sumOf(t, filepath.Join(store, guestName))))
	if err == nil {
		err = os.WriteFile(filepath.Join(bin, "shim.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run starts the program and waits until it is ready. It runs until the test ends.
func (s *server) run(bin string, env ...string) {
	t := s.t
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "cloudbot"), "serve")
	cmd.Dir = filepath.Dir(bin)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "DATA_DIR=" + s.dir, "HOST=127.0.0.1", "PORT=" + s.port, "ADMIN_ADDR=127.0.0.1:0", "ENVIRONMENT=test",
	}, env...)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the server said:\n%s", s.out.tail(6000))
		}
	})
	await(t, time.Minute, "the server", func() bool {
		select {
		case <-ended:
			t.Fatalf("the server ended:\n%s", s.out.tail(4000))
		default:
		}
		res, err := http.Get(s.URL + "/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// front is where the machine reaches the control plane: the address at the other end of its cable.
func (s *server) front(n network) string {
	l, err := net.Listen("tcp", n.host+":0")
	if err != nil {
		s.t.Fatal(err)
	}
	to, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	front := &http.Server{Handler: pass, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = front.Serve(l) }()
	s.t.Cleanup(func() { front.Close() })
	return "http://" + l.Addr().String()
}

func build(t *testing.T, to, pkg string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-X main.version=e2e", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b = append(b.b, p...)
	return len(p), nil
}

func (b *lockedBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.b[max(0, len(b.b)-n):])
}
