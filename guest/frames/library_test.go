package frames

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"pgregory.net/rapid"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// counted counts the writes of an upgraded connection.
type counted struct {
	http.RoundTripper
	mu     sync.Mutex
	writes int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := c.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = &countedConn{res.Body.(io.ReadWriteCloser), c}
	}
	return res, err
}

type countedConn struct {
	io.ReadWriteCloser
	c *counted
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.c.mu.Lock()
	c.c.writes++
	c.c.mu.Unlock()
	return c.ReadWriteCloser.Write(p)
}

// A message arrives as it was sent, in one write if it is not larger than joinedBytes.
func TestFramesLeaveWhole(t *testing.T) {
	t.Parallel()
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))
	defer echo.Close()
	count := &counted{RoundTripper: http.DefaultTransport}
	c, _, _, err := Dial(t.Context(), echo.URL, &websocket.DialOptions{HTTPClient: &http.Client{Transport: count}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for size, most := range map[int]int{0: 1, 1: 1, 125: 1, 126: 1, 4000: 1, 5000: 1, joinedBytes - Room: 1, joinedBytes: 2, 256 << 10: 4} {
		before := count.writes
		sent := bytes.Repeat([]byte{7}, size)
		if err := c.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
			t.Fatal(err)
		}
		_, got, err := c.Read(t.Context())
		count.mu.Lock()
		writes := count.writes - before
		count.mu.Unlock()
		if err != nil || !bytes.Equal(got, sent) || writes > most {
			t.Errorf("%d bytes: got %d back in %d writes, %v, want them all in at most %d", size, len(got), writes, err, most)
		}
	}
	if err := c.Ping(c.CloseRead(t.Context())); err != nil { // a control frame
		t.Errorf("ping: %v", err)
	}
}

// sink keeps what is written.
type sink struct{ bytes.Buffer }

func (*sink) Close() error { return nil }

// However a client's frames are cut into writes, the same bytes leave, and nothing waits after a whole frame.
func TestFramesKeepTheBytes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all, out sink
		f := libraryBody{newConn(&out, true, mux.Large, nil)}
		for range rapid.IntRange(1, 4).Draw(t, "frames") {
			size := rapid.SampledFrom([]int{0, 1, 125, 126, 300, 3000, 65535, 65536, 70000}).Draw(t, "size")
			frame := []byte{0x82, 0xfe, byte(size >> 8), byte(size), 1, 2, 3, 4}
			switch {
			case size < 126:
				frame = []byte{0x82, 0x80 | byte(size), 1, 2, 3, 4}
			case size > 65535:
				frame = []byte{0x82, 0xff, 0, 0, 0, 0, 0, byte(size >> 16), byte(size >> 8), byte(size), 1, 2, 3, 4}
			}
			frame = append(frame, make([]byte, size)...)
			all.Write(frame)
			for len(frame) > 0 {
				n := min(len(frame), rapid.SampledFrom([]int{13, 4096, 50000, 1, 2, 3}).Draw(t, "write"))
				if got, err := f.Write(frame[:n]); got != n || err != nil {
					t.Fatalf("got %d, %v, want %d", got, err, n)
				}
				frame = frame[n:]
			}
			if !bytes.Equal(out.Bytes(), all.Bytes()) {
				t.Fatalf("got %d bytes after a whole frame, want the %d that were written", out.Len(), all.Len())
			}
		}
	})
}
