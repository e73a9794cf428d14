package main

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/hostile"
	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// oneMachine knows the benchmark's machine.
type oneMachine struct{ tunnel.Machines }

func (oneMachine) Guest(_ context.Context, id string) ([]byte, string, error) {
	if id != benchDesk {
		return nil, "", instance.ErrNotFound
	}
	return benchKey().Public().(ed25519.PublicKey), "bench", nil
}

func (oneMachine) Versions(context.Context, string, string, map[string]string) error { return nil }

func (oneMachine) Reached(context.Context, string, string, instance.Phase, string) error { return nil }

func (oneMachine) Keys(context.Context, string, string) (map[string]string, error) { return nil, nil }

// playPlane is the control plane's part of the path: the hub and the bridge, without sign-in.
func playPlane(ctx context.Context) error {
	hub, err := tunnel.New(tunnel.Config{Machines: oneMachine{}})
	if err != nil {
		return err
	}
	bridges := bridge.New(bridge.Config{Opener: hub, MaxPerInstance: 1000, MaxPerAccount: 1000})
	go func() { _ = hub.Run(ctx) }()
	go func() { _ = bridges.Run(ctx) }()
	mux := http.NewServeMux()
	mux.Handle("/api/guest/", hub.GuestHandler())
	mux.HandleFunc("/vnc", func(w http.ResponseWriter, r *http.Request) {
		bridges.ServeVNC(w, r, access.BridgeSession{Account: "bench", Instance: benchDesk, Mode: access.ModeControl})
	})
	return serveHTTP(ctx, mux)
}

// playGuest is the machine's part: the tunnel, and the copying between its streams and the screen's server.
func playGuest(ctx context.Context, plane, screen string) error {
	m := hostile.Machine{URL: plane, Instance: benchDesk, Boot: "boot", Key: benchKey()}
	t, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, t.Close)()
	fmt.Println("connected")
	t.Serve(map[string]func(net.Conn){wire.VNC: hostile.Desktop{After: func(c net.Conn) {
		to, err := net.Dial("tcp", screen)
		if err != nil {
			return
		}
		_ = pipe.Join(ctx, c, to)
	}}.Serve})
	return nil
}
