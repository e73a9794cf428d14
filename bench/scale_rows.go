package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

func kB(bytes int64, sessions int) float64 { return float64(bytes) / 1e3 / float64(sessions) }

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
