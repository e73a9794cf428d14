package x11

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAddress(t *testing.T) {
	t.Parallel()
	for display, want := range map[string]string{
		":1": "/tmp/.X11-unix/X1", ":12.0": "/tmp/.X11-unix/X12", "unix:3": "/tmp/.X11-unix/X3", "/run/x:4": "/run/x:4",
		"": "", ":": "", "elsewhere:1": "", ":x": "", ":../../x": "", "1": "",
	} {
		if got, _, err := address(display); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q %v, want %q", display, got, err, want)
		}
	}
}

func entry(number, name, data string) (b []byte) {
	b = []byte{0xff, 0xff}
	for _, f := range []string{"host", number, name, data} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	return b
}

func TestReadCookie(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	several := bytes.Join([][]byte{entry("1", cookieName, "one"), entry("2", "OTHER", "no"), entry("2", cookieName, "two"), entry("", cookieName, "all")}, nil)
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"its own": {several, "two"}, "any display": {entry("", cookieName, "all"), "all"}, "another's": {entry("1", cookieName, "one"), ""},
		"cut off": {several[:20], ""}, "empty": {nil, ""}, "huge length": {[]byte{0, 0, 0xff, 0xff, 0}, ""},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Cookie(path, "2"); string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q %v, want %q", name, got, err, c.want)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Cookie(pipe, "2"); err == nil {
		t.Error("a pipe: got it read, want an error")
	}
}

// TestHostileServer connects to what the desktop's user may run in the place of the X server.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	setup := make([]byte, 32+40)
	setup[20], setup[26], setup[27], setup[32+38] = 1, 8, 255, 24 // one screen of 24 bits
	greeting := func(b []byte) []byte { return append([]byte{1, 0, 11, 0, 0, 0, byte(len(b) / 4), 0}, b...) }
	for name, says := range map[string][]byte{
		"nothing":           {},
		"a refusal":         append([]byte{0, 3, 11, 0, 0, 0, 1, 0}, "no! "...),
		"a long reason":     {0, 200, 11, 0, 0, 0, 0, 0},
		"a short setup":     greeting(make([]byte, 8)),
		"no screens":        greeting(make([]byte, 72)),
		"a long vendor":     greeting(append([]byte(nil), append(bytes.Repeat([]byte{0xff}, 32), make([]byte, 40)...)...)),
		"a reply of 16 GiB": append(greeting(setup), append([]byte{1, 0, 1, 0, 0xff, 0xff, 0xff, 0xff}, make([]byte, 24)...)...),
		"no XTEST":          append(greeting(setup), append([]byte{1, 0, 1, 0}, make([]byte, 28)...)...),
		"no keys":           append(greeting(setup), append(append([]byte{1, 0, 1, 0, 0, 0, 0, 0, 1, 132}, make([]byte, 22)...), append([]byte{1, 200, 2, 0}, make([]byte, 28)...)...)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(dir, "x:1"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan struct{})
			defer func() { l.Close(); <-done }()
			go func() {
				defer close(done)
				if c, err := l.Accept(); err == nil {
					_, _ = io.ReadFull(c, make([]byte, 12))
					_, _ = c.Write(says)
					c.Close()
				}
			}()
			auth := filepath.Join(dir, "auth")
			if err := os.WriteFile(auth, entry("", cookieName, "0123456789abcdef"), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			d, err := Open(ctx, map[string]string{"DISPLAY": filepath.Join(dir, "x") + ":1", "XAUTHORITY": auth})
			if err == nil {
				d.Close()
				t.Error("got a connection, want an error")
			}
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want an answer to what it said", err)
			}
		})
	}
}

func TestPicturesAreSmall(t *testing.T) {
	t.Parallel()
	m := image.NewRGBA(image.Rect(0, 0, 2560, 1600))
	for i := range m.Pix {
		m.Pix[i] = uint8(rand.Uint32()) // the worst that there is
	}
	small := Scaled(m, 1280)
	if small.Rect.Dx() != 1280 || small.Rect.Dy() != 800 {
		t.Errorf("size: got %v, want 1280 × 800", small.Rect)
	}
	data, mime, err := Encode(small, 400_000)
	if err != nil || len(data) > 400_000 || mime != "image/jpeg" {
		t.Errorf("noise: got %d bytes of %s %v, want a JPEG of at most 400000", len(data), mime, err)
	}
	half := image.NewRGBA(image.Rect(0, 0, 4, 2))
	for y := range 2 {
		for x := range 4 {
			half.SetRGBA(x, y, color.RGBA{uint8(100 * (x % 2)), 0, 0, 255})
		}
	}
	if got := Scaled(half, 2).RGBAAt(1, 0).R; got != 50 {
		t.Errorf("mean of 0 and 100: got %d, want 50", got)
	}
}
