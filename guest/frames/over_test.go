package frames

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// bare returns a server's end, and the connection of a client that speaks no WebSocket after its handshake.
func bare(t *testing.T) (ws *websocket.Conn, c *Conn, client net.Conn, in *bufio.Reader) {
	t.Helper()
	accepted, done := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		if ws, c, err = Accept(w, r, nil, mux.Small); err != nil {
			t.Error(err)
		}
		close(accepted)
		<-done
	}))
	t.Cleanup(func() { close(done); s.Close() })
	client, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	in = bufio.NewReader(client)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	<-accepted
	t.Cleanup(func() { ws.CloseNow() })
	return ws, c, client, in
}

// Nothing follows a close frame: a browser that got more would report 1006 in place of the frame's code.
func TestNothingAfterClose(t *testing.T) {
	t.Parallel()
	ws, c, client, in := bare(t)
	ended := make(chan error, 1)
	go func() { ended <- ws.Close(4401, "x") }()
	var head [5]byte
	if _, err := io.ReadFull(in, head[:]); err != nil || head[0] != final|opClose {
		t.Fatalf("got %v, %v, want a close frame", head, err)
	}
	buf := make([]byte, mux.Room+10)
	if taken, _ := c.TrySend(Binary, buf, mux.Room); taken {
		t.Error("a frame was taken after a close frame")
	}
	if err := c.Send(Binary, buf, mux.Room); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a frame after a close frame: got %v, want %v", err, net.ErrClosed)
	}
	_, _ = client.Write([]byte{final | opClose, masks | 2, 0, 0, 0, 0, 0x11, 0x31})
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("got %x, %v after the close frame, want nothing", rest, err)
	}
	<-ended
}

// An end that never sends the rest of a message cannot hold a connection that is closed.
func TestCloseDoesNotWaitForAMessage(t *testing.T) {
	t.Parallel()
	ws, _, client, in := bare(t)
	_, _ = client.Write([]byte{final | Text, masks | 100, 0, 0, 0, 0, 'x'})
	if _, _, err := ws.Reader(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = ws.Close(4401, "x") }()
	_ = client.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.Copy(io.Discard, in); err != nil {
		t.Errorf("got %v, want the connection's end", err)
	}
}
