package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// play runs a role in its process and returns when its input ends.
func play(ctx context.Context, role string, args []string) error {
	ctx, cancel := context.WithCancel(ctx)
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	if dir := os.Getenv("CLOUDBOT_BENCH_PROFILES"); dir != "" {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s-%d.pprof", role, os.Getpid())))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	switch role {
	case "relay":
		return serveTCP(ctx, func(c net.Conn) { relayTo(ctx, c, args[0]) })
	case "delay":
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		return serveTCP(ctx, func(c net.Conn) { delayTo(c, args[0], d/2) })
	case "wsrelay":
		return serveHTTP(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"binary"}, InsecureSkipVerify: true})
			if err == nil {
				relayTo(ctx, websocket.NetConn(ctx, ws, websocket.MessageBinary), args[0])
			}
		}))
	case "echo":
		return serveEcho(ctx, args[0])
	case "plane":
		return playPlane(ctx, strings.Join(args, ""))
	case "guest":
		machines, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return playGuest(ctx, args[0], args[1], args[2], machines)
	}
	return playScale(ctx, role, args)
}

func serveTCP(ctx context.Context, handle func(net.Conn)) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return nil // it was closed
		}
		go handle(c)
	}
}

func serveHTTP(ctx context.Context, h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return serveOn(ctx, l, h)
}

func serveOn(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	fmt.Println("http://" + l.Addr().String())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// userCopy hides what lets io.Copy splice in the kernel: a relay of WebSockets cannot.
type userCopy struct{ io.Reader }

func relayTo(ctx context.Context, c net.Conn, to string) {
	defer c.Close()
	m, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer m.Close()
	go func() { _, _ = io.CopyBuffer(struct{ io.Writer }{m}, userCopy{c}, make([]byte, 64<<10)); m.Close() }()
	_, _ = io.CopyBuffer(struct{ io.Writer }{c}, userCopy{m}, make([]byte, 64<<10))
}

// delayTo forwards what arrives after a delay, without a limit of its rate.
func delayTo(c net.Conn, to string, delay time.Duration) {
	defer c.Close()
	m, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer m.Close()
	pass := func(to, from net.Conn) {
		type late struct {
			at time.Time
			b  []byte
		}
		queue := make(chan late, 4096)
		go func() {
			defer close(queue)
			for {
				b := make([]byte, 64<<10)
				n, err := from.Read(b)
				if n > 0 {
					queue <- late{time.Now().Add(delay), b[:n]}
				}
				if err != nil {
					return
				}
			}
		}()
		for l := range queue {
			time.Sleep(time.Until(l.at))
			if _, err := to.Write(l.b); err != nil {
				return
			}
		}
		to.Close()
	}
	go pass(m, c)
	pass(c, m)
}
