package frames

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// arriving has bytes that arrive in pieces, and keeps what is written.
type arriving struct {
	r    *rand.Rand
	rest []byte
}

func (a *arriving) Read(p []byte) (int, error) {
	if len(a.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:1+a.r.IntN(len(p))], a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (*arriving) Write(p []byte) (int, error) { return len(p), nil }
func (*arriving) Close() error                { return nil }

// payloads returns the payload of the binary frames that a client sent, until something else than data or control frames.
func payloads(b []byte) (all []byte) {
	for len(b) >= 2 && b[0]&0x70 == 0 && b[1]&masks != 0 {
		size, ok := frameSize(b)
		if !ok {
			return all
		}
		opcode, whole, head := b[0]&0xf, b[0]&final != 0, headSize(b)
		rest := b[head:]
		n := min(size, uint64(len(rest)))
		switch {
		case opcode == Continuation || opcode == Binary:
			for i, c := range rest[:n] {
				all = append(all, c^b[head-4+i%4])
			}
		case opcode < opPing || opcode > opPong || !whole || size > 125:
			return all
		}
		b = rest[n:]
	}
	return all
}

// Whatever a machine sends, and however it arrives, Next returns the payload of its frames and an error at the end.
func FuzzNext(f *testing.F) {
	f.Add([]byte{0x82, 0x81, 1, 2, 3, 4, 5, 0x89, 0x80, 1, 2, 3, 4, 0x80, 0xfe, 0, 2, 1, 1, 1, 1, 7, 7}, uint64(1))
	f.Add([]byte{0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5}, uint64(2))
	f.Add([]byte{0x82, 0x80, 0, 0, 0, 0, 0x88, 0x82, 0, 0, 0, 0, 3, 232}, uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		c := newConn(&arriving{r: r, rest: b}, false, mux.Small, nil)
		var got []byte
		for {
			buf, at, err := c.Next(1 + r.IntN(300))
			if err != nil {
				break
			}
			if at < Room || at >= len(buf) {
				t.Fatalf("got %d bytes at %d", len(buf)-at, at)
			}
			got = append(got, buf[at:]...)
			clear(buf)
		}
		if want := payloads(b); !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
	})
}
