package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// A bridge is measured over its whole path, with each part in a process of its own: this process is the server on the
// machine and the browser, "guest" the machines' end of the tunnels, "plane" the control plane's. The references are relays,
// each in a process of its own too. Two TCP relays in a row have as many processes between machine and browser as the bridge.
const (
	roleEnv  = "CLOUDBOT_BENCH_ROLE"
	roleArgs = "CLOUDBOT_BENCH_ARGS"
)

// viewersEach is how many sessions the load opens to each machine: a tunnel has 64 streams, and an agent's session takes two.
const viewersEach = 30

// benchMachine returns the instance of a machine, from 0 on.
func benchMachine(n int) string { return fmt.Sprintf("01JZ8Q3M5T9V2X4Y6A8C0E%04d", n) }

// benchKey is all machines': both processes derive it.
func benchKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("a benchmark's machine has a key!"))
}

// process is a part that runs on its own.
type process struct {
	cmd *exec.Cmd
	URL string // that it printed
	in  io.WriteCloser

	kill bool // it does not end with its input
}

// start starts this program again, in a role. It prints its address, and ends when its input does.
func start(ctx context.Context, role string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, roleArgs+"="+strings.Join(args, " "))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s did not start: %w", role, err)
	}
	p.URL = strings.TrimSpace(line)
	return p, nil
}

// stop ends the process and returns its CPU time.
func (p *process) stop() time.Duration {
	p.in.Close()
	if p.kill {
		_ = p.cmd.Process.Kill()
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

func (p *process) cpu() time.Duration { return processCPU(p.cmd.Process.Pid) }

// processCPU returns the CPU time that all threads of a running process have used.
func processCPU(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	var user, system int64
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// Paths from the browser to the server on the machine.
const (
	pathTCP        = "TCP relay"
	pathTCPs       = "two TCP relays"
	pathWebSocket  = "WebSocket relay"
	pathWebsockify = "websockify"
	pathBridge     = "bridge"
	pathView       = "bridge, view-only"
	pathHop        = "bridge, two replicas"
	pathAgent      = "agent bridge"
)

// machine is what the server on the machine listens on.
type machine struct {
	raw     string // echoes, or sends without end
	desktop string // a VNC server that does the same after its handshake
	gateway string // an agent's gateway that echoes
}

// rig is the path that is measured.
type rig struct {
	dial  func(ctx context.Context, session int) (net.Conn, error) // what the browser reads and writes
	parts []*process
}

func (r *rig) stop() {
	for _, p := range slices.Backward(r.parts) {
		p.stop()
	}
}

func (r *rig) cpu() (sum time.Duration) {
	for _, p := range r.parts {
		sum += p.cpu()
	}
	return sum
}

// newRig starts the parts of a path to the machine. delay is the round trip between guest and plane.
func newRig(ctx context.Context, path string, m machine, sessions int, delay time.Duration) (_ *rig, err error) {
	r := &rig{}
	defer func() {
		if err != nil {
			r.stop()
		}
	}()
	add := func(role string, args ...string) (url string) {
		if err != nil {
			return ""
		}
		var p *process
		if p, err = start(ctx, role, args...); err != nil {
			return ""
		}
		r.parts = append(r.parts, p)
		return p.URL
	}
	switch path {
	case pathTCP, pathTCPs:
		to := add("relay", m.raw)
		if path == pathTCPs {
			to = add("relay", to)
		}
		r.dial = func(ctx context.Context, _ int) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", to)
		}
	case pathWebSocket:
		url := add("wsrelay", m.raw)
		r.dial = func(ctx context.Context, _ int) (net.Conn, error) { return dialWebSocket(ctx, url, shakeNot) }
	case pathWebsockify:
		var p *process
		if p, err = startWebsockify(ctx, m.raw); err != nil {
			return nil, err
		}
		r.parts = append(r.parts, p)
		r.dial = func(ctx context.Context, _ int) (net.Conn, error) { return dialWebSocket(ctx, p.URL, shakeNot) }
	default:
		err = r.bridge(path, m, sessions, delay, add)
	}
	return r, err
}

// bridge starts the parts of a path over control plane and guest.
func (r *rig) bridge(path string, m machine, sessions int, delay time.Duration, add func(string, ...string) string) error {
	plane := add("plane")
	front := plane
	if path == pathHop {
		front = add("plane", plane)
	}
	near := plane
	if delay > 0 {
		near = "http://" + add("delay", strings.TrimPrefix(plane, "http://"), delay.String())
	}
	machines := (sessions + viewersEach - 1) / viewersEach
	add("guest", near, m.desktop, m.gateway, fmt.Sprint(machines))
	endpoint, shake := "/vnc/", shakeRFB
	switch path {
	case pathView:
		endpoint = "/view/"
	case pathAgent:
		endpoint, shake = "/agent/", shakeAgent
	}
	r.dial = func(ctx context.Context, n int) (net.Conn, error) {
		return dialWebSocket(ctx, front+endpoint+benchMachine(n%machines), shake)
	}
	return nil
}

// startWebsockify starts the program of that name, which forks for each connection.
func startWebsockify(ctx context.Context, to string) (*process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	at := l.Addr().String()
	l.Close()
	cmd := exec.CommandContext(ctx, "websockify", at, to)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in, URL: "http://" + at, kill: true}
	for range 100 {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
			return p, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	return nil, fmt.Errorf("websockify does not listen on %s", at)
}

// Handshakes of the browser before it is measured.
var (
	shakeNot = func(*websocket.Conn, net.Conn) error { return nil }
	// shakeRFB is the browser's side of the RFB handshake: version, security None, shared.
	shakeRFB = func(_ *websocket.Conn, c net.Conn) error {
		b := make([]byte, 64)
		for _, step := range []struct {
			read int
			say  string
		}{{12, "RFB 003.008\n"}, {2, "\x01"}, {4, "\x01"}, {25, ""}} {
			if _, err := io.ReadFull(c, b[:step.read]); err != nil {
				return err
			}
			if _, err := io.WriteString(c, step.say); err != nil {
				return err
			}
		}
		return nil
	}
	// shakeAgent reads the gateway's hello.
	shakeAgent = func(ws *websocket.Conn, _ net.Conn) error {
		_, _, err := ws.Read(context.Background())
		return err
	}
)

func dialWebSocket(ctx context.Context, url string, shake func(*websocket.Conn, net.Conn) error) (net.Conn, error) {
	ws, under, _, err := frames.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	var c net.Conn = &browser{under: under, ws: ws}
	if strings.Contains(url, "/agent/") {
		c = websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageText)
	}
	if err := shake(ws, c); err != nil {
		ws.CloseNow()
		return nil, err
	}
	return c, nil
}

// browser reads and writes binary messages. The library's own connection costs more than what is measured.
type browser struct {
	net.Conn // nil
	under    *frames.Conn
	ws       *websocket.Conn // kept: its finalizer closes the connection
	rest     []byte
	out      [mux.Room + 4096]byte
}

func (b *browser) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		buf, at, err := b.under.Next(len(p))
		if err != nil {
			return 0, err
		}
		b.rest = buf[at:]
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *browser) Write(p []byte) (int, error) {
	n := copy(b.out[mux.Room:], p)
	return n, b.under.Send(frames.Binary, b.out[:mux.Room+n], mux.Room)
}

func (b *browser) Close() error { return b.ws.CloseNow() }
