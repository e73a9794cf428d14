package desktop

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/clipboard"
	"github.com/cloudbot-ai/control-plane/guest/rfb"
	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// TestPasteWithX11vnc pastes through the guest, from the first second on: x11vnc alone takes no text then, and would garble these.
func TestPasteWithX11vnc(t *testing.T) {
	t.Parallel()
	d := run(t, "x11vnc", t.TempDir(), nil, "true")
	v := view(t, d)
	send(t, v.c, binary.BigEndian.AppendUint32([]byte{rfb.SetEncodings, 0, 0, 1}, extendedClipboard))
	caps := expect(t, v.c, 16)
	if flags := binary.BigEndian.Uint32(caps[8:]); flags != clipCaps|clipProvide|formatText || binary.BigEndian.Uint32(caps[12:]) != maxClipboard {
		t.Fatalf("got capabilities %x, want texts of up to 1 MiB without a request", caps)
	}
	go func() { _, _ = io.Copy(io.Discard, v.c) }()
	c := connect(t, d, nil)
	for _, text := range []string{
		"größer → 日本 😀\nzweite Zeile",
		strings.Repeat("x", maxClipboard),
		strings.Repeat("ab\n", maxClipboard/3) + "!",
	} {
		v.says(provides(text))
		c.pastes(c.clipboard, c.utf8, text)
		c.pastes(primarySelection, c.utf8, text)
	}
	v.says(provides("naïve → größer"))
	c.pastes(c.clipboard, c.utf8, "naïve → größer")
	c.pastes(c.clipboard, stringAtom, "na\xefve ? gr\xf6\xdfer")
	// What is no text changes nothing: a text that is too long, one that is no UTF-8, and what is no zlib.
	long := binary.BigEndian.AppendUint32([]byte{rfb.ClientCutText, 0, 0, 0}, 3<<20)
	send(t, v.c, append(long, make([]byte, 3<<20)...))
	for _, text := range []string{strings.Repeat("\n", clipboard.Max+1), "\xff"} {
		v.says(provides(text))
	}
	v.says(append(binary.BigEndian.AppendUint32(nil, clipProvide|formatText), "rubbish"...))
	v.says([]byte{1})
	c.pastes(c.clipboard, c.utf8, "naïve → größer")
	// A viewer without the extension sends Latin-1.
	send(t, v.c, append(binary.BigEndian.AppendUint32([]byte{rfb.ClientCutText, 0, 0, 0}, 4), "caf\xe9"...))
	c.pastes(c.clipboard, c.utf8, "café")
	// x11vnc gets nothing: it would send the text to viewers.
	if kind, _ := c.convert(c.clipboard, stringAtom, stringAtom); kind != 0 {
		t.Errorf("got a text of type %d for x11vnc, want a refusal", kind)
	}
	// A program that copies takes the clipboard over.
	c.own(c.window)
	await(t, func() bool { return c.holder() == c.window })
}

const (
	primarySelection, stringAtom = 1, 31
	deleteIt                     = 1
)

// provides returns the body of a message with a text that the server has not asked for.
func provides(text string) []byte {
	text = strings.ReplaceAll(text, "\n", "\r\n") + "\x00"
	b := bytes.NewBuffer(binary.BigEndian.AppendUint32(nil, clipProvide|formatText))
	z := zlib.NewWriter(b)
	_ = binary.Write(z, binary.BigEndian, uint32(len(text)))
	_, _ = io.WriteString(z, text)
	z.Close()
	return b.Bytes()
}

// pastes waits until the program pastes the text.
func (p *program) pastes(selection, target uint32, want string) {
	p.t.Helper()
	var kind uint32
	var got string
	for deadline := time.Now().Add(patience); got != want; {
		if kind, got = p.convert(selection, target, p.property); time.Now().After(deadline) {
			p.t.Fatalf("got %d bytes of type %d, %.40q…, want %d, %.40q…", len(got), kind, got, len(want), want)
		}
	}
}

// convert asks the selection's owner for a text and returns it with its type; 0: refused.
func (p *program) convert(selection, target, property uint32) (kind uint32, text string) {
	p.t.Helper()
	if err := p.x.Send(xevents.U32([]byte{convertSelection, 0, 0, 0}, p.window, selection, target, property, 0)...); err != nil {
		p.t.Fatal(err)
	}
	select {
	case b := <-p.answers:
		if xevents.Order.Uint32(b[20:]) == 0 {
			return 0, ""
		}
	case <-time.After(patience):
		p.t.Fatal("timed out waiting for the clipboard's owner")
	}
	reply, err := p.x.Ask(xevents.U32([]byte{getProperty, deleteIt, 0, 0}, p.window, property, anyType, 0, 2<<20)...)
	if err != nil {
		p.t.Fatal(err)
	}
	return xevents.Order.Uint32(reply[8:]), string(reply[32:][:xevents.Order.Uint32(reply[16:])])
}
