package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"slices"
	"time"
)

// bridgeOptions choose what benchBridge measures.
type bridgeOptions struct {
	path     string // "": all rows
	mode     string
	sessions int
	size     int
	every    time.Duration
	delay    time.Duration
}

func (o *bridgeOptions) flags() {
	flag.StringVar(&o.path, "path", "", `only this path of the bridge, as in its rows: "bridge", "two TCP relays"`)
	flag.StringVar(&o.mode, "mode", "", "throughput or latency; none: both")
	flag.IntVar(&o.sessions, "sessions", 1, "sessions of the path at a time")
	flag.IntVar(&o.size, "size", 64, "bytes of a message that comes back")
	flag.DurationVar(&o.every, "every", 0, "between two messages of a session; 0: 1000 messages a second in all")
	flag.DurationVar(&o.delay, "delay", 0, "round trip between machine and control plane")
}

func benchBridge(ctx context.Context, o options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m, err := listenAsMachine(ctx)
	if err != nil {
		return err
	}
	if o.bridge.mode != "latency" {
		if err := bridgeFlows(ctx, m, o); err != nil {
			return err
		}
	}
	if o.bridge.mode != "throughput" {
		return bridgeTrips(ctx, m, o)
	}
	return nil
}

// alternate measures each load o.runs times in turn, and returns the medians by measure.
func alternate[T any](o options, loads []load, once func(load) (T, error), measures ...func(T) float64) ([][]float64, error) {
	results := make([][]T, len(loads))
	for range o.runs {
		for i, l := range loads {
			r, err := once(l)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.path, err)
			}
			results[i] = append(results[i], r)
		}
	}
	medians := make([][]float64, len(loads))
	for i, rs := range results {
		for _, measure := range measures {
			values := make([]float64, len(rs))
			for j, r := range rs {
				values[j] = measure(r)
			}
			slices.Sort(values)
			medians[i] = append(medians[i], values[len(values)/2])
		}
	}
	return medians, nil
}

func bridgeFlows(ctx context.Context, m machine, o options) error {
	b := o.bridge
	loads := []load{{path: pathTCP}, {path: pathTCPs}, {path: pathWebSocket}, {path: pathBridge}, {path: pathHop}, {path: pathBridge, delay: 50 * time.Millisecond}}
	if b.path != "" {
		loads = []load{{path: pathTCP}, {path: b.path, delay: b.delay}}
	}
	for i := range loads {
		loads[i].sessions, loads[i].length = b.sessions, o.length
	}
	rows, err := alternate(o, loads, func(l load) (flow, error) { return throughput(ctx, m, l) },
		func(f flow) float64 { return f.mbs }, func(f flow) float64 { return f.perGB })
	if err != nil {
		return err
	}
	fmt.Printf("\n| %d sessions, machine → browser | MB/s | ÷ TCP relay | CPU s/GB of its parts | bar |\n|---|---:|---:|---:|---|\n", b.sessions)
	for i, l := range loads {
		name, bar := l.path, ""
		switch {
		case l.delay > 0:
			name += fmt.Sprintf(", machine %v away", l.delay)
			bar = "80 MB/s: " + met(rows[i][0] >= 80)
		case l.path == pathBridge:
			bar = fmt.Sprintf("0.6 ×: %s; 2.0 CPU s/GB: %s", met(rows[i][0] >= 0.6*rows[0][0]), met(rows[i][1] <= 2))
		}
		fmt.Printf("| %s | %.0f | %.2f | %.2f | %s |\n", name, rows[i][0], rows[i][0]/rows[0][0], rows[i][1], bar)
	}
	return nil
}

func bridgeTrips(ctx context.Context, m machine, o options) error {
	b := o.bridge
	paths := []string{pathTCP, pathTCPs, pathWebSocket, pathBridge, pathView, pathHop, pathAgent}
	_, err := exec.LookPath("websockify")
	if err == nil {
		paths = append(paths, pathWebsockify)
	} else if !errors.Is(err, exec.ErrNotFound) {
		return err
	}
	counts := []int{1, 50, 500}
	if b.path != "" {
		paths, counts = []string{pathTCP, b.path}, []int{b.sessions}
	}
	fmt.Printf("\n| round trip of %d bytes | sessions | p50 µs | p99 µs | − TCP relay p50 | p99 | CPU µs of its parts | bar |\n|---|---:|---:|---:|---:|---:|---:|---|\n", cmp.Or(b.size, 64))
	for _, sessions := range counts {
		var loads []load
		for _, path := range paths {
			loads = append(loads, load{path: path, sessions: sessions, size: b.size, every: b.every, delay: b.delay, length: o.length})
		}
		micro := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
		rows, err := alternate(o, loads, func(l load) (trips, error) { return roundTrips(ctx, m, l) },
			func(t trips) float64 { return micro(t.p50) }, func(t trips) float64 { return micro(t.p99) }, func(t trips) float64 { return micro(t.perTrip) })
		if err != nil {
			return err
		}
		for i, path := range paths {
			more50, more99, bar := rows[i][0]-rows[0][0], rows[i][1]-rows[0][1], ""
			switch path {
			case pathBridge, pathView, pathHop, pathAgent:
				bar = fmt.Sprintf("+ 120: %s; + 250: %s", met(more50 <= 120), met(more99 <= 250))
				if last := len(paths) - 1; paths[last] == pathWebsockify {
					bar += "; below websockify: " + met(rows[i][0] < rows[last][0])
				}
			}
			cpu := fmt.Sprintf("%.0f", rows[i][2])
			if path == pathWebsockify { // it forks
				cpu = "–"
			}
			fmt.Printf("| %s | %d | %.0f | %.0f | %+.0f | %+.0f | %s | %s |\n", path, sessions, rows[i][0], rows[i][1], more50, more99, cpu, bar)
		}
	}
	return nil
}

func met(yes bool) string {
	if yes {
		return "met"
	}
	return "missed"
}
