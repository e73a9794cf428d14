package desktop

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// Messages of the extended clipboard: flags, of which the lowest is the format.
const (
	extendedClipboard = 0xc0a1e5ce
	formatText        = 1
	clipCaps          = 1 << 24
	clipRequest       = 1 << 25
	clipNotify        = 1 << 27
	clipProvide       = 1 << 28
)

// clip is a message about the clipboard; text of clipProvide only.
type clip struct {
	flags uint32
	text  string
}

// clipboard makes the viewer announce the extended clipboard, and returns what the server says of it.
func (v *viewer) clipboard() <-chan clip {
	v.t.Helper()
	send(v.t, v.c, binary.BigEndian.AppendUint32([]byte{rfb.SetEncodings, 0, 0, 1}, extendedClipboard))
	got := make(chan clip, 16)
	go func() {
		defer close(got)
		for {
			b := make([]byte, 8)
			if _, err := io.ReadFull(v.c, b); err != nil {
				return
			}
			n := int32(binary.BigEndian.Uint32(b[4:]))
			if b[0] != rfb.ServerCutText || n >= 0 {
				return
			}
			b = make([]byte, -n)
			if _, err := io.ReadFull(v.c, b); err != nil {
				return
			}
			c := clip{flags: binary.BigEndian.Uint32(b)}
			if c.flags&clipCaps == 0 && c.flags&clipProvide != 0 { // capabilities have all flags
				z, err := zlib.NewReader(bytes.NewReader(b[4:]))
				if err != nil {
					return
				}
				text, err := io.ReadAll(z)
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					return
				}
				c.text = strings.ReplaceAll(strings.TrimSuffix(string(text[4:]), "\x00"), "\r\n", "\n")
			}
			got <- c
		}
	}()
	if c := v.hears(got, clipCaps); c.flags&clipNotify == 0 {
		v.t.Fatalf("got capabilities %x, want clipNotify among them", c.flags)
	}
	caps := uint32(clipCaps | clipRequest | clipNotify | clipProvide | formatText)
	v.says(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, caps), 10<<20))
	return got
}

func (v *viewer) hears(from <-chan clip, kind uint32) clip {
	v.t.Helper()
	for {
		select {
		case c, ok := <-from:
			if !ok {
				v.t.Fatal("the server closed the connection")
			}
			if c.flags&kind != 0 && (kind == clipCaps || c.flags&clipCaps == 0) {
				return c
			}
		case <-time.After(patience):
			v.t.Fatalf("timed out waiting for a message of kind %x", kind)
		}
	}
}

func (v *viewer) says(b []byte) {
	v.t.Helper()
	head := binary.BigEndian.AppendUint32([]byte{rfb.ClientCutText, 0, 0, 0}, uint32(-int32(len(b))))
	send(v.t, v.c, append(head, b...))
}

// offer offers a text.
func (v *viewer) offer() {
	v.t.Helper()
	v.says(binary.BigEndian.AppendUint32(nil, clipNotify|formatText))
}

// provide sends the text when the server asks, as noVNC does: with CRLF and a NUL.
func (v *viewer) provide(from <-chan clip, text string) {
	v.t.Helper()
	v.hears(from, clipRequest)
	v.says(provides(text))
}

// TestLongestPaste pastes the longest texts that the dashboard sends. The server counts the CRLF of each line.
func TestLongestPaste(t *testing.T) {
	t.Parallel()
	d := run(t, "Xvnc", t.TempDir(), nil, "true")
	v := view(t, d)
	from := v.clipboard()
	c := connect(t, d, nil)
	for _, text := range []string{
		strings.Repeat("x", maxClipboard),
		strings.Repeat("ab\n", maxClipboard/3) + "!",
		strings.Repeat("ж", maxClipboard/2),
	} {
		v.offer()
		await(t, func() bool { o := c.holder(); return o != 0 && c.x.OfServer(o) })
		var n int64
		var err error
		var pasting sync.WaitGroup
		pasting.Go(func() { n, _, err = c.size() })
		v.provide(from, text)
		pasting.Wait()
		if err != nil || n != int64(len(text)) {
			t.Errorf("%.6q…: got %d bytes and error %v, want %d", text, n, err, len(text))
		}
		c.own(0)
	}
}

// TestLongCopy copies texts of which Xvnc sends nothing: the guest reports them, and no others.
func TestLongCopy(t *testing.T) {
	t.Parallel()
	long := make(chan int64, 16)
	d := run(t, "Xvnc", t.TempDir(), func(n int64) { long <- n }, "true")
	var size atomic.Int64
	c := connect(t, d, &size)
	for _, want := range []int64{3_000_000, 10, 2_000_000} {
		size.Store(want)
		if want == 10 {
			c.own(c.window)
			continue
		}
		await(t, func() bool { // the guest may not watch yet
			c.own(c.window)
			select {
			case n := <-long:
				if n != want {
					t.Errorf("got %d bytes, want %d", n, want)
				}
				return true
			case <-time.After(2 * time.Second):
				return false
			}
		})
	}
}

// program is an X client that copies and pastes.
type program struct {
	*copies
	t      *testing.T
	window uint32
}

// connect connects a program, whose copied text has so many bytes; a long one comes in pieces.
func connect(t *testing.T, d *Desktop, size *atomic.Int64) *program {
	t.Helper()
	env, _ := d.Env()
	number, err := strconv.Atoi(strings.TrimPrefix(env["DISPLAY"], ":"))
	if err != nil {
		t.Fatal(err)
	}
	p := &program{copies: &copies{changed: make(chan struct{}, 1), answers: make(chan []byte, maxQueued)}, t: t}
	p.x, err = xevents.Dial(number, env["XAUTHORITY"], func(b []byte) {
		switch b[0] & 0x7f {
		case selectionNotify:
			p.answers <- b
		case selectionRequest:
			at := func(i int) uint32 { return xevents.Order.Uint32(b[i:]) }
			if n := uint32(size.Load()); n > maxClipboard {
				_ = p.x.Send(xevents.U32([]byte{changeProperty, 0, 0, 0}, at(12), at(24), p.incr, 32, 1, n)...)
			} else {
				_ = p.x.Send(append(xevents.U32([]byte{changeProperty, 0, 0, 0}, at(12), at(24), p.utf8, 8, n), make([]byte, n)...)...)
			}
			answer := xevents.U32([]byte{sendEvent, 0, 0, 0}, at(12), 0)
			answer = append(answer, selectionNotify, 0, 0, 0)
			_ = p.x.Send(xevents.U32(answer, at(4), at(12), at(16), at(20), at(24), 0, 0)...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.x.Close)
	if err := p.prepare(make(chan byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.window = p.x.NewID()
	b := xevents.U16(xevents.U32([]byte{createWindow, 0, 0, 0}, p.window, p.x.Root), 0, 0, 1, 1, 0, inputOnly)
	if err := p.x.Send(xevents.U32(b, 0, 0)...); err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	changeProperty, sendEvent = 18, 25
	setSelectionOwnerRequest  = 22
	selectionRequest          = 30
)

// own makes the window own the clipboard; 0: no window.
func (p *program) own(window uint32) {
	p.t.Helper()
	if err := p.x.Send(xevents.U32([]byte{setSelectionOwnerRequest, 0, 0, 0}, window, p.clipboard, 0)...); err != nil {
		p.t.Fatal(err)
	}
	if err := p.x.Sync(); err != nil {
		p.t.Fatal(err)
	}
}

// holder returns the window that owns the clipboard.
func (p *program) holder() uint32 {
	p.t.Helper()
	owner, err := p.owner()
	if err != nil {
		p.t.Fatal(err)
	}
	return owner
}
