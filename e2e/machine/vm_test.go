package machine

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// vm is a bare Debian 13 for one server, booted by systemd, with its own address.
type vm struct {
	t      *testing.T
	net    network
	inside computer
	root   string
}

const vmName = "cloudbot.example" // as in the page

func bootVM(t *testing.T) *vm {
	t.Helper()
	cache := cacheDir()
	installTools(t, cache)
	base := filepath.Join(cache, "trixie-1")
	makeRoot(t, base, "trixie", "systemd,systemd-sysv,dbus,ca-certificates,iproute2,procps", "apt-get clean")
	dir, err := os.MkdirTemp("/var/tmp", "cloudbot-vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := &vm{t: t, net: cable(t), inside: computer{t, "cloudbot-vm"}, root: filepath.Join(dir, "root")}
	must(t, "cp", "-a", "--reflink=auto", base, v.root)
	files := map[string]string{"/etc/hostname": "bare\n", "/etc/hosts": "127.0.0.1 localhost bare\n", "/etc/dpkg/dpkg.cfg.d/e2e": "force-unsafe-io\n"}
	maps.Copy(files, aptSettings())
	for path, text := range files {
		path = filepath.Join(v.root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	console := &lockedBuffer{}
	start := func() (*exec.Cmd, error) {
		cmd := exec.Command("systemd-nspawn", "--boot", "--quiet", "--directory="+v.root, "--machine="+v.inside.name, "--register=no", "--keep-unit",
			"--link-journal=no", "--network-namespace-path="+v.net.path(), "--resolv-conf=copy-host", "--console=pipe",
			"--bind="+cache+"/apt-trixie:/var/cache/apt/archives")
		cmd.Stdout, cmd.Stderr = console, console
		return cmd, cmd.Start()
	}
	cmd, err := start()
	if err != nil {
		t.Fatal(err)
	}
	var running atomic.Pointer[exec.Cmd]
	running.Store(cmd)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// With this exit code, systemd-nspawn asks to be started again: the computer reboots.
		for _ = cmd.Wait(); cmd.ProcessState.ExitCode() == 133; _ = cmd.Wait() {
			if cmd, err = start(); err != nil {
				return
			}
			running.Store(cmd)
		}
	}()
	t.Cleanup(func() {
		if t.Failed() {
			journal, _ := v.inside.sh("journalctl -b --no-pager -n 60 -u cloudbot -u caddy -u postgresql@*")
			t.Logf("console:\n%s\njournal:\n%s", console.tail(3000), journal)
		}
		_ = running.Load().Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = running.Load().Process.Kill()
			<-ended
		}
	})
	v.awaitBoot("")
	return v
}

// awaitBoot waits for a boot other than the one before, and returns when it began.
func (v *vm) awaitBoot(before string) (began string) {
	v.t.Helper()
	await(v.t, 2*time.Minute, "the computer to boot", func() bool {
		out, _ := v.inside.sh("systemctl show -p UserspaceTimestampMonotonic --value; systemctl is-system-running")
		var state string
		began, state, _ = strings.Cut(strings.TrimSpace(out), "\n")
		return (state == "running" || state == "degraded") && began != before
	})
	return began
}

// run runs a page's commands as they stand there, and returns their output.
func (v *vm) run(commands []string) (outputs []string) {
	v.t.Helper()
	for i, c := range commands {
		began := time.Now()
		out, err := v.inside.sh("cd /root && " + c)
		if err != nil {
			v.t.Fatalf("command %d, %s: %v", i+1, c, err)
		}
		v.t.Logf("command %d of %d, %.1fs: %s\n%s", i+1, len(commands), time.Since(began).Seconds(), c, out[max(0, len(out)-1200):])
		outputs = append(outputs, out)
	}
	return outputs
}

// put copies a release archive and its checksums to the computer. RELEASE names an archive that make release built;
// otherwise the test packs what make build guests built, in the same shape.
func (v *vm) put(version string) {
	v.t.Helper()
	home := filepath.Join(v.root, "root")
	old, _ := filepath.Glob(filepath.Join(home, "cloudbot-*.tar.gz"))
	for _, f := range old {
		os.Remove(f)
	}
	name := "cloudbot-" + version + "-linux-amd64"
	if release := os.Getenv("RELEASE"); release != "" && len(old) == 0 {
		must(v.t, "cp", release, home)
	} else {
		must(v.t, "tar", "-C", "../..", "--transform", "s,^,"+name+"/,", "-czf", filepath.Join(home, name+".tar.gz"),
			"bin/cloudbot", "bin/cloudbot-guest-linux-amd64", "bin/cloudbot-guest-linux-arm64", "deploy", "docs", ".env.example", "LICENSE", "README.md")
	}
	must(v.t, "sh", "-c", "cd "+home+" && sha256sum cloudbot-*.tar.gz > SHA256SUMS && echo '"+strings.Repeat("0", 64)+"  cloudbot-other.tar.gz' >> SHA256SUMS")
}

// client returns a client on another computer, which trusts only the CA of the VM.
func (v *vm) client() *http.Client {
	v.t.Helper()
	ca, err := os.ReadFile(filepath.Join(v.root, "etc/cloudbot/local-ca.crt"))
	if err != nil {
		v.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		v.t.Fatalf("got no certificate: %s", ca)
	}
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", v.net.machine+":443")
		},
	}}
}

// ask sends a request to the VM by its name.
func (v *vm) ask(c *http.Client, method, path, token, body string) (int, http.Header, string, error) {
	req, err := http.NewRequestWithContext(v.t.Context(), method, "https://"+vmName+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(text), err
}

func (v *vm) mustAsk(c *http.Client, want int, method, path, token, body string) (http.Header, string) {
	v.t.Helper()
	status, header, text, err := v.ask(c, method, path, token, body)
	if err != nil || status != want {
		v.t.Fatalf("%s %s: got %d, %v, want %d\n%s", method, path, status, err, want, text)
	}
	return header, text
}

// awaitReady waits until the VM answers /ready.
func (v *vm) awaitReady(c *http.Client) time.Duration {
	v.t.Helper()
	began := time.Now()
	await(v.t, 2*time.Minute, "the server on the VM", func() bool {
		status, _, _, err := v.ask(c, "GET", "/ready", "", "")
		return err == nil && status == http.StatusOK
	})
	return time.Since(began)
}

// commands returns the commands of a section of the systemd page: the lines of its first code block.
func commands(t *testing.T, section string) []string {
	t.Helper()
	page, err := os.ReadFile("../../deploy/systemd/README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^## " + section + "$.*?^```sh\n(.*?)^```$").FindSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no commands in %q", section)
	}
	return strings.Split(strings.TrimSpace(string(found[1])), "\n")
}

// word returns what follows a label in a command's output.
func word(out, label string) string {
	_, rest, _ := strings.Cut(out, label)
	return cmp.Or(append(strings.Fields(rest), "")...)
}

func (v *vm) listeners() string {
	v.t.Helper()
	var open []string
	for _, f := range listening.FindAllStringSubmatch(must(v.t, "ip", "netns", "exec", v.net.name, "ss", "-H", "-ltn"), -1) {
		if !strings.HasPrefix(f[1], "127.") && f[1] != "[::1]" {
			open = append(open, strings.TrimSpace(f[0]))
		}
	}
	return fmt.Sprint(strings.Join(open, "\n"))
}
