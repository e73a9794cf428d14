package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A bridge is measured over its whole path, with each part in a process of its own: this process is the screen's source on the
// machine and the browser, "guest" the machine's end of the tunnel, "plane" the control plane's. The references are a relay of
// TCP connections and one of WebSockets to TCP, each in a process of its own too.
const (
	roleEnv   = "CLOUDBOT_BENCH_ROLE"
	roleArgs  = "CLOUDBOT_BENCH_ARGS"
	benchDesk = "01JZ8Q3M5T9V2X4Y6A8C0E2G4J"
)

// benchKey is the machine's: both processes derive it.
func benchKey() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte("a benchmark's machine has a key!"))
}

// process is a part that runs on its own.
type process struct {
	cmd *exec.Cmd
	URL string // that it printed
	in  io.WriteCloser
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

// rig is the path that is measured.
type rig struct {
	dial  func(ctx context.Context) (net.Conn, error) // what the browser reads and writes
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

// source is the machine's screen: it echoes, or sends without end if the first byte is "F".
func source() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 64<<10)
				n, err := c.Read(b)
				if err == nil && b[0] == 'F' {
					for err == nil {
						_, err = c.Write(b)
					}
					return
				}
				for err == nil {
					if _, err = c.Write(b[:n]); err == nil {
						n, err = c.Read(b)
					}
				}
			}()
		}
	}()
	return l, nil
}

// newRig starts the parts of a path to the source. delay is the round trip between guest and plane.
func newRig(ctx context.Context, path, source string, delay time.Duration) (*rig, error) {
	r := &rig{}
	add := func(role string, args ...string) (string, error) {
		p, err := start(ctx, role, args...)
		if err != nil {
			r.stop()
			return "", err
		}
		r.parts = append(r.parts, p)
		return p.URL, nil
	}
	switch path {
	case "TCP relay":
		url, err := add("relay", source)
		if err != nil {
			return nil, err
		}
		r.dial = func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", url)
		}
	case "WebSocket relay":
		url, err := add("wsrelay", source)
		if err != nil {
			return nil, err
		}
		r.dial = func(ctx context.Context) (net.Conn, error) { return dialWebSocket(ctx, url, false) }
	case "bridge":
		url, err := add("plane")
		if err != nil {
			return nil, err
		}
		near := url
		if delay > 0 {
			p, err := start(ctx, "delay", strings.TrimPrefix(url, "http://"), delay.String())
			if err != nil {
				r.stop()
				return nil, err
			}
			r.parts = append(r.parts, p)
			near = "http://" + p.URL
		}
		if _, err := add("guest", near, source); err != nil {
			return nil, err
		}
		r.dial = func(ctx context.Context) (net.Conn, error) { return dialWebSocket(ctx, url+"/vnc", true) }
	}
	return r, nil
}

func dialWebSocket(ctx context.Context, url string, rfb bool) (net.Conn, error) {
	ws, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(url, "http"), &websocket.DialOptions{Subprotocols: []string{"binary"}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	c := websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary)
	if rfb {
		err = shake(c)
	}
	return c, err
}

// shake is the browser's side of the RFB handshake: version, security None, shared.
func shake(c net.Conn) error {
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

func benchBridge(ctx context.Context, o options) error {
	l, err := source()
	if err != nil {
		return err
	}
	defer l.Close()
	to := l.Addr().String()
	fmt.Printf("\n| one session, machine → browser | MB/s | ÷ TCP relay | CPU s/GB of its parts |\n|---|---:|---:|---:|\n")
	relay := 0.0
	for _, row := range []struct {
		path  string
		delay time.Duration
	}{{"TCP relay", 0}, {"WebSocket relay", 0}, {"bridge", 0}, {"bridge", 50 * time.Millisecond}} {
		var rates, cpus []float64
		for range o.runs {
			rate, cpu, err := throughput(ctx, row.path, to, row.delay, o.length)
			if err != nil {
				return err
			}
			rates, cpus = append(rates, rate), append(cpus, cpu)
		}
		slices.Sort(rates)
		slices.Sort(cpus)
		rate := rates[len(rates)/2]
		if row.path == "TCP relay" {
			relay = rate
		}
		name := row.path
		if row.delay > 0 {
			name += fmt.Sprintf(", machine %v away", row.delay)
		}
		fmt.Printf("| %s | %.0f | %.2f | %.2f |\n", name, rate, rate/relay, cpus[len(cpus)/2])
	}
	fmt.Printf("\n| round trip of 64 bytes | sessions | p50 µs | p99 µs |\n|---|---:|---:|---:|\n")
	for _, sessions := range []int{1, 50, 500} {
		for _, path := range []string{"TCP relay", "WebSocket relay", "bridge"} {
			if path == "bridge" && sessions > 60 {
				continue // a machine's tunnel has 64 streams
			}
			took, err := roundTrips(ctx, path, to, sessions, o.length)
			if err != nil {
				return err
			}
			slices.Sort(took)
			fmt.Printf("| %s | %d | %d | %d |\n", path, sessions, took[len(took)/2].Microseconds(), took[len(took)*99/100].Microseconds())
		}
	}
	return nil
}

func throughput(ctx context.Context, path, to string, delay, length time.Duration) (mbs, cpuPerGB float64, err error) {
	r, err := newRig(ctx, path, to, delay)
	if err != nil {
		return 0, 0, err
	}
	defer r.stop()
	c, err := r.dial(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "F"); err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 256<<10)
	read := func(d time.Duration) (n int64, err error) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			m, err := c.Read(buf)
			if n += int64(m); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	if _, err := read(length / 3); err != nil { // windows grow
		return 0, 0, err
	}
	cpu, began := r.cpu(), time.Now()
	n, err := read(length)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began)
	return float64(n) / 1e6 / took.Seconds(), (r.cpu() - cpu).Seconds() / (float64(n) / 1e9), nil
}

func roundTrips(ctx context.Context, path, to string, sessions int, length time.Duration) ([]time.Duration, error) {
	r, err := newRig(ctx, path, to, 0)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	var mu sync.Mutex
	var all []time.Duration
	var failed error
	var wg sync.WaitGroup
	end := time.Now().Add(length)
	for range sessions {
		c, err := r.dial(ctx)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		wg.Go(func() {
			var took []time.Duration
			buf := make([]byte, 64)
			for time.Now().Before(end) {
				began := time.Now()
				_, err := c.Write(buf)
				if err == nil {
					_, err = io.ReadFull(c, buf)
				}
				if err != nil {
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
					return
				}
				took = append(took, time.Since(began))
				time.Sleep(50 * time.Millisecond) // a hand on a mouse
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	wg.Wait()
	return all, failed
}
