package bridge_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// bare is a browser that sees and sends frames as they are.
type bare struct {
	net.Conn
	in *bufio.Reader
}

// dialBare opens a desktop with a browser whose first frames are already there with the request.
func (f *fixture) dialBare(t *testing.T) bare {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(f.url, "ws://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	b := bare{c, bufio.NewReader(c)}
	b.say("GET /vnc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" +
		masked(0x02, rfb.Version[:5]) + masked(0x89, "") + masked(0x80, rfb.Version[5:]) + masked(0x82, "\x01\x01"))
	if res, err := http.ReadResponse(b.in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	return b
}

func (b bare) say(s string) { _, _ = io.WriteString(b, s) }

// masked returns a client's frame.
func masked(first byte, p string) string {
	head := []byte{first, 0x80 | 126, byte(len(p) >> 8), byte(len(p)), 0, 0, 0, 0}
	if len(p) < 126 {
		head = []byte{first, 0x80 | byte(len(p)), 0, 0, 0, 0}
	}
	return string(head) + p
}

// end reads whole frames until the connection ends and returns the close code; 0: there was none. Nothing may follow it.
func (b bare) end(t *testing.T) (code websocket.StatusCode) {
	t.Helper()
	for {
		var head [10]byte
		if _, err := io.ReadFull(b.in, head[:2]); err != nil {
			return code
		}
		size := uint64(head[1])
		switch size {
		case 126:
			_, _ = io.ReadFull(b.in, head[2:4])
			size = uint64(binary.BigEndian.Uint16(head[2:]))
		case 127:
			_, _ = io.ReadFull(b.in, head[2:])
			size = binary.BigEndian.Uint64(head[2:])
		}
		if first := head[0]; first != 0x82 && first != 0x88 && first != 0x89 && first != 0x8a || size > 1<<20 || code != 0 {
			t.Fatalf("got a frame of %d bytes that begins with %x after code %d", size, first, code)
		}
		p := make([]byte, size)
		if _, err := io.ReadFull(b.in, p); err != nil {
			return code
		}
		if head[0] == 0x88 {
			code = websocket.StatusCode(binary.BigEndian.Uint16(p))
			b.say(masked(0x88, string(p[:2])))
		}
	}
}

// However a session ends while its machine sends more than the browser reads, the browser gets whole frames, the code, and
// nothing after it.
func TestEndsOfABusySession(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(b bare, revoked, gone chan struct{}, machine net.Conn)
		want websocket.StatusCode
	}{
		"signed out": {func(_ bare, revoked, _ chan struct{}, _ net.Conn) { close(revoked) }, bridge.CloseSignedOut},
		"gone":       {func(_ bare, _, gone chan struct{}, _ net.Conn) { close(gone) }, bridge.CloseGone},
		"machine":    {func(_ bare, _, _ chan struct{}, machine net.Conn) { machine.Close() }, bridge.CloseUnreachable},
		"too big": {func(b bare, _, _ chan struct{}, _ net.Conn) {
			b.say("\x82\xff\x00\x00\x00\x00\x00\x20\x00\x00\x00\x00\x00\x00" + "\x06\x00\x00\x00\x00\x1f\x00\x00" + strings.Repeat("x", 1<<20))
		}, websocket.StatusMessageTooBig},
		"text":           {func(b bare, _, _ chan struct{}, _ net.Conn) { b.say(masked(0x81, "x")) }, websocket.StatusProtocolError},
		"reserved bits":  {func(b bare, _, _ chan struct{}, _ net.Conn) { b.say(masked(0xf2, "x")) }, websocket.StatusProtocolError},
		"unknown":        {func(b bare, _, _ chan struct{}, _ net.Conn) { b.say(masked(0x83, "x")) }, websocket.StatusProtocolError},
		"browser closes": {func(b bare, _, _ chan struct{}, _ net.Conn) { b.say(masked(0x88, "\x03\xe8")) }, websocket.StatusNormalClosure},
		"not masked":     {func(b bare, _, _ chan struct{}, _ net.Conn) { b.say("\x82\x01x") }, websocket.StatusNormalClosure},
		"browser leaves": {func(b bare, _, _ chan struct{}, _ net.Conn) { b.Close() }, 0},
	} {
		for _, direct := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				machines := make(chan net.Conn, 1)
				flood := func(c net.Conn) {
					machines <- c
					go func() { _, _ = io.Copy(io.Discard, c) }()
					for {
						if _, err := c.Write(make([]byte, 50_000)); err != nil {
							return
						}
					}
				}
				cfg := bridge.Config{Opener: opener{serve: vncServer(flood)}, WriteWithin: time.Minute}
				if direct {
					cfg.Opener = newTunnelled(t, flood)
				}
				revoked, gone := make(chan struct{}), make(chan struct{})
				f := newFixture(t, cfg, access.BridgeSession{Mode: "control", Revoked: revoked, Gone: gone})
				b := f.dialBare(t)
				machine := <-machines
				time.Sleep(300 * time.Millisecond) // the kernel's buffers fill
				go c.end(b, revoked, gone, machine)
				time.Sleep(100 * time.Millisecond)
				if code := b.end(t); code != c.want {
					t.Errorf("direct %v: got code %d, want %d", direct, code, c.want)
				}
				eventually(t, "the session's end", func() bool { return f.bridge.Len() == 0 })
			})
		}
	}
}
