package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/activity"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/typing"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// The roles of the measurement of many connections: "scaleplane" is the control plane's hub and bridge, "scaleguests" many
// machines' guests, and "scalescreen" the VNC server of all of them. Each tells at its own address what it holds.

// held is what a process holds.
type held struct {
	Live       int64 // bytes of its heap and stacks after a collection
	Resident   int64 // bytes, as the kernel counts them
	Goroutines int
	Files      int
	Tunnels    int // of the plane
	Sessions   int
	Streams    int   // of the guests' tunnels, without their control streams
	Sent       int64 // bytes that the screens have handed to the kernel
}

// look counts what this process holds, and saves its heap and goroutines under a name if profiles are wanted.
func look(profile string) held {
	runtime.GC()
	runtime.GC() // the first one leaves what pools held in their second half
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	h := held{Live: int64(m.HeapAlloc + m.StackInuse), Goroutines: runtime.NumGoroutine()}
	h.Files, h.Resident = filesOf(os.Getpid()), residentOf(os.Getpid())
	if dir := os.Getenv("CLOUDBOT_BENCH_PROFILES"); dir != "" && profile != "" {
		for _, kind := range []string{"heap", "goroutine"} {
			if f, err := os.Create(filepath.Join(dir, profile+"."+kind)); err == nil {
				_ = pprof.Lookup(kind).WriteTo(f, 0)
				f.Close()
			}
		}
	}
	return h
}

func residentOf(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func filesOf(pid int) int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(list)
}

func answerLook(w http.ResponseWriter, r *http.Request, more func(*held)) {
	h := look(r.URL.Query().Get("profile"))
	more(&h)
	_ = json.NewEncoder(w).Encode(h)
}

// moreFiles raises the limit of open files: to n if the system lets it, else to what it may be.
func moreFiles(n uint64) uint64 {
	var now syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now) != nil {
		return 0
	}
	if now.Max < n && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}) == nil {
		return n
	}
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: now.Max, Max: now.Max})
	return now.Max
}

const scaleFiles = 100_000

func playScale(ctx context.Context, role string, args []string) error {
	moreFiles(scaleFiles)
	switch role {
	case "scaleplane":
		return playScalePlane(ctx)
	case "scaleguests":
		return playScaleGuests(ctx, args[0], args[1], args[2])
	case "scalescreen":
		return playScreen(ctx)
	case "fleetviewers":
		return playFleetViewers(ctx, args[0])
	}
	return fmt.Errorf("no role %q", role)
}

// manyMachines knows every machine; all have one key.
type manyMachines struct{ tunnel.Machines }

func (manyMachines) Guest(_ context.Context, id string) ([]byte, string, error) {
	return benchKey().Public().(ed25519.PublicKey), "account of " + id, nil
}

func (manyMachines) Versions(context.Context, string, string, map[string]string) error { return nil }

func (manyMachines) Reached(context.Context, string, string, instance.Phase, string) error {
	return nil
}

func (manyMachines) Keys(context.Context, string, string) (map[string]string, error) { return nil, nil }

func playScalePlane(ctx context.Context) error {
	hub, err := tunnel.New(tunnel.Config{Machines: manyMachines{}})
	if err != nil {
		return err
	}
	bridges := bridge.New(bridge.Config{Opener: hub, MaxPerInstance: 1000, MaxPerAccount: 1000})
	go func() { _ = hub.Run(ctx) }()
	go func() { _ = bridges.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", hub.GuestHandler())
	mux.HandleFunc("/vnc/{instance}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("instance")
		bridges.ServeVNC(w, r, access.BridgeSession{Account: "account of " + id, Instance: id, Mode: access.ModeControl})
	})
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		answerLook(w, r, func(h *held) { h.Tunnels, h.Sessions = hub.Len(), bridges.Len() })
	})
	return serveHTTP(ctx, mux)
}

// machineName is the n-th machine's id, a ULID.
func machineName(n int) string { return fmt.Sprintf("01JZ8Q3M5T9V2X4Y6A8C0%05d", n) }

// playScaleGuests is the guests of machines. What a viewer's stream passes on a machine is what guest and desktop compose for
// a real X server; only that server is a process for all.
func playScaleGuests(ctx context.Context, plane, screen, machines string) error {
	n, err := strconv.Atoi(machines)
	if err != nil {
		return err
	}
	tunnels := make([]*hostile.Tunnel, n)
	viewing := atomic.Int64{}
	for i := range tunnels {
		m := hostile.Machine{URL: plane, Instance: machineName(i), Boot: "boot", Key: benchKey()}
		if tunnels[i], err = m.Connect(ctx); err != nil {
			return fmt.Errorf("machine %d: %w", i, err)
		}
		defer context.AfterFunc(ctx, tunnels[i].Close)()
		use, keys := activity.New(activity.Config{}), typing.New(slog.New(slog.DiscardHandler))
		room := viewers.New(viewers.Config{Addr: func() string { return "" }})
		serve := func(c net.Conn) {
			viewing.Add(1)
			defer viewing.Add(-1)
			_ = use.Viewer(func(ctx context.Context, c net.Conn) error {
				to, err := (&net.Dialer{}).DialContext(ctx, "tcp", screen)
				if err != nil {
					return err
				}
				return room.Join(ctx, keys.Filter(ctx, c), to)
			})(ctx, c)
		}
		go tunnels[i].Serve(map[string]func(net.Conn){wire.VNC: serve})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		answerLook(w, r, func(h *held) {
			h.Sessions = int(viewing.Load())
			for _, t := range tunnels {
				h.Streams += t.Streams() - 1
			}
		})
	})
	return serveHTTP(ctx, mux)
}

// What a viewer asks the screen for: the x of its request for a picture, an RFB message of 10 bytes.
const (
	screenWaits  = iota // nothing
	screenAnswer        // the request itself, again and again
	screenPaced         // frames of frameBytes: as many a second as its y, or frameRate
	screenFlood         // as much as goes
)

const (
	frameBytes = 8333
	frameRate  = 30 // a second: 250 kB/s
)

func pictureRequest(kind byte) []byte { return []byte{3, 0, 0, kind, 0, 0, 0, 1, 0, 1} }

// playScreen is the VNC servers of all machines.
func playScreen(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var sent atomic.Int64
	var open sync.WaitGroup
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { hostile.Desktop{After: func(c net.Conn) { _ = show(c, &sent) }}.Serve(c) })
		}
	}()
	mux := http.NewServeMux()
	mux.HandleFunc("/held", func(w http.ResponseWriter, r *http.Request) {
		answerLook(w, r, func(h *held) { h.Sent = sent.Load() })
	})
	mux.HandleFunc("/address", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, l.Addr()) })
	return serveHTTP(ctx, mux)
}

func show(c net.Conn, sent *atomic.Int64) error {
	request := make([]byte, 10)
	for {
		if _, err := io.ReadFull(c, request); err != nil {
			return err
		}
		switch request[3] {
		case screenAnswer:
			if _, err := c.Write(request); err != nil {
				return err
			}
		case screenPaced:
			return pace(c, make([]byte, frameBytes), int(request[5]))
		case screenFlood:
			b := make([]byte, 64<<10)
			for {
				n, err := c.Write(b)
				sent.Add(int64(n))
				if err != nil {
					return err
				}
			}
		}
	}
}

func pace(c net.Conn, frame []byte, rate int) error {
	tick := time.NewTicker(time.Second / time.Duration(cmp.Or(rate, frameRate)))
	defer tick.Stop()
	gone := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, c); close(gone) }()
	for {
		select {
		case <-tick.C:
		case <-gone:
			return errors.New("the viewer left")
		}
		if _, err := c.Write(frame); err != nil {
			return err
		}
	}
}
