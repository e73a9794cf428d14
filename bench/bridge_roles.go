package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// benchMachines knows the benchmark's machines.
type benchMachines struct{ tunnel.Machines }

func (benchMachines) Guest(_ context.Context, id string) ([]byte, string, error) {
	if !strings.HasPrefix(id, benchMachine(0)[:22]) {
		return nil, "", instance.ErrNotFound
	}
	return benchKey().Public().(ed25519.PublicKey), "bench", nil
}

func (benchMachines) Versions(context.Context, string, string, map[string]string) error { return nil }

func (benchMachines) Reached(context.Context, string, string, instance.Phase, string) error {
	return nil
}

func (benchMachines) Keys(context.Context, string, string) (map[string]string, error) {
	return nil, nil
}

// elsewhere says that all tunnels are at another replica; "": at this one.
type elsewhere string

func (elsewhere) Claim(context.Context, string, string) (func(), <-chan struct{}, error) {
	return func() {}, nil, nil
}
func (e elsewhere) Lookup(context.Context, string) (string, error) { return string(e), nil }
func (elsewhere) Left(context.Context, string, time.Time) error    { return nil }
func (elsewhere) Heard(context.Context, string) (time.Time, error) { return time.Time{}, nil }

// playPlane is the control plane's part of the path: the hub and the bridge, without sign-in. other is the replica that holds
// the tunnels; "": this one.
func playPlane(ctx context.Context, other string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	hub, err := tunnel.New(tunnel.Config{
		Machines: benchMachines{}, Presence: elsewhere(other), Advertise: "http://" + l.Addr().String(), HopKey: benchKey(),
	})
	if err != nil {
		return err
	}
	const many = 1 << 20
	bridges := bridge.New(bridge.Config{Opener: hub, MaxPerInstance: many, MaxPerAccount: many})
	go func() { _ = hub.Run(ctx) }()
	go func() { _ = bridges.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", hub.GuestHandler())
	mux.Handle(tunnel.HopPrefix, hub.HopHandler())
	session := func(r *http.Request, mode string) access.BridgeSession {
		return access.BridgeSession{Account: "bench", Instance: r.PathValue("instance"), Mode: mode}
	}
	mux.HandleFunc("/vnc/{instance}", func(w http.ResponseWriter, r *http.Request) { bridges.ServeVNC(w, r, session(r, access.ModeControl)) })
	mux.HandleFunc("/view/{instance}", func(w http.ResponseWriter, r *http.Request) { bridges.ServeVNC(w, r, session(r, access.ModeView)) })
	mux.HandleFunc("/agent/{instance}", func(w http.ResponseWriter, r *http.Request) { bridges.ServeAgent(w, r, session(r, access.ModeControl)) })
	return serveOn(ctx, l, mux)
}

// playGuest is the machines' part: their tunnels, and the copying between streams and the servers on the machine.
func playGuest(ctx context.Context, plane, desktop, gateway string, machines int) error {
	join := func(addr string) func(net.Conn) {
		return func(c net.Conn) {
			if to, err := net.Dial("tcp", addr); err == nil {
				_ = pipe.Join(ctx, c, to)
			}
		}
	}
	services := map[string]func(net.Conn){wire.VNC: join(desktop), wire.Agent: join(gateway)}
	for n := range machines {
		m := hostile.Machine{URL: plane, Instance: benchMachine(n), Boot: "boot", Key: benchKey()}
		t, err := m.Connect(ctx)
		if err != nil {
			return fmt.Errorf("machine %s: %w", benchMachine(n), err)
		}
		defer context.AfterFunc(ctx, t.Close)()
		go t.Serve(services)
	}
	fmt.Println("connected")
	<-ctx.Done()
	return nil
}
