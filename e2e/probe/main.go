// Command probe does what a stranger would do with a shell on a local desktop. It tries to read the server's secrets,
// its database, its admin listener and other desktops, and reports what it got. The test of break-ins types its name
// into a terminal. The test lists where to look, so that the probe does not have to guess.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// plan lists where to look.
type plan struct {
	Canary  string   // the start of every secret of the server
	Server  int      // its process
	Files   []string // that no process on a desktop may read
	Folders []string // that no process on a desktop may list
	Sockets []string // of Postgres
	Admin   string   // URL of the admin listener
}

// report is what the probe got. Each line names a place and shows part of its contents.
type report struct {
	User      string
	Got       []string
	Children  []int // left running, each detached from its parent in a different way
	Displays  int   // looked at
	Processes int
}

func main() {
	var p plan
	text, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
	r := &report{User: fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())}
	r.processes(p)
	for _, f := range p.Files {
		if text, err := os.ReadFile(f); err == nil {
			r.got(f, text)
		}
	}
	for _, f := range p.Folders {
		if list, err := os.ReadDir(f); err == nil {
			r.got(f, []byte(fmt.Sprint(list)))
		}
	}
	for _, s := range p.Sockets {
		r.postgres(s)
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/cmdline", "/verify"} {
		res, err := http.Get(p.Admin + path)
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			r.got(p.Admin+path, text)
		}
	}
	r.displays()
	r.leave()
	text, err = json.Marshal(r)
	if err == nil {
		err = os.WriteFile(os.Args[2]+".new", text, 0o644)
	}
	if err == nil {
		err = os.Rename(os.Args[2]+".new", os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func (r *report) got(place string, text []byte) {
	r.Got = append(r.Got, place+": "+strings.ToValidUTF8(string(text[:min(len(text), 160)]), "?"))
}

// processes looks at the processes of others.
func (r *report) processes(p plan) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		r.Processes++
		dir := filepath.Join("/proc", e.Name())
		if env, err := os.ReadFile(dir + "/environ"); err == nil {
			if i := bytes.Index(env, []byte(p.Canary)); i >= 0 {
				r.got(dir+"/environ", env[max(0, i-40):])
			} else if pid == p.Server {
				r.got(dir+"/environ", env)
			}
		}
		if args, err := os.ReadFile(dir + "/cmdline"); err == nil && bytes.Contains(args, []byte(p.Canary)) {
			r.got(dir+"/cmdline", args)
		}
		if pid != p.Server {
			continue
		}
		for _, name := range []string{"mem", "maps", "cwd", "root", "exe", "fd", "stack"} {
			if name == "cwd" || name == "root" || name == "exe" {
				if to, err := os.Readlink(filepath.Join(dir, name)); err == nil {
					r.got(filepath.Join(dir, name), []byte(to))
				}
			} else if f, err := os.Open(filepath.Join(dir, name)); err == nil {
				f.Close()
				r.got(filepath.Join(dir, name), []byte("opened"))
			}
		}
	}
}

// postgres connects as the server does and asks for accounts.
func (r *report) postgres(socket string) {
	c, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	body := "\x00\x03\x00\x00user\x00cloudbot\x00database\x00cloudbot\x00\x00"
	_, _ = c.Write(append([]byte{0, 0, 0, byte(len(body) + 4)}, body...))
	answer := make([]byte, 256)
	n, _ := c.Read(answer)
	r.got(socket, append([]byte("connected; "), answer[:n]...))
}

// displays tries every X display except its own: without a cookie, and with its own cookie.
func (r *report) displays() {
	sockets := map[string]bool{}
	files, _ := filepath.Glob("/tmp/.X11-unix/X*")
	for _, f := range files {
		sockets[f] = true
	}
	table, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(table)) {
		if i := strings.Index(line, "@/tmp/.X11-unix/X"); i >= 0 {
			sockets[strings.TrimSpace(line[i:])] = true
		}
	}
	var cookie []byte
	if text, err := os.ReadFile(os.Getenv("XAUTHORITY")); err == nil && len(text) >= 16 {
		cookie = text[len(text)-16:]
	}
	secret, own := rand.Text()[:24], "/X"+strings.TrimPrefix(os.Getenv("DISPLAY"), ":")
	if d := openDisplay("/tmp/.X11-unix"+own, cookie); d != nil {
		defer d.Close()
		d.mark(secret)
	}
	for s := range sockets {
		if strings.HasSuffix(s, own) {
			continue
		}
		r.Displays++
		for how, key := range map[string][]byte{"no cookie": nil, "its own cookie": cookie} {
			d := openDisplay(s, key)
			if d == nil {
				continue
			}
			if key == nil || !d.marked(secret) { // else it is the gate of its own agent, which needs the cookie, too
				r.got(s, []byte("opened with "+how))
			}
			d.Close()
		}
	}
	// The cookies themselves, and home folders, where a guest keeps them.
	for _, pattern := range []string{"/dev/shm/cloudbot-*/*", "/tmp/cloudbot-home-*/*"} {
		found, _ := filepath.Glob(pattern)
		for _, f := range found {
			if filepath.Dir(f) == filepath.Dir(os.Getenv("XAUTHORITY")) || strings.HasPrefix(f, os.Getenv("HOME")) {
				continue
			}
			if text, err := os.ReadFile(f); err == nil {
				r.got(f, text)
			}
		}
	}
}

// openDisplay connects to a display; nil: it refused.
func openDisplay(socket string, cookie []byte) *display {
	c, err := net.DialTimeout("unix", socket, 2*time.Second)
	if err != nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	hello := []byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if cookie != nil {
		name := "MIT-MAGIC-COOKIE-1"
		hello[6], hello[8] = byte(len(name)), byte(len(cookie))
		hello = append(append(append(hello, name...), 0, 0), cookie...)
	}
	head := make([]byte, 8)
	_, err = c.Write(hello)
	if err == nil {
		_, err = io.ReadFull(c, head)
	}
	if err != nil || head[0] != 1 {
		c.Close()
		return nil
	}
	d := &display{Conn: c}
	rest := make([]byte, 4*int(binary.LittleEndian.Uint16(head[6:])))
	if _, err = io.ReadFull(c, rest); err == nil {
		vendor := (int(binary.LittleEndian.Uint16(rest[16:])) + 3) &^ 3
		d.root = rest[32+vendor+8*int(rest[21]):][:4]
	}
	return d
}

// display is an open X display.
type display struct {
	net.Conn
	root []byte // the root window's id
}

// mark writes a text that only this program knows on the root window.
func (d *display) mark(text string) {
	b := append([]byte{18, 0, byte(6 + len(text)/4), 0}, d.root...) // ChangeProperty of CUT_BUFFER7, a STRING
	b = append(b, 16, 0, 0, 0, 31, 0, 0, 0, 8, 0, 0, 0, byte(len(text)), 0, 0, 0)
	_, _ = d.Write(append(b, text...))
	d.marked(text) // the answer says that it is done
}

// marked reports whether the root window has the text: then it is the same display by another socket.
func (d *display) marked(text string) bool {
	b := append([]byte{20, 0, 6, 0}, d.root...) // GetProperty
	b = append(b, 16, 0, 0, 0, 31, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0)
	answer := make([]byte, 32+len(text))
	_, err := d.Write(b)
	if err == nil {
		_, err = io.ReadFull(d, answer)
	}
	return err == nil && string(answer[32:]) == text
}

// leave starts processes that could outlive the machine: in their own session, without environment or parent.
func (r *report) leave() {
	for _, script := range []string{
		`env -i setsid sleep 86421 >/dev/null 2>&1 & echo $!`,
		`env -i setsid sh -c 'sleep 86422 >/dev/null 2>&1 & echo $!' &`,
		`(env -i setsid sh -c '(exec setsid sleep 86423 >/dev/null 2>&1 </dev/null 3>&- 4>&-) & echo $!' &) &`,
	} {
		out, _ := exec.Command("/bin/sh", "-c", script).Output()
		if pid, err := strconv.Atoi(strings.TrimSpace(string(out))); err == nil {
			r.Children = append(r.Children, pid)
		}
	}
}
