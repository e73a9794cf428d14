// Package gatetest watches for tests which input reaches an X display: a window over the whole screen records the key,
// button and motion events that it gets.
package gatetest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// Watcher is the window.
type Watcher struct {
	t     testing.TB
	mu    sync.Mutex
	seen  []string
	news  chan struct{}
	done  chan struct{}
	close func()
}

var le = binary.LittleEndian

// Watch opens the window on a display such as ":1", above all other windows. It closes with the test.
func Watch(t testing.TB, display, auth string) *Watcher {
	t.Helper()
	file, err := os.ReadFile(auth)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(display, ":"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "MIT-MAGIC-COOKIE-1" // 18 bytes, and 16 of the cookie, which ends our files
	setup := append([]byte{'l', 0, 11, 0, 0, 0, 18, 0, 16, 0, 0, 0}, name+"\x00\x00"...)
	if _, err := c.Write(append(setup, file[len(file)-16:]...)); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 1 {
		t.Fatalf("the display answers %v %v", head, err)
	}
	info := make([]byte, 4*int(le.Uint16(head[6:])))
	if _, err := io.ReadFull(c, info); err != nil {
		t.Fatal(err)
	}
	vendor, formats := int(le.Uint16(info[16:])), int(info[21])
	screen := info[32+(vendor+3)&^3+8*formats:]
	root, width, height := le.Uint32(screen), le.Uint16(screen[20:]), le.Uint16(screen[22:])
	id := le.Uint32(info[4:]) + 1

	request := func(major byte, fields ...any) (b []byte) {
		b = []byte{major, 0, 0, 0}
		for _, f := range fields {
			b, _ = binary.Append(b, le, f)
		}
		le.PutUint16(b[2:], uint16(len(b)/4))
		return b
	}
	const overrideRedirect, eventMask, input = 1 << 9, 1 << 11, 1 | 2 | 4 | 8 | 1<<6
	all := request(1, id, root, []uint16{0, 0, width, height, 0, 1}, []uint32{0, overrideRedirect | eventMask, 1, input})
	all = append(all, request(8, id)...)             // MapWindow
	all = append(all, request(42, id, uint32(0))...) // SetInputFocus
	all = append(all, request(43)...)                // GetInputFocus: its reply says that the window is there
	if _, err := c.Write(all); err != nil {
		t.Fatal(err)
	}
	w := &Watcher{t: t, news: make(chan struct{}, 1), done: make(chan struct{})}
	w.close = sync.OnceFunc(func() { c.Close(); <-w.done })
	t.Cleanup(w.close)
	there := make(chan struct{})
	go w.read(c, sync.OnceFunc(func() { close(there) }))
	select {
	case <-there:
	case <-w.done:
		t.Fatal("the display closed the connection")
	}
	return w
}

func (w *Watcher) read(c net.Conn, there func()) {
	defer close(w.done)
	for {
		b := make([]byte, 32)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		switch kind := b[0] & 0x7f; {
		case kind == 1:
			there()
		case kind >= 2 && kind <= 6:
			w.mu.Lock()
			w.seen = append(w.seen, fmt.Sprintf("%s %d", [...]string{"press", "release", "button", "unbutton", "motion"}[kind-2], b[1]))
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}
	}
}

// Close removes the window.
func (w *Watcher) Close() { w.close() }

// Seen returns the events so far: "press 38" and "release 38" for a key, "button 1", "unbutton 1", "motion 0".
func (w *Watcher) Seen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.seen...)
}

// Until waits until the events contain the one given, and returns those so far.
func (w *Watcher) Until(event string) []string {
	w.t.Helper()
	limit := time.After(time.Minute)
	for {
		seen := w.Seen()
		for _, e := range seen {
			if e == event {
				return seen
			}
		}
		select {
		case <-w.news:
		case <-limit:
			w.t.Fatalf("the window got %v, want %q", seen, event)
		}
	}
}
