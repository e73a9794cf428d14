package desktop

import (
	"encoding/binary"
	"io"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
)

// sized is what the server says of the screen's size.
type sized struct {
	reason, status, width, height uint16
}

// Reasons of a size, and the answer to an impossible one.
const (
	bySelf, byMe, byOther = 0, 1, 2
	refused               = 3
)

// sizing is a viewer that hears of sizes.
type sizing struct {
	*viewer
	heard  chan sized
	screen []byte // id and flags of its first part
}

// watches connects a viewer, which learns of the size at once.
func watches(t *testing.T, d *Desktop) *sizing {
	t.Helper()
	s := &sizing{view(t, d), make(chan sized, 100), make([]byte, 8)}
	encoding := int32(-308)
	send(t, s.c, binary.BigEndian.AppendUint32([]byte{rfb.SetEncodings, 0, 0, 1}, uint32(encoding)))
	first := make(chan struct{})
	go s.listen(first)
	s.request(false)
	select {
	case <-first:
	case <-time.After(patience):
		t.Fatal("timed out waiting for the first size")
	}
	return s
}

// request asks for the next change of a pixel, or for the pixel.
func (s *sizing) request(next bool) {
	incremental := byte(0)
	if next {
		incremental = 1
	}
	_, _ = s.c.Write([]byte{rfb.FramebufferUpdateRequest, incremental, 0, 0, 0, 0, 0, 1, 0, 1})
}

func (s *sizing) listen(first chan<- struct{}) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(s.c, b); err != nil {
			return nil
		}
		return b
	}
	u := binary.BigEndian.Uint16
	for {
		head := read(4)
		if head == nil || head[0] != rfb.FramebufferUpdate {
			return
		}
		for range u(head[2:]) {
			rect := read(12)
			if rect == nil {
				return
			}
			if binary.BigEndian.Uint32(rect[8:]) == rfb.EncodingRaw {
				read(4 * int(u(rect[4:])) * int(u(rect[6:])))
				continue
			}
			count := read(4)
			parts := read(16 * int(count[0]))
			if first != nil {
				copy(s.screen, parts[:4])
				copy(s.screen[4:], parts[12:16])
				close(first)
				first = nil
				continue
			}
			s.heard <- sized{u(rect), u(rect[2:]), u(rect[4:]), u(rect[6:])}
		}
		s.request(true)
	}
}

// asks requests a size.
func (s *sizing) asks(why viewers.Why, width, height uint16) {
	s.t.Helper()
	b := binary.BigEndian.AppendUint16([]byte{rfb.SetDesktopSize, byte(why)}, width)
	b = append(binary.BigEndian.AppendUint16(b, height), 1, 0)
	b = append(append(b, s.screen[:4]...), 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, width), height)
	send(s.t, s.c, append(b, s.screen[4:]...))
}

// hears waits for a size.
func (s *sizing) hears(what string, want sized) {
	s.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case got := <-s.heard:
			if got == want {
				return
			}
			if got.reason != bySelf {
				s.t.Fatalf("%s: got %+v, want %+v", what, got, want)
			}
		case <-deadline:
			s.t.Fatalf("%s: timed out waiting for %+v", what, want)
		}
	}
}

// TestSizeBelongsToOne has viewers of different sizes share a real screen, whose default size is 640x480.
func TestSizeBelongsToOne(t *testing.T) {
	t.Parallel()
	d := run(t, "Xvnc", t.TempDir(), nil, "sleep", "100000")
	count := func(want int) {
		t.Helper()
		await(t, func() bool { n, _ := d.Viewers(); return n == want })
	}
	wide := watches(t, d)
	wide.asks(viewers.Arrives, 1000, 700)
	wide.hears("alone", sized{byMe, 0, 1000, 700})
	phone := watches(t, d)
	count(2)
	phone.asks(viewers.Arrives, 400, 600)
	phone.hears("a new viewer", sized{byMe, refused, 1000, 700})
	phone.asks(viewers.Works, 400, 600)
	phone.hears("a new viewer that works", sized{byMe, 0, 400, 600})
	wide.hears("another viewer works", sized{byOther, 0, 400, 600})
	wide.asks(viewers.Returns, 1000, 700)
	wide.hears("it belongs to another viewer", sized{byMe, refused, 400, 600})

	// A connection that breaks and comes back keeps the size.
	phone.c.Close()
	count(1)
	phone = watches(t, d)
	phone.asks(viewers.Returns, 400, 600)
	phone.hears("back", sized{byMe, 0, 400, 600})
	wide.hears("the other is back", sized{byOther, 0, 400, 600})

	phone.c.Close()
	wide.hears("the other left", sized{byMe, 0, 1000, 700})
	wide.asks(viewers.Works, 900, 700)
	wide.hears("it has the size", sized{byMe, 0, 900, 700})

	// A viewer that only watches gets the default size when the others have left.
	watcher := watches(t, d)
	wide.c.Close()
	watcher.hears("no viewer is left that sets the size", sized{byOther, 0, 640, 480})
	watcher.c.Close()
	count(0)
	lone := watches(t, d)
	lone.asks(viewers.Arrives, 400, 600)
	lone.hears("alone", sized{byMe, 0, 400, 600})
	lone.c.Close()
	count(0)
	await(t, func() bool { // no viewer is there to hear it
		v := view(t, d)
		defer v.c.Close()
		return v.width == 640
	})
}

// TestSizeIsReset gives everybody the default size, until a viewer works.
func TestSizeIsReset(t *testing.T) {
	t.Parallel()
	d := run(t, "Xvnc", t.TempDir(), nil, "sleep", "100000")
	one, two := watches(t, d), watches(t, d)
	two.asks(viewers.Works, 800, 600)
	two.hears("works", sized{byMe, 0, 800, 600})
	one.hears("the other works", sized{byOther, 0, 800, 600})
	one.asks(viewers.Works, 700, 600)
	one.hears("works", sized{byMe, 0, 700, 600})
	two.hears("the other works", sized{byOther, 0, 700, 600})
	one.asks(viewers.Resets, 0, 0)
	one.hears("reset", sized{byOther, 0, 640, 480})
	two.hears("reset", sized{byOther, 0, 640, 480})
	two.asks(viewers.Works, 800, 600)
	two.hears("works again", sized{byMe, 0, 800, 600})
	one.hears("the other works again", sized{byOther, 0, 800, 600})

	// A viewer that gave up Match is no heir.
	one.asks(viewers.Works, 700, 600)
	one.hears("works", sized{byMe, 0, 700, 600})
	one.asks(viewers.Leaves, 0, 0)
	two.hears("the other works", sized{byOther, 0, 700, 600})
	two.asks(viewers.Works, 800, 600)
	one.hears("the other works", sized{byOther, 0, 800, 600})
	two.c.Close()
	one.hears("the other left", sized{byOther, 0, 640, 480})
}
