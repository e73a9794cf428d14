package machine

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tools are the programs that the test needs on its computer, by Debian package.
var tools = map[string]string{
	"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2", "ss": "iproute2", "iptables": "iptables", "nsenter": "util-linux",
}

// prepare installs what is missing and makes the root that machines start from.
func prepare(t *testing.T) (base string) {
	t.Helper()
	base, cache := filepath.Join(cacheDir(), "bookworm-1"), cacheDir()
	installTools(t, cache)
	makeRoot(t, base, "bookworm", "systemd,systemd-sysv,dbus,ca-certificates,curl,iproute2,procps",
		"apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends cloud-init")
	return base
}

// cacheDir is where roots and packages are kept between runs.
func cacheDir() string { return cmp.Or(os.Getenv("E2E_MACHINE_CACHE"), "/var/cache/cloudbot-e2e") }

// installTools installs the tools that are missing, and makes the folders of cached packages.
func installTools(t *testing.T, cache string) {
	t.Helper()
	var missing []string
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, pkg)
		}
	}
	if len(missing) > 0 {
		t.Logf("installing %v", missing)
		must(t, "apt-get", "update", "-q")
		must(t, "env", append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-install-recommends"}, missing...)...)
	}
	for _, sub := range []string{"apt/partial", "apt-trixie/partial", "npm"} {
		if err := os.MkdirAll(filepath.Join(cache, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// makeRoot makes a Debian root unless it exists, small, like a cloud's image before anything is installed. script runs in it.
func makeRoot(t *testing.T, base, suite, packages, script string) {
	t.Helper()
	if _, err := os.Stat(base); err == nil {
		return
	}
	t.Log("making the root, once")
	os.RemoveAll(base + ".new")
	must(t, "debootstrap", "--variant=minbase", "--include="+packages, suite, base+".new")
	must(t, "cp", "/etc/resolv.conf", base+".new/etc/resolv.conf")
	must(t, "chroot", base+".new", "sh", "-c", script)
	if err := os.Rename(base+".new", base); err != nil {
		t.Fatal(err)
	}
}

// aptSettings are this computer's settings of how packages are fetched.
func aptSettings() map[string]string {
	files := map[string]string{}
	own, _ := filepath.Glob("/etc/apt/apt.conf.d/*")
	for _, path := range own {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "Acquire::") && !strings.Contains(string(text), "GzipIndexes") && !strings.Contains(string(text), "Languages") {
			files["/etc/apt/apt.conf.d/"+filepath.Base(path)] = string(text)
		}
	}
	return files
}

// network is the machine's namespace, its cable, and a route out.
type network struct {
	name          string
	host, machine string // addresses
}

// cable creates the network and removes it when the test ends.
func cable(t *testing.T) network {
	t.Helper()
	n := os.Getpid() % 200
	net := network{name: fmt.Sprintf("cbe2e%d", n), host: fmt.Sprintf("10.213.%d.1", n), machine: fmt.Sprintf("10.213.%d.2", n)}
	out, in := net.name+"o", net.name+"i"
	nat := []string{"POSTROUTING", "-s", net.machine + "/32", "-j", "MASQUERADE"}
	t.Cleanup(func() {
		for _, c := range [][]string{
			{"ip", "link", "del", out}, {"ip", "netns", "del", net.name}, append([]string{"iptables", "-t", "nat", "-D"}, nat...),
			{"iptables", "-D", "FORWARD", "-i", out, "-j", "ACCEPT"}, {"iptables", "-D", "FORWARD", "-o", out, "-j", "ACCEPT"},
		} {
			_ = exec.Command(c[0], c[1:]...).Run()
		}
	})
	must(t, "ip", "netns", "add", net.name)
	must(t, "ip", "link", "add", out, "type", "veth", "peer", "name", in, "netns", net.name)
	must(t, "ip", "addr", "add", net.host+"/24", "dev", out)
	must(t, "ip", "link", "set", out, "up")
	inside := []string{"netns", "exec", net.name, "ip"}
	must(t, "ip", append(inside, "addr", "add", net.machine+"/24", "dev", in)...)
	must(t, "ip", append(inside, "link", "set", in, "up")...)
	must(t, "ip", append(inside, "link", "set", "lo", "up")...)
	must(t, "ip", append(inside, "route", "add", "default", "via", net.host)...)
	const forward = "/proc/sys/net/ipv4/ip_forward"
	before, err := os.ReadFile(forward)
	if err == nil {
		err = os.WriteFile(forward, []byte("1"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(forward, before, 0o644) })
	must(t, "iptables", append([]string{"-t", "nat", "-A"}, nat...)...)
	must(t, "iptables", "-A", "FORWARD", "-i", out, "-j", "ACCEPT")
	must(t, "iptables", "-A", "FORWARD", "-o", out, "-j", "ACCEPT")
	return net
}

func (n network) path() string { return "/run/netns/" + n.name }

// listen opens a loopback listener within the namespace.
func (n network) listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open(n.path())
		if err == nil {
			err = unix.Setns(int(ns.Fd()), syscall.CLONE_NEWNET)
			ns.Close()
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp", addr)
		}
		done <- result{l, err}
	}()
	r := <-done
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.l.Close() })
	return r.l
}

// computer is the running container.
type computer struct {
	t    *testing.T
	name string
}

// leader returns the container's init process; "" while the machine is off.
func (c computer) leader() string {
	nspawn, _ := exec.Command("pgrep", "-f", "^systemd-nspawn .*--machine="+c.name+" ").Output()
	pid := strings.TrimSpace(string(nspawn))
	if pid == "" {
		return ""
	}
	child, _ := exec.Command("pgrep", "-P", pid).Output()
	return strings.TrimSpace(string(child))
}

// sh runs a script in the container.
func (c computer) sh(script string) (string, error) {
	pid := c.leader()
	if pid == "" {
		return "", fmt.Errorf("the computer is off")
	}
	ctx := c.t.Context()
	if ctx.Err() != nil { // a failed test asks for the journal
		ctx = context.Background()
	}
	cmd := exec.CommandContext(ctx, "nsenter", "-t", pid, "-m", "-p", "-n", "-i", "-u", "-C",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", script) // root's PATH in Debian
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return string(out), err
}

func (c computer) must(script string) string {
	c.t.Helper()
	out, err := c.sh(script)
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		s := out.String()
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, s[max(0, len(s)-3000):])
	}
	return out.String()
}
