package desktop

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

const patience = 100 * time.Second

// TestLetters types letters of many scripts, far more than the keyboard has free key codes, and reads them in a file:
// twice, and again after another program reset the keyboard. Each burst fits the keyboard. A longer one may lose letters on
// a machine whose terminal is late by more than a key code rests; see docs/decisions/2026-11-28-letters-beyond-the-keyboard.md.
func TestLetters(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"Xvnc", "x11vnc"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			testLetters(t, server)
		})
	}
}

func testLetters(t *testing.T, server string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "typed")
	d := run(t, server, dir, nil, "xterm", "-u8", "-e", "sh", "-c", "stty -echo -icanon; : > started; cat > typed")
	await(t, func() bool { _, err := os.Stat(filepath.Join(dir, "started")); return err == nil })
	v := view(t, d)
	go func() { _, _ = io.Copy(io.Discard, v.c) }()
	v.click(320, 240)
	read := func() string { b, _ := os.ReadFile(file); return string(b) }
	var want strings.Builder
	for range 2 {
		for burst := range slices.Chunk(alphabet(), 50) {
			text := string(burst)
			if server == "Xvnc" { // x11vnc may press Enter before letters that came with it
				text += "\n"
			}
			v.tap(text)
			want.WriteString(text)
			awaitText(t, read, want.String())
		}
	}

	if path, err := exec.LookPath("setxkbmap"); err == nil {
		env, _ := d.Env()
		c := exec.Command(path, "us")
		c.Env = append(os.Environ(), "DISPLAY="+env["DISPLAY"], "XAUTHORITY="+env["XAUTHORITY"])
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("setxkbmap: %v: %s", err, out)
		}
	}
	// The agent types in between, which copies the keyboard of another device of the X server's.
	agent := agentOf(t, d)
	for _, r := range "Привет, мир\n" {
		v.tap(string(r))
		want.WriteRune(r)
		awaitText(t, read, want.String())
		agent.tap(38)
		want.WriteByte('a')
		awaitText(t, read, want.String())
	}
}

// alphabet returns 500 different letters.
func alphabet() (letters []rune) {
	for _, span := range [][2]rune{{'А', 'я'}, {'Α', 'Ρ'}, {'Σ', 'ω'}, {'ก', 'ฮ'}, {'あ', 'ん'}, {'一', '一' + 278}} {
		for r := span[0]; r <= span[1] && len(letters) < 500; r++ {
			letters = append(letters, r)
		}
	}
	return letters
}

// symbolOf returns the letter's keysym as noVNC sends it: X's old one for Cyrillic and Greek, else Unicode.
func symbolOf(r rune) uint32 {
	switch {
	case r == '\n':
		return 0xff0d
	case r < 0x100:
		return uint32(r)
	case r >= 'а' && r <= 'я' || r >= 'А' && r <= 'Я':
		const order = "юабцдефгхийклмнопярстужвьызшэщчъ"
		lower := r
		if r <= 'Я' {
			lower += 0x20
		}
		i := uint32(strings.IndexRune(order, lower) / 2)
		if r <= 'Я' {
			return 0x6e0 + i
		}
		return 0x6c0 + i
	}
	return 0x01000000 + uint32(r)
}

// run runs a desktop with the VNC server and one program until the test ends.
func run(t *testing.T, server, dir string, long func(int64), session ...string) *Desktop {
	t.Helper()
	for _, name := range []string{server, session[0]} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	d, err := New(Config{Kind: X11, Password: "pass", Home: dir, Shm: dir, Session: session, Geometry: "640x480", LongCopy: long,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	if server == "x11vnc" {
		d.x.xvnc = ""
		if d.x.xvfb == "" {
			t.Skip("Xvfb is not installed")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = d.Run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	select {
	case <-d.Up():
	case <-time.After(patience):
		t.Fatal("timed out waiting until the desktop is up")
	}
	return d
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !done(); {
		select {
		case <-deadline:
			t.Fatal("timed out")
		case <-tick.C:
		}
	}
}

// awaitText waits until as many bytes as wanted were read.
func awaitText(t *testing.T, read func() string, want string) {
	t.Helper()
	got := ""
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); got != want; {
		got = read()
		select {
		case <-deadline:
			same := 0
			for same < min(len(got), len(want)) && got[same] == want[same] {
				same++
			}
			t.Fatalf("got %d bytes, want %d; they differ at %d:\ngot  %q\nwant %q", len(got), len(want), same, got, want)
		case <-tick.C:
		}
	}
}

// viewer is a user's end of a connection through the guest.
type viewer struct {
	t     *testing.T
	c     net.Conn
	width uint16 // of the screen when it came
}

func view(t *testing.T, d *Desktop) *viewer {
	t.Helper()
	serve, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	here, there := net.Pipe()
	var all sync.WaitGroup
	all.Go(func() { _ = serve(context.Background(), there) })
	t.Cleanup(func() { here.Close(); all.Wait() })
	_ = here.SetDeadline(time.Now().Add(3 * patience))
	v := &viewer{t: t, c: here}
	expect(t, here, 12)
	send(t, here, []byte(rfb.Version))
	types := expect(t, here, 1)
	expect(t, here, int(types[0]))
	send(t, here, []byte{rfb.SecurityVNC})
	answer := rfb.Answer("pass", expect(t, here, 16))
	send(t, here, answer[:])
	expect(t, here, 4)
	send(t, here, []byte{1})
	head := expect(t, here, 24)
	v.width = binary.BigEndian.Uint16(head)
	expect(t, here, int(binary.BigEndian.Uint32(head[20:])))
	return v
}

// tap sends the text's keys at once.
func (v *viewer) tap(text string) {
	v.t.Helper()
	var b []byte
	for _, r := range text {
		b = binary.BigEndian.AppendUint32(append(b, rfb.KeyEvent, 1, 0, 0), symbolOf(r))
		b = binary.BigEndian.AppendUint32(append(b, rfb.KeyEvent, 0, 0, 0), symbolOf(r))
	}
	send(v.t, v.c, b)
}

func (v *viewer) click(x, y uint16) {
	v.t.Helper()
	for _, buttons := range []byte{0, 1, 0} {
		b := binary.BigEndian.AppendUint16([]byte{rfb.PointerEvent, buttons}, x)
		send(v.t, v.c, binary.BigEndian.AppendUint16(b, y))
	}
}

// agent types through XTEST, as the agent's tool does.
type agent struct {
	t     *testing.T
	x     *xevents.Conn
	xtest byte
}

func agentOf(t *testing.T, d *Desktop) agent {
	t.Helper()
	env, _ := d.Env()
	number, err := strconv.Atoi(strings.TrimPrefix(env["DISPLAY"], ":"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := xevents.Dial(number, env["XAUTHORITY"], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.Close)
	const queryExtension = 98
	reply, err := x.Ask(append([]byte{queryExtension, 0, 0, 0, 5, 0, 0, 0}, "XTEST"...)...)
	if err != nil {
		t.Fatal(err)
	}
	return agent{t, x, reply[9]}
}

func (a agent) tap(code byte) {
	a.t.Helper()
	for _, event := range []byte{2, 3} {
		b := make([]byte, 36)
		b[0], b[1], b[4], b[5] = a.xtest, 2, event, code // FakeInput
		if err := a.x.Send(b...); err != nil {
			a.t.Fatal(err)
		}
	}
}
