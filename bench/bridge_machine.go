package main

import (
	"context"
	"net"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/hostile"
)

// listenAsMachine starts the servers on the machine.
func listenAsMachine(ctx context.Context) (m machine, err error) {
	for _, l := range []struct {
		at    *string
		serve func(net.Conn)
	}{
		{&m.raw, play64},
		{&m.desktop, hostile.Desktop{After: play64}.Serve},
		{&m.gateway, hostile.Gateway{After: func(ctx context.Context, c *websocket.Conn) {
			for {
				kind, b, err := c.Read(ctx)
				if err != nil || c.Write(ctx, kind, b) != nil {
					return
				}
			}
		}}.Serve},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return m, err
		}
		context.AfterFunc(ctx, func() { listener.Close() })
		*l.at = listener.Addr().String()
		go func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); l.serve(c) }()
			}
		}()
	}
	return m, nil
}

// play64 echoes, or sends 64 KiB at a time without end if the first byte is that of flood.
func play64(c net.Conn) {
	b := make([]byte, 64<<10)
	n, err := c.Read(b)
	if err == nil && b[0] == flood[0] {
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
}

// flood asks the machine to send without end. As all that a measurement sends, it is a message that also passes where the
// browser only views: a FramebufferUpdateRequest.
var flood = []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// echoed returns a message of size bytes that comes back: a ClientFence, or the agent's protocol.
func echoed(path string, size int) []byte {
	if path == pathAgent {
		b := []byte(`{"type":"req","id":"1","method":"health","pad":"`)
		for len(b) < size-2 {
			b = append(b, 'x')
		}
		return append(b, `"}`...)
	}
	b := make([]byte, max(size, 9))
	b[0], b[8] = 248, byte(len(b)-9)
	return b
}
