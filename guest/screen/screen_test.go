package screen

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, s *Screen) net.Conn {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(t.Context(), b) }()
	t.Cleanup(func() { a.Close(); <-done })
	_ = a.SetDeadline(time.Now().Add(60 * time.Second))
	return a
}

func read(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, c net.Conn, b ...byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// shake runs the handshake up to the security result, and returns that.
func shake(t *testing.T, c net.Conn, password string) uint32 {
	t.Helper()
	read(t, c, 12)
	write(t, c, []byte(rfb.Version)...)
	if got := read(t, c, 2); got[1] != rfb.SecurityVNC {
		t.Fatalf("offers %v, want %v", got, rfb.SecurityVNC)
	}
	write(t, c, rfb.SecurityVNC)
	answer := rfb.Answer(password, read(t, c, 16))
	write(t, c, answer[:]...)
	return binary.BigEndian.Uint32(read(t, c, 4))
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	for _, s := range []*Screen{New(Config{Password: "right"}), New(Config{})} {
		if shake(t, connect(t, s), "wrong") == 0 {
			t.Error("got a viewer with a wrong password admitted, want it refused")
		}
	}
	if shake(t, connect(t, New(Config{})), "") == 0 {
		t.Error("got a viewer admitted without a configured password, want it refused")
	}
}

func TestPixelFormatsAndIncrementalUpdates(t *testing.T) {
	t.Parallel()
	still := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := New(Config{Password: "p", Now: func() time.Time { return still }})
	c := connect(t, s)
	if shake(t, c, "p") != 0 {
		t.Fatal("not let in")
	}
	write(t, c, 1)
	name := read(t, c, 24)
	read(t, c, int(binary.BigEndian.Uint32(name[20:])))
	ask := func(incremental byte, x, y, w, h uint16) {
		b := []byte{rfb.FramebufferUpdateRequest, incremental}
		for _, n := range []uint16{x, y, w, h} {
			b = binary.BigEndian.AppendUint16(b, n)
		}
		write(t, c, b...)
	}
	// pixels reads an update and returns how many pixels it held.
	pixels := func(size int) (n int, colours map[string]bool) {
		colours = map[string]bool{}
		for range binary.BigEndian.Uint16(read(t, c, 4)[2:]) {
			r := read(t, c, 12)
			all := read(t, c, size*int(binary.BigEndian.Uint16(r[4:]))*int(binary.BigEndian.Uint16(r[6:])))
			for colour := range slices.Chunk(all, size) {
				colours[string(colour)] = true
				n++
			}
		}
		return n, colours
	}
	// 16 bits, big endian, 5-6-5.
	write(t, c, rfb.SetPixelFormat, 0, 0, 0, 16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0)
	ask(0, 100, 0, 100, 60)
	if n, colours := pixels(2); n != 6000 || len(colours) < 3 {
		t.Errorf("%d pixels of %d colours, want n 6000 and len(colours) at least 3", n, len(colours))
	}
	// 8 bits, 3-3-2.
	write(t, c, rfb.SetPixelFormat, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 5, 2, 0, 0, 0, 0)
	ask(0, 0, 0, Width, Height)
	if n, _ := pixels(1); n != Width*Height {
		t.Errorf("%d pixels of the whole screen, want %v", n, Width*Height)
	}
	// There is no change yet, so the answer comes with the key.
	ask(1, 0, 0, Width, Height)
	write(t, c, rfb.KeyEvent, 1, 0, 0, 0, 0, 0, 'M')
	if n, _ := pixels(1); n == 0 || n > 4*tile*tile {
		t.Errorf("a typed letter moves %d pixels, want n other than 0 and n at most %v", n, 4*tile*tile)
	}
	write(t, c, rfb.SetPixelFormat, 0, 0, 0, 8, 8, 0, 0, 0, 7, 0, 7, 0, 3, 5, 2, 0, 0, 0, 0)
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("got a colour map accepted, want an error")
	}
}

func FuzzClientMessages(f *testing.F) {
	f.Add([]byte{rfb.KeyEvent, 1, 0, 0, 0, 0, 0, 'a', rfb.PointerEvent, 1, 255, 255, 255, 255})
	f.Add([]byte{rfb.FramebufferUpdateRequest, 0, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, in []byte) {
		s := New(Config{Password: "p"})
		c := connect(t, s)
		if shake(t, c, "p") != 0 {
			t.Fatal("not let in")
		}
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_, _ = c.Write(append([]byte{1}, in...))
	})
}
