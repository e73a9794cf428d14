package desktop

import (
	"encoding/binary"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/viewers"
)

// TestPictureWithX11vnc sends what the page sends, through all that the guest puts before x11vnc. That offers sizes, and
// refuses each one.
func TestPictureWithX11vnc(t *testing.T) {
	t.Parallel()
	d := run(t, "x11vnc", t.TempDir(), nil, "sleep", "100000")
	first := begins(t, d)
	if got, want := first.picture(), (sized{bySelf, 0, 640, 480}); got != want {
		t.Errorf("at first: got %+v, want %+v", got, want)
	}
	second := begins(t, d)
	second.picture()
	prohibited, none := sized{byMe, 1, 640, 480}, sized{bySelf, 0, 640, 480}
	for _, c := range []struct {
		v    *sizing
		why  viewers.Why
		want sized
	}{
		{first, viewers.Works, prohibited},
		{second, viewers.Arrives, prohibited}, // the size is the first one's, and x11vnc answers in the guest's place
		{second, viewers.Returns, prohibited},
		{second, viewers.Works, prohibited},
		{second, viewers.Leaves, none},
		{second, viewers.Resets, none},
	} {
		c.v.asks(c.why, 400, 600)
		if got := c.v.picture(); got != c.want {
			t.Errorf("reason %d: got %+v, want %+v", c.why, got, c.want)
		}
	}
}

// begins connects a viewer of the page's kind.
func begins(t *testing.T, d *Desktop) *sizing {
	t.Helper()
	v := view(t, d)
	format := []byte{rfb.SetPixelFormat, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0}
	sizes := int32(-308)
	encodings := binary.BigEndian.AppendUint32([]byte{rfb.SetEncodings, 0, 0, 2}, extendedClipboard)
	encodings = binary.BigEndian.AppendUint32(encodings, uint32(sizes))
	sent := make(chan struct{})
	go func() { defer close(sent); _, _ = v.c.Write(append(format, encodings...)) }()
	if caps := expect(t, v.c, 16); caps[0] != rfb.ServerCutText {
		t.Fatalf("got %x, want the guest's capabilities", caps)
	}
	<-sent
	return &sizing{viewer: v, screen: make([]byte, 8)}
}

// picture asks for the whole screen and reads it. It returns what the server said of the size meanwhile.
func (s *sizing) picture() (size sized) {
	s.t.Helper()
	u := binary.BigEndian.Uint16
	whole := binary.BigEndian.AppendUint16([]byte{rfb.FramebufferUpdateRequest, 0, 0, 0, 0, 0}, s.width)
	send(s.t, s.c, binary.BigEndian.AppendUint16(whole, 480))
	for {
		head := expect(s.t, s.c, 4)
		if head[0] != rfb.FramebufferUpdate {
			s.t.Fatalf("got %x, want a picture", head)
		}
		var last []byte
		for range u(head[2:]) {
			last = expect(s.t, s.c, 12)
			if binary.BigEndian.Uint32(last[8:]) == rfb.EncodingRaw {
				expect(s.t, s.c, 4*int(u(last[4:]))*int(u(last[6:])))
				continue
			}
			parts := expect(s.t, s.c, 4)
			expect(s.t, s.c, 16*int(parts[0]))
			size = sized{u(last), u(last[2:]), u(last[4:]), u(last[6:])}
		}
		if binary.BigEndian.Uint32(last[8:]) == rfb.EncodingRaw {
			return size
		}
	}
}
