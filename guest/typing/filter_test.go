package typing

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// source is a connection whose bytes come from r.
type source struct {
	net.Conn
	r io.Reader
}

func (s source) Read(p []byte) (int, error) { return s.r.Read(p) }

func key(symbol uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{rfb.KeyEvent, 1, 0, 0}, symbol)
}

// TestFilterPassesEverything sends what viewers send, in pieces of every kind: not a byte may change.
func TestFilterPassesEverything(t *testing.T) {
	t.Parallel()
	login := append(append([]byte(rfb.Version), rfb.SecurityVNC), make([]byte, 16+1)...)
	open := append([]byte(rfb.Version), rfb.SecurityNone, 1)
	paste := append([]byte{rfb.ClientCutText, 0, 0, 0, 0xff, 0xfe, 0x79, 0x60}, bytes.Repeat([]byte{rfb.KeyEvent}, 100_000)...)
	qemu := append([]byte{rfb.QEMU, 0, 0, 1}, 0, 0, 6, 0xc1, 0, 0, 0, 0)
	for name, in := range map[string][]byte{
		"letters":    bytes.Join([][]byte{login, key(0x6c1), key('a'), qemu, key(0x1004e00)}, nil),
		"no login":   bytes.Join([][]byte{open, key(0x6c1), paste, key(0x6c2)}, nil),
		"cut":        bytes.Join([][]byte{open, key(0x6c1)[:5]}, nil)[:len(open)],
		"old viewer": bytes.Join([][]byte{[]byte("RFB 003.003\n"), {1}, key(0x6c1)}, nil),
		"unknown":    bytes.Join([][]byte{open, {77, 1, 2, 3}, key(0x6c1)}, nil),
	} {
		for size, r := range map[string]io.Reader{"whole": bytes.NewReader(in), "bytes": iotest.OneByteReader(bytes.NewReader(in)), "halves": iotest.HalfReader(bytes.NewReader(in))} {
			k := New(slog.New(slog.DiscardHandler)) // without a display
			got, err := io.ReadAll(k.Filter(t.Context(), source{r: r}))
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("%s in %s: got %d bytes and error %v, want the same %d", name, size, len(got), err, len(in))
			}
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	var b []byte
	row := func(symbols ...uint32) {
		for i := range 7 {
			s := uint32(0)
			if i < len(symbols) {
				s = symbols[i]
			}
			b = binary.LittleEndian.AppendUint32(b, s)
		}
	}
	row('a', 'A', 'a', 'A')
	row()
	row(0x1008ff96, 0, 0x1008ff96) // XF86UWB
	row(0x1008ff12)                // XF86AudioMute
	row('q', 'Q', 'q', 'Q', '@')
	row(0x6c1, 0x6e1)
	used := map[byte]time.Time{13: {}}
	m := parse(8, 7, b, used)
	for symbol, want := range map[uint32]byte{'a': 8, 'A': 8, '@': 12, 0x6c1: 13, 0x6e1: 13, 0x1008ff12: 11, 0x6c2: 0} {
		if got := m.codes[symbol]; got != want {
			t.Errorf("symbol %x: got key code %d, want %d", symbol, got, want)
		}
	}
	if len(m.free) != 1 || m.free[0] != 9 || len(m.unneeded) != 1 || m.unneeded[0] != 10 {
		t.Errorf("got %v free and %v unneeded, want 9 and 10", m.free, m.unneeded)
	}
	if _, ours := m.letters[13]; !ours || len(m.letters) != 1 {
		t.Errorf("got letters %v, want key code 13", m.letters)
	}
	parse(8, 200, b, used) // a server that lies about the width
	parse(250, 1, make([]byte, 400), used)
}
