package gate

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Events.
const (
	patience = 60 * time.Second
)

// display is a real X and VNC server.
type display struct {
	number int
	port   string // of VNC
	auth   string
	cookie []byte
}

func startX(t testing.TB) display {
	t.Helper()
	path, err := exec.LookPath("Xvnc")
	if err != nil {
		t.Skip("Xvnc is not installed")
	}
	d := display{auth: filepath.Join(t.TempDir(), "auth"), cookie: make([]byte, 16)}
	rand.Read(d.cookie)
	b := []byte{0xff, 0xff, 0, 0, 0, 0, 0, byte(len(cookieName))}
	b = append(append(append(b, cookieName...), 0, 16), d.cookie...)
	if err := os.WriteFile(d.auth, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.port = strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := exec.Command(path, "-nolisten", "tcp", "-auth", d.auth, "-displayfd", "3", "-noreset", "-geometry", "640x480", "-depth", "24",
		"-rfbport", d.port, "-localhost", "-SecurityTypes", "None", "-AlwaysShared")
	x.Stderr = t.Output()
	x.ExtraFiles = []*os.File{w}
	x.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = x.Process.Signal(syscall.SIGTERM); _ = x.Wait() })
	_ = r.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if d.number, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return d
}

// startGate runs a gate before the display until the test ends.
func (d display) startGate(t testing.TB, change func(*Config)) *Gate {
	t.Helper()
	c := Config{Display: d.number, Auth: d.auth, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&c)
	}
	g, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := g.Run(ctx); err != nil {
			t.Errorf("the gate ended: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); all.Wait() })
	return g
}

// program is an X client.
type program struct {
	t     testing.TB
	c     *net.UnixConn
	order binary.ByteOrder
	seq   uint16
	next  uint32 // id
	root  uint32
	queue [][]byte // events that came before a reply
	files []int    // that came
	ops   opcodes
}

// connectTo connects a program to display number.
func (d display) connectTo(t testing.TB, number int, order binary.ByteOrder) *program {
	t.Helper()
	c, err := dialDisplay("/tmp/.X11-unix", number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p := &program{t: t, c: c, order: order}
	b := make([]byte, 12)
	b[0] = 'l'
	if order == binary.BigEndian {
		b[0] = 'B'
	}
	order.PutUint16(b[2:], 11)
	order.PutUint16(b[6:], uint16(len(cookieName)))
	order.PutUint16(b[8:], 16)
	b = append(padded(append(b, cookieName...)), d.cookie...)
	p.write(b)
	head := p.read(8)
	rest := p.read(4 * int(order.Uint16(head[6:])))
	if head[0] != 1 {
		t.Fatalf("the display refused the program: %q", rest)
	}
	p.next = order.Uint32(rest[4:])
	vendor, formats := int(order.Uint16(rest[16:])), int(rest[21])
	p.root = order.Uint32(rest[32+(vendor+3)&^3+8*formats:])
	p.ops.xtest, _ = p.extension("XTEST")
	p.ops.bigRequests, _ = p.extension("BIG-REQUESTS")
	p.ops.xkb, _ = p.extension("XKEYBOARD")
	p.ops.xinput, p.ops.xinputEvent = p.extension("XInputExtension")
	return p
}

func (p *program) write(b []byte) {
	p.t.Helper()
	_ = p.c.SetWriteDeadline(time.Now().Add(patience))
	if _, err := p.c.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) read(n int) []byte {
	p.t.Helper()
	b := make([]byte, n)
	_ = p.c.SetReadDeadline(time.Now().Add(patience))
	for got := 0; got < n; {
		oob := make([]byte, 256)
		m, oobn, _, _, err := p.c.ReadMsgUnix(b[got:], oob)
		if err == nil && m == 0 {
			err = io.EOF
		}
		if err != nil {
			p.t.Fatalf("after %d of %d bytes: %v", got, n, err)
		}
		files, err := descriptors(oob[:oobn])
		if err != nil {
			p.t.Fatal(err)
		}
		p.files = append(p.files, files...)
		got += m
	}
	return b
}

// u16 and u32 are fields of requests in the program's order.
func (p *program) u16(v ...uint16) (b []byte) {
	for _, x := range v {
		b = append(b, 0, 0)
		p.order.PutUint16(b[len(b)-2:], x)
	}
	return b
}

func (p *program) u32(v ...uint32) (b []byte) {
	for _, x := range v {
		b = append(b, 0, 0, 0, 0)
		p.order.PutUint32(b[len(b)-4:], x)
	}
	return b
}

// request encodes a request.
func (p *program) request(major, minor byte, parts ...[]byte) []byte {
	b := []byte{major, minor, 0, 0}
	for _, part := range parts {
		b = append(b, part...)
	}
	b = padded(b)
	p.order.PutUint16(b[2:], uint16(len(b)/4))
	p.seq++
	return b
}

func (p *program) send(major, minor byte, parts ...[]byte) {
	p.t.Helper()
	p.write(p.request(major, minor, parts...))
}

// message reads a reply, an event or an error.
func (p *program) message() []byte {
	p.t.Helper()
	b := p.read(32)
	if k := b[0] & 0x7f; k == 1 || k == 35 {
		b = append(b, p.read(4*int(p.order.Uint32(b[4:])))...)
	}
	return b
}

// answer returns the reply or the error that the last request led to.
func (p *program) answer() []byte {
	p.t.Helper()
	for {
		b := p.message()
		if b[0] <= 1 && p.order.Uint16(b[2:]) == p.seq {
			return b
		}
		p.queue = append(p.queue, b)
	}
}

// sync returns the errors of earlier requests, as error code and major opcode.
func (p *program) sync() (errors [][2]byte) {
	p.t.Helper()
	p.send(getInputFocus, 0)
	if got := p.answer(); got[0] != 1 {
		p.t.Fatalf("sync: got error %d", got[1])
	}
	rest := p.queue[:0]
	for _, b := range p.queue {
		if b[0] == 0 {
			errors = append(errors, [2]byte{b[1], b[10]})
		} else {
			rest = append(rest, b)
		}
	}
	p.queue = rest
	return errors
}

func (p *program) extension(name string) (major, event byte) {
	p.t.Helper()
	p.send(queryExtension, 0, p.u16(uint16(len(name)), 0), []byte(name))
	b := p.answer()
	if b[0] != 1 || b[8] == 0 {
		return 0, 0
	}
	return b[9], b[10]
}

// window opens a window over the whole screen that records input.
func (p *program) window() uint32 {
	p.t.Helper()
	p.next++
	id := p.next
	const events = 1 | 2 | 4 | 8 | 1<<6 // keys, buttons, motion
	// CreateWindow with override-redirect and an event mask; MapWindow; SetInputFocus.
	p.send(1, 0, p.u32(id, p.root), p.u16(0, 0, 640, 480, 0, 1), p.u32(0, 1<<9|1<<11, 1, events))
	p.send(8, 0, p.u32(id))
	p.send(42, 0, p.u32(id, 0))
	if errors := p.sync(); errors != nil {
		p.t.Fatalf("the window: got errors %v", errors)
	}
	return id
}

// fake sends an event of XTEST.
func (p *program) fake(event, detail byte, x, y uint16) {
	p.t.Helper()
	p.write(p.fakeRequest(event, detail, x, y))
}

func (p *program) fakeRequest(event, detail byte, x, y uint16) []byte {
	return p.request(p.ops.xtest, fakeInput, []byte{event, detail, 0, 0}, p.u32(0, 0, 0, 0), make([]byte, 4), p.u16(x, y), make([]byte, 4))
}

// until reads events until one of the kind and detail comes, and returns all as text: "2:38" is key 38 pressed.
func (p *program) until(event, detail byte) (seen []string) {
	p.t.Helper()
	for {
		var b []byte
		if len(p.queue) > 0 {
			b, p.queue = p.queue[0], p.queue[1:]
		} else {
			b = p.message()
		}
		kind := b[0] & 0x7f
		if kind < keyPress || kind > motionNotify {
			continue
		}
		name := fmt.Sprint(kind, ":", b[1])
		if kind == motionNotify {
			name = "motion"
		}
		seen = append(seen, name)
		if kind == event && (b[1] == detail || event == motionNotify) {
			return seen
		}
	}
}

// viewer is the user's end of VNC.
type viewer struct {
	t testing.TB
	c net.Conn
}

func (d display) view(t testing.TB) *viewer {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+d.port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	v := &viewer{t, c}
	v.expect(12)
	v.send([]byte("RFB 003.008\n"))
	v.expect(2)
	v.send([]byte{1})
	v.expect(4)
	v.send([]byte{1})
	head := v.expect(24)
	v.expect(int(binary.BigEndian.Uint32(head[20:])))
	return v
}

func (v *viewer) expect(n int) []byte {
	v.t.Helper()
	b := make([]byte, n)
	_ = v.c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(v.c, b); err != nil {
		v.t.Fatal(err)
	}
	return b
}

func (v *viewer) send(b []byte) {
	v.t.Helper()
	if _, err := v.c.Write(b); err != nil {
		v.t.Fatal(err)
	}
}

// point moves the mouse, with buttons pressed.
func (v *viewer) point(buttons byte, x, y uint16) {
	v.t.Helper()
	v.send(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16([]byte{5, buttons}, x), y))
}

// memfd returns a descriptor that the test owns.
func memfd(t testing.TB, size int64) int {
	t.Helper()
	fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Ftruncate(fd, size); err != nil {
		t.Fatal(err)
	}
	return fd
}

// bare connects without a word.
func bare(t testing.TB, g *Gate) *program {
	t.Helper()
	c, err := dialDisplay("/tmp/.X11-unix", g.Number())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &program{t: t, c: c, order: binary.LittleEndian}
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }
