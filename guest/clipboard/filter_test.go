package clipboard

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/iotest"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// wire is a connection whose bytes come from r, and which keeps what is written.
type wire struct {
	net.Conn
	r    io.Reader
	sent bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.r.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.sent.Write(p) }

var (
	login    = append(append([]byte(rfb.Version), rfb.SecurityVNC), make([]byte, 16+1)...)
	open     = append([]byte(rfb.Version), rfb.SecurityNone, 1)
	key      = []byte{rfb.KeyEvent, 1, 0, 0, 0, 0, 0, 'a'}
	cut      = append([]byte{rfb.ClientCutText, 0, 0, 0, 0, 0, 0, 5}, "hello"...)
	extended = append([]byte{rfb.ClientCutText, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc}, 0x10, 0, 0, 1)
	long     = append([]byte{rfb.ClientCutText, 0, 0, 0, 0, 0x14, 0, 0}, make([]byte, 0x14<<16)...)
	plain    = []byte{rfb.SetEncodings, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 1}
	pixels   = append([]byte{rfb.SetPixelFormat}, make([]byte, 19)...)
)

func encodings(e ...uint32) []byte {
	b := binary.BigEndian.AppendUint16([]byte{rfb.SetEncodings, 0}, uint16(len(e)))
	for _, v := range e {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

// TestFilterPassesAllButTexts sends what viewers send, in pieces of every kind.
func TestFilterPassesAllButTexts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ in, want [][]byte }{
		"keys":       {[][]byte{login, pixels, plain, key, key}, [][]byte{login, pixels, plain, key, key}},
		"texts":      {[][]byte{open, key, cut, key, extended, key}, [][]byte{open, key, key, key}},
		"long text":  {[][]byte{open, long, key}, [][]byte{open, key}},
		"extension":  {[][]byte{open, encodings(7, encoding, 1), key}, [][]byte{open, encodings(7, 0, 1), key}},
		"cut short":  {[][]byte{open, cut[:9]}, [][]byte{open}},
		"old viewer": {[][]byte{[]byte("RFB 003.003\n"), {1}, cut}, [][]byte{[]byte("RFB 003.003\n"), {1}, cut}},
		"unknown":    {[][]byte{open, {77, 1, 2, 3}, cut}, [][]byte{open, {77, 1, 2, 3}, cut}},
	} {
		in, want := bytes.Join(c.in, nil), bytes.Join(c.want, nil)
		for size, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "bytes": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
			got, err := io.ReadAll(New(slog.New(slog.DiscardHandler)).Filter(&wire{r: r})) // without a display
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s in %s: got %d bytes and error %v, want %d", name, size, len(got), err, len(want))
			}
		}
	}
}

// TestFilterAnnouncesItself answers a viewer that has the extension, where the end of the server's message is known.
func TestFilterAnnouncesItself(t *testing.T) {
	t.Parallel()
	types, none, challenge, fine := []byte{1, rfb.SecurityVNC}, []byte{1, rfb.SecurityNone}, make([]byte, 16), make([]byte, 4)
	size := append(make([]byte, 20), 0, 0, 0, 7)
	opened := []byte("desktop")
	with := encodings(7, encoding)
	for name, c := range map[string]struct {
		server [][]byte
		viewer [][]byte
		told   bool
	}{
		"log-in":         {[][]byte{[]byte(rfb.Version), types, challenge, fine, size, opened}, [][]byte{login, with}, true},
		"no log-in":      {[][]byte{[]byte(rfb.Version), none, fine, size, opened}, [][]byte{open, with}, true},
		"no extension":   {[][]byte{[]byte(rfb.Version), types, challenge, fine, size, opened}, [][]byte{login, plain}, false},
		"more was sent":  {[][]byte{[]byte(rfb.Version), types, challenge, fine, size, opened, {rfb.Bell}}, [][]byte{login, with}, false},
		"too early":      {[][]byte{[]byte(rfb.Version), types, challenge, fine, size}, [][]byte{login, with}, false},
		"refused":        {[][]byte{[]byte(rfb.Version), types, challenge, {0, 0, 0, 1}, size, opened}, [][]byte{login, with}, false},
		"an endless one": {[][]byte{[]byte(rfb.Version), types, challenge, fine, append(make([]byte, 20), 0xff, 0, 0, 0), opened}, [][]byte{login, with}, false},
	} {
		w := &wire{}
		f := New(slog.New(slog.DiscardHandler)).Filter(w)
		// The viewer's choice of a security type comes before the server's next part.
		w.r = bytes.NewReader(c.viewer[0])
		if _, err := io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		sent := bytes.Join(c.server, nil)
		for i := range sent {
			if _, err := f.Write(sent[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		w.r = bytes.NewReader(c.viewer[1])
		if _, err := io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		if got := w.sent.Len() - len(sent); c.told != (got == 16) || !c.told && got != 0 {
			t.Errorf("%s: got %d more bytes than the server sent, want told %v", name, got, c.told)
		}
	}
}
