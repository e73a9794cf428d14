package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
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
