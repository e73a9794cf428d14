package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// perMachine is how many viewers a machine gets here, of the 64 streams of its tunnel.
const perMachine = 60

// scaleOptions are the sizes of "scale" and "fleet".
type scaleOptions struct {
	idle  int    // sessions
	churn int    // sessions that come and go
	row   string // of "scale"; "": all
}

func (o *scaleOptions) flags() {
	flag.IntVar(&o.idle, "idle", 10_000, "idle sessions of scale and fleet")
	flag.IntVar(&o.churn, "churn", 20_000, "sessions of scale and fleet that come and go; 0: none")
	flag.StringVar(&o.row, "row", "", "only this row of scale: idle, active, stalled or churn")
}

// benchScale measures what sessions cost that do nothing, work, stand still, and come and go.
func benchScale(ctx context.Context, o options) error {
	files := moreFiles(scaleFiles)
	sessions := o.scale.idle
	if uint64(sessions)*11/10 > files {
		sessions = int(files) * 10 / 11
		fmt.Printf("The hard limit of open files is %d: %d sessions instead of %d.\n", files, sessions, o.scale.idle)
	}
	fmt.Printf("\n| sessions | of the control plane | of the guest | together | bar |\n|---|---:|---:|---:|---|\n")
	for _, row := range []struct {
		name     string
		machines int
		measure  func(context.Context, *crowd) error
	}{
		{"idle", (sessions + perMachine - 1) / perMachine, func(ctx context.Context, c *crowd) error { return c.idle(ctx, sessions) }},
		{"active", 50, func(ctx context.Context, c *crowd) error { return c.active(ctx, 50, o.length) }},
		{"stalled", 10, func(ctx context.Context, c *crowd) error { return c.stalled(ctx, 10) }},
		{"churn", 16, func(ctx context.Context, c *crowd) error { return c.churn(ctx, o.scale.churn) }},
	} {
		if o.scale.row != "" && o.scale.row != row.name {
			continue
		}
		if err := inCrowd(ctx, row.machines, func(c *crowd) error { return row.measure(ctx, c) }); err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
	}
	if o.scale.row == "" || o.scale.row == "active" {
		return relayFrames(ctx, o.length)
	}
	return nil
}

// crowd is a control plane, its machines and their screens.
type crowd struct {
	plane, guests, screen *process
	address               string // of the screens
	machines              int
}

func inCrowd(ctx context.Context, machines int, measure func(*crowd) error) (err error) {
	c := &crowd{machines: machines}
	if c.screen, err = start(ctx, "scalescreen"); err != nil {
		return err
	}
	defer c.screen.stop()
	b, err := get(ctx, c.screen.URL+"/address")
	if err != nil {
		return err
	}
	c.address = string(b)
	if c.plane, err = start(ctx, "scaleplane"); err != nil {
		return err
	}
	defer c.plane.stop()
	if c.guests, err = start(ctx, "scaleguests", c.plane.URL, c.address, fmt.Sprint(machines)); err != nil {
		return err
	}
	defer c.guests.stop()
	return measure(c)
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

func holds(ctx context.Context, p *process, profile string) (h held, err error) {
	b, err := get(ctx, p.URL+"/held?profile="+profile)
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(b, &h)
}

// both returns what plane and guests hold.
func (c *crowd) both(ctx context.Context, name string) (plane, guests held, err error) {
	plane, err = holds(ctx, c.plane, join(name, "plane"))
	if err == nil {
		guests, err = holds(ctx, c.guests, join(name, "guests"))
	}
	return plane, guests, err
}

func join(name, part string) string {
	if name == "" {
		return ""
	}
	return name + "-" + part
}

// view opens a session with the n-th machine. Each of several loopback addresses has ports of its own.
func (c *crowd) view(ctx context.Context, n int) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback()}, Timeout: 20 * time.Second}
	return viewWith(ctx, "ws"+c.plane.URL[len("http"):]+"/vnc/"+machineName(n%c.machines), &websocket.DialOptions{
		Subprotocols: []string{"binary"},
		HTTPClient:   &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}},
	})
}

// viewWith opens a session at an address.
func viewWith(ctx context.Context, url string, options *websocket.DialOptions) (net.Conn, error) {
	return dialView(ctx, url, "\x01", "", options)
}

func dialView(ctx context.Context, url, security, answer string, options *websocket.DialOptions) (net.Conn, error) {
	ws, _, err := websocket.Dial(ctx, url, options)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)
	conn := websocket.NetConn(context.WithoutCancel(ctx), ws, websocket.MessageBinary)
	if err := enter(conn, security, answer); err != nil {
		ws.CloseNow()
		return nil, err
	}
	return conn, nil
}

// open opens sessions, some at a time, and calls with for each.
func (c *crowd) open(ctx context.Context, sessions int, with func(n int, conn net.Conn) error) error {
	return atOnce(ctx, 16, sessions, func(n int) error {
		conn, err := c.view(ctx, n)
		if err == nil {
			err = with(n, conn)
		}
		if err != nil {
			return fmt.Errorf("session %d: %w", n, err)
		}
		return nil
	})
}

// kept opens sessions and keeps them until the returned function closes them. Each asks its screen for something, and read
// gets what comes.
func (c *crowd) kept(ctx context.Context, sessions int, kind byte, read func(net.Conn)) (leave func(), err error) {
	var mu sync.Mutex
	var conns []net.Conn
	var readers sync.WaitGroup
	leave = func() {
		for _, conn := range conns {
			conn.Close()
		}
		readers.Wait()
	}
	err = c.open(ctx, sessions, func(_ int, conn net.Conn) error {
		mu.Lock()
		conns = append(conns, conn)
		mu.Unlock()
		if read != nil {
			readers.Go(func() { read(conn) })
		}
		_, err := conn.Write(pictureRequest(kind))
		return err
	})
	if err != nil {
		leave()
	}
	return leave, err
}

func kB(bytes int64, sessions int) float64 { return float64(bytes) / 1e3 / float64(sessions) }

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// idle measures sessions whose screen does not change.
func (c *crowd) idle(ctx context.Context, sessions int) error {
	plane, guests, err := c.both(ctx, "")
	if err != nil {
		return err
	}
	began := time.Now()
	leave, err := c.kept(ctx, sessions, screenWaits, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	if err != nil {
		return err
	}
	defer leave()
	opened := time.Since(began)
	plane1, guests1, err := c.both(ctx, "idle")
	if err != nil {
		return err
	}
	if plane1.Sessions != sessions {
		return fmt.Errorf("%d of %d sessions are open", plane1.Sessions, sessions)
	}
	p, g := kB(plane1.Live-plane.Live, sessions), kB(guests1.Live-guests.Live, sessions)
	fmt.Printf("| idle, %d on %d machines, opened at %.0f/s | %.1f kB, %.1f goroutines | %.1f kB, %.1f goroutines | **%.1f kB** (resident %.1f) | 50 kB: %s |\n",
		sessions, c.machines, float64(sessions)/opened.Seconds(), p, perSession(plane1.Goroutines-plane.Goroutines, sessions), g,
		perSession(guests1.Goroutines-guests.Goroutines, sessions), p+g,
		kB(plane1.Resident-plane.Resident+guests1.Resident-guests.Resident, sessions), verdict(p+g <= 50))
	return nil
}

func perSession(n, sessions int) float64 { return float64(n) / float64(sessions) }

// active measures sessions whose screen changes 30 times a second, 250 kB/s in all.
func (c *crowd) active(ctx context.Context, sessions int, length time.Duration) error {
	plane, guests, err := c.both(ctx, "")
	if err != nil {
		return err
	}
	var got atomic.Int64
	leave, err := c.kept(ctx, sessions, screenPaced, func(conn net.Conn) { count(conn, &got) })
	if err != nil {
		return err
	}
	defer leave()
	if err := sleep(ctx, length); err != nil {
		return err
	}
	cpuPlane, cpuGuests, bytes := c.plane.cpu(), c.guests.cpu(), got.Load()
	if err := sleep(ctx, 2*length); err != nil {
		return err
	}
	cpuPlane, cpuGuests = c.plane.cpu()-cpuPlane, c.guests.cpu()-cpuGuests
	frames := float64(got.Load()-bytes) / frameBytes
	plane1, guests1, err := c.both(ctx, "active")
	if err != nil {
		return err
	}
	p, g := kB(plane1.Live-plane.Live, sessions), kB(guests1.Live-guests.Live, sessions)
	resident := kB(plane1.Resident-plane.Resident+guests1.Resident-guests.Resident, sessions)
	µs := func(d time.Duration) float64 { return float64(d.Microseconds()) / frames }
	fmt.Printf("| active, %d, %.0f frames/s | %.1f kB, %.0f µs a frame | %.1f kB, %.0f µs | **%.1f kB** (resident %.1f), **%.0f µs** | 100 kB: %s; 70 µs: %s |\n",
		sessions, frames/2/length.Seconds(), p, µs(cpuPlane), g, µs(cpuGuests), p+g, resident, µs(cpuPlane+cpuGuests),
		verdict(resident <= 100), verdict(µs(cpuPlane+cpuGuests) <= 70))
	return nil
}

func count(conn net.Conn, got *atomic.Int64) {
	b := make([]byte, 64<<10)
	for {
		n, err := conn.Read(b)
		got.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// relayFrames measures the same frames through a relay from WebSockets to TCP.
func relayFrames(ctx context.Context, length time.Duration) error {
	screen, err := start(ctx, "scalescreen")
	if err != nil {
		return err
	}
	defer screen.stop()
	address, err := get(ctx, screen.URL+"/address")
	if err != nil {
		return err
	}
	relay, err := start(ctx, "wsrelay", string(address))
	if err != nil {
		return err
	}
	defer relay.stop()
	var got atomic.Int64
	for range 50 {
		conn, err := dialView(ctx, "ws"+relay.URL[len("http"):], "\x02", "0123456789abcdef", &websocket.DialOptions{Subprotocols: []string{"binary"}})
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write(pictureRequest(screenPaced)); err != nil {
			return err
		}
		go count(conn, &got)
	}
	if err := sleep(ctx, length); err != nil {
		return err
	}
	cpu, bytes := relay.cpu(), got.Load()
	if err := sleep(ctx, 2*length); err != nil {
		return err
	}
	cpu = relay.cpu() - cpu
	frames := float64(got.Load()-bytes) / frameBytes
	fmt.Printf("| a WebSocket relay, 50, %.0f frames/s | %.0f µs a frame | | | |\n", frames/2/length.Seconds(), float64(cpu.Microseconds())/frames)
	return nil
}

// stalled measures sessions whose viewer stops reading while the screen sends all it can, and waits until they are
// disconnected.
func (c *crowd) stalled(ctx context.Context, sessions int) error {
	// Another viewer of each machine goes on meanwhile.
	var answers atomic.Int64
	leave, err := c.kept(ctx, c.machines, screenAnswer, func(conn net.Conn) { askAgain(conn, &answers) })
	if err != nil {
		return err
	}
	defer leave()
	idlePlane, idleGuests, err := c.both(ctx, "")
	if err != nil {
		return err
	}
	leave2, err := c.kept(ctx, sessions, screenFlood, nil)
	if err != nil {
		return err
	}
	defer leave2()
	began, accepted := time.Now(), int64(-1)
	for { // until nothing moves
		h, err := holds(ctx, c.screen, "")
		if err != nil {
			return err
		}
		if h.Sent == accepted {
			break
		}
		accepted = h.Sent
		if err := sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	before := answers.Load()
	plane1, guests1, err := c.both(ctx, "stalled")
	if err != nil {
		return err
	}
	if plane1.Sessions != sessions+c.machines {
		return errors.New("sessions were disconnected before they were measured")
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	others := answers.Load() - before
	p, g := kB(plane1.Live-idlePlane.Live, sessions), kB(guests1.Live-idleGuests.Live, sessions)
	for plane1.Sessions > c.machines {
		if time.Since(began) > time.Minute {
			return errors.New("a stalled session was not disconnected within a minute")
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		if plane1, err = holds(ctx, c.plane, ""); err != nil {
			return err
		}
	}
	dropped := time.Since(began)
	fmt.Printf("| stalled, %d | %.1f kB | %.1f kB | **%.1f kB**; %.0f kB with the kernel's buffers; dropped after %.0f s; the other sessions of the tunnels had %d answers in 2 s | 300 kB: %s |\n",
		sessions, p, g, p+g, kB(accepted, sessions), dropped.Seconds(), others, verdict(p+g <= 300 && others > 0))
	return nil
}

func askAgain(conn net.Conn, answers *atomic.Int64) {
	b := make([]byte, 10)
	for {
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		answers.Add(1)
		if _, err := conn.Write(b); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// churn opens and closes sessions and looks what is left over.
func (c *crowd) churn(ctx context.Context, sessions int) error {
	some := func(n int) error {
		return c.open(ctx, n, func(n int, conn net.Conn) error {
			if _, err := conn.Write(pictureRequest(screenAnswer)); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
				return err
			}
			return conn.Close()
		})
	}
	if err := some(500); err != nil { // warms up
		return err
	}
	before, guests, err := c.settled(ctx, "")
	if err != nil {
		return err
	}
	began := time.Now()
	if err := some(sessions); err != nil {
		return err
	}
	took := time.Since(began)
	after, guests1, err := c.settled(ctx, "churn")
	if err != nil {
		return err
	}
	goroutines, files := after.Goroutines-before.Goroutines+guests1.Goroutines-guests.Goroutines, after.Files-before.Files+guests1.Files-guests.Files
	memory := after.Live - before.Live + guests1.Live - guests.Live
	fmt.Printf("| churn, %d at %.0f/s | %d sessions, %d tunnels of %d | %d sessions, %d streams | left over: **%d goroutines, %d files, %.0f kB** | nothing: %s |\n",
		sessions, float64(sessions)/took.Seconds(), after.Sessions, after.Tunnels, c.machines, guests1.Sessions, guests1.Streams, goroutines, files,
		float64(memory)/1e3, verdict(goroutines <= 0 && files <= 0 && after.Sessions+guests1.Sessions+guests1.Streams == 0 && memory < 1<<20))
	return nil
}

// settled waits until no session is left, and returns what is held then.
func (c *crowd) settled(ctx context.Context, profile string) (plane, guests held, err error) {
	for range 100 {
		if plane, guests, err = c.both(ctx, profile); err != nil || plane.Sessions+guests.Sessions+guests.Streams == 0 {
			break
		}
		if err = sleep(ctx, 200*time.Millisecond); err != nil {
			break
		}
	}
	if err == nil {
		err = sleep(ctx, time.Second) // closed connections' goroutines end
	}
	if err == nil {
		plane, guests, err = c.both(ctx, profile)
	}
	return plane, guests, err
}

// enter is a viewer's handshake with a bridge, which asks for no password, or with a VNC server, which takes any.
func enter(c net.Conn, security, answer string) error {
	b := make([]byte, 32)
	for _, step := range []struct {
		read int
		say  string
	}{{12, "RFB 003.008\n"}, {2, security}, {len(answer), answer}, {4, "\x01"}, {25, ""}} {
		if _, err := io.ReadFull(c, b[:step.read]); err != nil {
			return err
		}
		if _, err := io.WriteString(c, step.say); err != nil {
			return err
		}
	}
	return nil
}
