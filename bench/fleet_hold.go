package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// hold opens everything, keeps it for a while, and prints what that took.
func (f *fleet) hold(ctx context.Context, dir string, sessions, streams int) error {
	empty, err := f.settled(ctx)
	if err != nil {
		return err
	}
	began, all := time.Now(), sessions+fleetActive
	idle, err := f.viewers(ctx, dir, viewing{To: sessions, Kind: screenWaits})
	if err != nil {
		return err
	}
	defer idle.stop()
	active, err := f.viewers(ctx, dir, viewing{From: sessions, To: all, Kind: screenPaced, Rate: fleetRate})
	if err != nil {
		return err
	}
	defer active.stop()
	opened := time.Since(began)
	heard := make([][]*listener, len(f.accounts))
	err = atOnce(ctx, 16, len(f.accounts), func(n int) error {
		for len(heard[n]) < streamsOfOne && n*streamsOfOne+len(heard[n]) < streams {
			in, err := f.there(n).listen(ctx)
			if err != nil {
				return err
			}
			heard[n] = append(heard[n], in)
		}
		return nil
	})
	defer func() {
		for _, in := range slices.Concat(heard...) {
			in.Close()
		}
	}()
	if err != nil {
		return err
	}
	// All are there. Meanwhile a hand moves a mouse, and accounts store keys.
	mouse, err := f.view(ctx, f.machines-1, false)
	if err != nil {
		return err
	}
	defer mouse.Close()
	var trips []time.Duration
	var arrived []time.Duration
	frames, err := holds(ctx, active, "")
	if err != nil {
		return err
	}
	cpu, at := f.cpus(), time.Now()
	var done sync.WaitGroup
	var failed error
	done.Go(func() { trips, failed = moves(mouse, 300) })
	for n := range 200 {
		of, ins := f.there(n), heard[n%len(f.accounts)]
		stored := time.Now()
		if err := of.store(ctx, n, "respond-async"); err != nil {
			return err
		}
		for _, in := range ins {
			select {
			case t, ok := <-in.arrived:
				if !ok {
					return errors.New("an event stream ended")
				}
				arrived = append(arrived, t.Sub(stored))
			case <-time.After(30 * time.Second):
				return errors.New("an event did not arrive within 30 s")
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	done.Wait()
	took := time.Since(at)
	cpu = f.cpus() - cpu
	after, err := holds(ctx, active, "")
	if err != nil {
		return err
	}
	still, err := holds(ctx, idle, "")
	if err != nil {
		return err
	}
	full, err := f.server.holds(ctx)
	if err != nil {
		return err
	}
	full2, err := f.streams.holds(ctx)
	if err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	rate := float64(after.Sent-frames.Sent) / frameBytes / took.Seconds()
	gone := all - still.Sessions - after.Sessions
	for _, in := range slices.Concat(heard...) {
		if in.ended.Load() {
			gone++
		}
	}
	fmt.Printf("\n| at once, on two replicas of the server | |\n|---|---|\n")
	fmt.Printf("| idle sessions, active ones (%d frames/s of %d B each), event streams, machines | %d, %d, %d, %d |\n", fleetRate, frameBytes, sessions, fleetActive, streams, f.machines)
	fmt.Printf("| lost while they were held | **%d**: %s |\n", gone, verdict(gone == 0))
	fmt.Printf("| sessions opened | %.0f/s |\n", float64(all)/opened.Seconds())
	for _, r := range []struct {
		of   string
		held held
	}{{"sessions", full}, {"event streams", full2}} {
		fmt.Printf("| replica with the %s: live, resident, files | %.0f MB, %.0f MB, %d |\n", r.of, float64(r.held.Live)/1e6, float64(r.held.Resident)/1e6, r.held.Files)
	}
	fmt.Printf("| live before, both and the guests | %.0f MB |\n", float64(empty.Live)/1e6)
	fmt.Printf("| frames that arrived; CPU of the replicas and the guests | %.0f of %d/s; %.2f of 2 cores |\n", rate, fleetActive*fleetRate, cpu.Seconds()/took.Seconds())
	for _, row := range []struct {
		name string
		took []time.Duration
	}{{"round trip of a mouse's message, p50, p99", trips}, {"a write → its account's streams, p50, p99", arrived}} {
		slices.Sort(row.took)
		ms := func(percent int) float64 {
			return float64(row.took[len(row.took)*percent/100].Microseconds()) / 1e3
		}
		fmt.Printf("| %s | %.2f ms, %.2f ms |\n", row.name, ms(50), ms(99))
	}
	return nil
}

// moves asks a screen for answers and returns how long they took.
func moves(conn net.Conn, n int) (took []time.Duration, err error) {
	b := pictureRequest(screenAnswer)
	for range n {
		began := time.Now()
		if _, err := conn.Write(b); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, b); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		time.Sleep(10 * time.Millisecond)
	}
	return took, nil
}
