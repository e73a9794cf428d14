package clipboard

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// The extended clipboard: a pseudo-encoding with which a viewer announces it, and flags of its messages.
const (
	encoding    = 0xc0a1e5ce
	formatText  = 1
	capsFlag    = 1 << 24
	provideFlag = 1 << 28
	maxMessage  = Max + Max/8 + 1024 // bytes of a text that is compressed; of one that is not, Max
	maxList     = 4 + 4*256          // bytes of a list of encodings; a longer one passes as it is
)

// Filter returns the viewer's connection. Texts that the viewer pastes are on the display before anything that the viewer
// sends later can be read; the texts themselves cannot. The viewer learns that texts may have any letters: a text of at most
// Max bytes may be sent without being asked for.
func (o *Owner) Filter(c net.Conn) net.Conn { return &filter{Conn: c, owner: o} }

type filter struct {
	net.Conn
	owner *Owner

	held    []byte // received, not looked at
	out     []byte // may pass
	left    uint64 // remaining bytes of the current message
	drop    bool   // the current message is a text, which does not pass
	dialog  rfb.Dialog
	through bool // the viewer speaks something unknown: everything passes

	greeting greeting
}

func (f *filter) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		n, err := f.Conn.Read(p) // an idle viewer needs no buffer of its own
		f.held = append(f.held, p[:n]...)
		if err := f.pass(); err != nil {
			return 0, err
		}
		if n == 0 && len(f.out) == 0 {
			return 0, err
		}
	}
	n := copy(p, f.out)
	if f.out = f.out[n:]; len(f.out) == 0 {
		f.out = nil
	}
	return n, nil
}

// pass moves to out what may pass. At most one message is held.
func (f *filter) pass() error {
	for len(f.held) > 0 {
		if f.through {
			f.left = uint64(len(f.held))
		}
		if f.left > 0 {
			n := min(uint64(len(f.held)), f.left)
			if !f.drop {
				f.out = append(f.out, f.held[:n]...)
			}
			f.left -= n
			f.held = f.held[n:]
			continue
		}
		f.drop = false
		total, err := f.measure()
		switch {
		case err != nil:
			f.through = true
		case total == 0:
			return nil
		case f.dialog.Open() && f.held[0] == rfb.ClientCutText:
			f.drop = true
			if total <= maxMessage && uint64(len(f.held)) < total {
				return nil
			}
			if total <= maxMessage {
				f.take(f.held[:total])
			}
			f.left = total
		case f.dialog.Open() && f.held[0] == rfb.SetEncodings && total <= maxList:
			if uint64(len(f.held)) < total {
				return nil
			}
			if err := f.announce(f.held[4:total]); err != nil {
				return err
			}
			f.left = total
		default:
			f.left = total
		}
	}
	return nil
}

// measure returns the length of the message at the beginning of held; 0: too little of it is there.
func (f *filter) measure() (uint64, error) {
	for !f.dialog.Open() && len(f.held) > 0 {
		n, err := f.dialog.Measure(f.held)
		if err != nil || n == 0 {
			return 0, err
		}
		f.greeting.choose(f.dialog.Password())
		f.out = append(f.out, f.held[:n]...)
		f.held = f.held[n:]
	}
	if len(f.held) == 0 {
		return 0, nil
	}
	return f.dialog.Measure(f.held)
}

// announce hides from the server that the viewer has the extended clipboard, and answers in its place.
func (f *filter) announce(encodings []byte) error {
	for ; len(encodings) >= 4; encodings = encodings[4:] {
		if binary.BigEndian.Uint32(encodings) != encoding {
			continue
		}
		binary.BigEndian.PutUint32(encodings, rfb.EncodingRaw)
		caps := []byte{rfb.ServerCutText, 0, 0, 0, 0xff, 0xff, 0xff, 0xf8} // minus 8 bytes
		caps = binary.BigEndian.AppendUint32(caps, capsFlag|provideFlag|formatText)
		if err := f.greeting.follow(f.Conn, binary.BigEndian.AppendUint32(caps, Max)); err != nil {
			return err
		}
	}
	return nil
}

// take puts the text of a message onto the display.
func (f *filter) take(message []byte) {
	n := int32(binary.BigEndian.Uint32(message[4:]))
	text, err := latin1Text(message[8:]), error(nil)
	if n < 0 {
		text, err = provided(message[8:])
	}
	if err == nil && text != "" {
		err = f.owner.Set(text)
	}
	if err != nil {
		f.owner.log.Warn("pasting a viewer's text failed", "err", err)
	}
}

// latin1Text returns the text of a message without the extension.
func latin1Text(b []byte) string {
	var text strings.Builder
	for _, c := range b {
		text.WriteRune(rune(c))
	}
	return text.String()
}

// provided returns the text that a viewer sent; "": the message has another purpose.
func provided(b []byte) (string, error) {
	if len(b) < 4 {
		return "", io.ErrUnexpectedEOF
	}
	if flags := binary.BigEndian.Uint32(b); flags&provideFlag == 0 || flags&capsFlag != 0 || flags&formatText == 0 {
		return "", nil
	}
	z, err := zlib.NewReader(bytes.NewReader(b[4:]))
	if err != nil {
		return "", err
	}
	var size [4]byte
	if _, err := io.ReadFull(z, size[:]); err != nil {
		return "", err
	}
	// The size counts a NUL, and CRLF at the end of each line.
	n := binary.BigEndian.Uint32(size[:])
	if n > 2*Max+1 {
		return "", errors.New("the text is too long")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(z, text); err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", errors.New("the text is not UTF-8")
	}
	return strings.ReplaceAll(strings.TrimSuffix(string(text), "\x00"), "\r\n", "\n"), nil
}

func (f *filter) Write(p []byte) (int, error) { return f.greeting.write(f.Conn, p) }

// greeting follows what the server sends until it has described the screen: until then, and until the viewer has asked for a
// picture, the ends of its messages are known.
type greeting struct {
	mu     sync.Mutex
	vnc    bool   // the viewer chose the VNC authentication
	head   []byte // of the current part
	part   int    // 0: version, 1: security types, 2: challenge, 3: result, 4: screen, 5: over
	past   bool   // the server has sent more
	failed bool   // it said something unknown
}

func (g *greeting) choose(vnc bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.vnc = vnc
}

func (g *greeting) write(c net.Conn, p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range p {
		if g.part == 5 || g.failed {
			g.past = true
			break
		}
		g.head = append(g.head, b)
		g.step()
	}
	return c.Write(p)
}

// step goes to the next part at the end of the current one.
func (g *greeting) step() {
	if g.part == 2 && !g.vnc { // by the time of the next part, the viewer has chosen
		g.part = 3
	}
	h, n := g.head, 0
	switch g.part {
	case 0:
		n = len(rfb.Version)
	case 1:
		n = 1 + int(h[0])
		g.failed = h[0] == 0
	case 2:
		n = 16
	case 3:
		n = 4
		g.failed = len(h) == 4 && h[3] != 0
	case 4:
		n = 24
		if len(h) >= 24 {
			length := binary.BigEndian.Uint32(h[20:])
			n += int(min(length, 4<<10))
			g.failed = length > 4<<10
		}
	}
	if len(h) < n {
		return
	}
	g.head = nil
	g.part++
}

// follow sends a message after the greeting, unless the server has sent more: then the end of its message is unknown.
func (g *greeting) follow(c net.Conn, message []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.part != 5 || g.past || g.failed {
		return nil
	}
	_, err := c.Write(message)
	return err
}
