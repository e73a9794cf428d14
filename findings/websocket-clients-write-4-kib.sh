#!/usr/bin/env bash
# Does coder/websocket send a message in few writes, at both ends?
# Guess:    one frame is one or two writes to the connection: the payload is one slice, at the client as at the server.
# Truth:    only at the server. A client masks the payload in the buffer that it writes from, which has 4 KiB, and flushes that
#           each time: 256 KiB are 65 writes, and over TLS as many records. A tunnel that a machine dials is a client, so a
#           desktop's pixels cost it most of its time. There is no option for the buffer. Workaround: an http.RoundTripper that
#           wraps the body of the 101 answer, which the library writes to, and joins the writes of a frame.
# Versions: coder/websocket 1.8.15; Go 1.27.3. Seen on 2026-11-28.
# Source:   coder/websocket, write.go: writeFramePayload; dial.go: getBufioWriter.
# Usage:    needs Go. Exit: 0 as described, 1 no longer so, 2 could not run.
set -euo pipefail
export GOWORK=off

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 2' INT TERM
cannot() { echo "cannot run: $1"; exit 2; }
command -v go >/dev/null || cannot 'no Go'
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// counted counts the writes of a connection.
type counted struct {
	net.Conn
	writes *atomic.Int64
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

type listener struct {
	net.Listener
	writes *atomic.Int64
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return counted{c, l.writes}, err
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var client, server atomic.Int64
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go http.Serve(listener{plain, &server}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		must(err)
		c.SetReadLimit(1 << 20)
		_, b, err := c.Read(ctx)
		must(err)
		server.Store(0) // the handshake does not count
		must(c.Write(ctx, websocket.MessageBinary, b))
	}))
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return counted{c, &client}, err
	}
	c, _, err := websocket.Dial(ctx, "ws://"+plain.Addr().String(), &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: dial}}})
	must(err)
	c.SetReadLimit(1 << 20)
	client.Store(0)
	sent := bytes.Repeat([]byte{7}, 256<<10)
	must(c.Write(ctx, websocket.MessageBinary, sent))
	byClient := client.Load()
	_, got, err := c.Read(ctx)
	must(err)
	if !bytes.Equal(got, sent) {
		must(fmt.Errorf("other bytes came back"))
	}
	fmt.Printf("a message of 256 KiB: %d writes by the client, %d by the server\n", byClient, server.Load())
	if byClient < 60 || server.Load() > 3 {
		fmt.Println("CHANGED: the client needs as few writes as the server, or both need many")
		os.Exit(1)
	}
	fmt.Println("as described")
}

func must(err error) {
	if err != nil {
		fmt.Println("cannot run:", err)
		os.Exit(2)
	}
}
GO
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/coder/websocket v1.8.15
MOD
go mod tidy >/dev/null 2>&1 || cannot 'the module cannot be downloaded'
go build -o finding . || cannot 'the program does not build'
status=0
./finding || status=$?
exit "$status"
