package viewers

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

var hello = []byte(rfb.Version + "\x01\x01") // without a password

func size(why Why, width byte) []byte {
	return append([]byte{rfb.SetDesktopSize, byte(why), 0, width, 0, 200, 1, 0}, make([]byte, 16)...)
}

// server is the VNC server's end: it collects what it gets.
type server struct {
	net.Conn
	got bytes.Buffer
}

func (s *server) Write(p []byte) (int, error)      { return s.got.Write(p) }
func (s *server) SetWriteDeadline(time.Time) error { return nil }

func newViewer(r *Room) (*viewer, *server) {
	s := &server{}
	v := &viewer{Conn: s, room: r}
	r.enter(v)
	return v, s
}

func (v *viewer) says(t *testing.T, messages ...[]byte) {
	t.Helper()
	if _, err := v.Write(bytes.Join(messages, nil)); err != nil {
		t.Fatal(err)
	}
}

// TestEverythingElsePasses writes what viewers send, in pieces of every kind: only requests for a size may change.
func TestEverythingElsePasses(t *testing.T) {
	t.Parallel()
	paste := append([]byte{rfb.ClientCutText, 0, 0, 0, 0xff, 0xfe, 0x79, 0x60}, bytes.Repeat([]byte{rfb.SetDesktopSize}, 100_000)...)
	key := []byte{rfb.KeyEvent, 1, 0, 0, 0, 0, 0, 'a'}
	for name, c := range map[string]struct{ in, want []byte }{
		"sizes": {
			bytes.Join([][]byte{hello, key, size(Arrives, 9), paste, size(Leaves, 8), key, size(Works, 7)}, nil),
			bytes.Join([][]byte{hello, key, size(Works, 9), paste, key, size(Works, 7)}, nil),
		},
		"old viewer": {[]byte("RFB 003.003\n\x01\xfb\x02"), []byte("RFB 003.003\n\x01\xfb\x02")},
		"unknown":    {bytes.Join([][]byte{hello, {77}, size(Leaves, 1)}, nil), bytes.Join([][]byte{hello, {77}, size(Leaves, 1)}, nil)},
		"cut":        {bytes.Join([][]byte{hello, size(Works, 1)[:20]}, nil), hello},
	} {
		for _, n := range []int{1, 7, len(c.in)} {
			v, s := newViewer(New(Config{}))
			for in := c.in; len(in) > 0; in = in[min(n, len(in)):] {
				v.says(t, in[:min(n, len(in))])
			}
			if !bytes.Equal(s.got.Bytes(), c.want) {
				t.Errorf("%s in pieces of %d: got %d bytes, want %d:\ngot  %.100q\nwant %.100q", name, n, s.got.Len(), len(c.want), s.got.Bytes(), c.want)
			}
		}
	}
}

// TestOwner plays requests of the viewers a, b and c, and their leaving.
func TestOwner(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, turns, want string }{ // one letter of a viewer and what it does; want: the owner
		{"the first gets it", "aA", "a"},
		{"a second does not", "aA bA", "a"},
		{"nor does it from a viewer that does not set it", "a bA", ""},
		{"but when it works", "aA bA bW", "b"},
		{"one that comes back does not take it", "aA bW aR", "b"},
		{"and the first gets it back when that leaves", "aA bA bW bX", "a"},
		{"unless it chose another mode", "aA bA bW aL bX", "default"},
		{"the last that asked is the heir", "aA bA cA cW bW aW aX", "b"},
		{"the last that is left gets it", "a bA aX", "b"},
		{"but not one of two", "a c bA aX", ""},
		{"a reset", "aA bA aD", "default"},
		{"after a reset others work", "aA bA aD. bW", "b"},
		{"the last leaves", "aA aX", "default"},
		{"it leaves and another comes", "aA aX bA", "b"},
		{"it leaves after it chose another mode", "aA b aL aX", "default"},
		{"no viewer ever set it", "a b aX", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			defaults := 0
			r := New(Config{Addr: func() string { defaults++; return "" }})
			defer r.Close()
			in := map[byte]*viewer{}
			do := map[byte]Why{'W': Works, 'A': Arrives, 'R': Returns, 'L': Leaves, 'D': Resets}
			for i, turn := range c.turns {
				who := c.turns[max(i-1, 0)]
				switch why, asks := do[byte(turn)]; {
				case turn == '.':
					time.Sleep(time.Minute)
					synctest.Wait()
				case turn == ' ':
				case turn == 'X':
					r.leave(in[who])
				case asks:
					in[who].says(t, size(why, who))
				case in[byte(turn)] == nil:
					in[byte(turn)], _ = newViewer(r)
					in[byte(turn)].says(t, hello)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			got := ""
			if defaults > 0 {
				got = "default"
			}
			for name, v := range in {
				if r.owner == v {
					got = string(name)
				}
			}
			if got != c.want {
				t.Errorf("%s (%s): got %q, want %q", c.name, c.turns, got, c.want)
			}
		})
	}
}

// TestHeirIsNotInterrupted makes the request for a viewer that is in the middle of a message.
func TestHeirIsNotInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		defer r.Close()
		a, got := newViewer(r)
		b, _ := newViewer(r)
		b.says(t, hello, size(Works, 5))
		key := []byte{rfb.KeyEvent, 1, 0, 0, 0, 0, 0, 'a'}
		a.says(t, hello, size(Arrives, 9), key[:3])
		r.leave(b)
		time.Sleep(time.Minute)
		synctest.Wait()
		want := append(append(bytes.Clone(hello), impossible...), key[:0]...)
		if sent := got.got.Bytes(); !bytes.Equal(sent, want) {
			t.Errorf("in the message: got %q, want %q", sent, want)
		}
		a.says(t, key[3:])
		want = append(append(want, key...), size(Works, 9)...)
		if sent := got.got.Bytes(); !bytes.Equal(sent, want) {
			t.Errorf("after the message: got %q, want %q", sent, want)
		}
	})
}

// TestHostileServer has a VNC server that sends anything: it must not keep the guest.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	login := rfb.Version + "\x01\x01" + "\x00\x00\x00\x00" + "\x05\x00\x03\x20\x20" + string(make([]byte, 19))
	for _, says := range []string{
		"RFB 003.003\n",
		login + "\x09",
		login + "\x03\x00\x00\x00\xff\xff\xff\xff",
		login + "\x00\x00\x00\x01" + string(make([]byte, 8)) + "\x00\x00\x00\x07",
		login + "\x00\x00\x00\x01" + string(make([]byte, 8)) + "\xff\xff\xfe\xcc" + "\x00\x00\x00\x00",
	} {
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			go func() { _, _ = io.Copy(io.Discard, c) }()
			_, _ = io.WriteString(c, says)
		}()
		if err := resize(l.Addr().String(), "", "640x480"); err == nil {
			t.Errorf("%.40q: got no error, want one", says)
		}
	}
}

// A request for a size that the VNC server does not read ends: another viewer's waits for it.
func TestOneStuckViewerDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := New(Config{})
		defer r.Close()
		near, far := net.Pipe()
		defer far.Close()
		stuck := &viewer{Conn: near, room: r}
		r.enter(stuck)
		go func() { _, _ = io.ReadFull(far, make([]byte, len(hello))) }()
		stuck.says(t, hello)
		if _, err := stuck.Write(size(Works, 7)); err == nil {
			t.Error("the stuck viewer's request: got no error, want one")
		}
		other, s := newViewer(r)
		other.says(t, hello, size(Works, 9))
		if want := append(append([]byte(nil), hello...), size(Works, 9)...); !bytes.Equal(s.got.Bytes(), want) {
			t.Errorf("the other viewer's request: got %q, want %q", s.got.Bytes(), want)
		}
	})
}
