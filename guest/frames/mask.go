package frames

import (
	"crypto/subtle"
	"encoding/binary"
	"math/rand/v2"
)

// newKey returns a key that no page of a browser can foresee: the runtime's generator is ChaCha8, seeded by the system.
func newKey() (key [4]byte) {
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	return key
}

// patternSize is a multiple of a key's size.
const patternSize = 1 << 10

// apply masks or unmasks p, which begins at an offset of its frame's payload.
func apply(p []byte, key [4]byte, offset uint64) {
	var turned [4]byte
	for i := range turned {
		turned[i] = key[(offset+uint64(i))%4]
	}
	if len(p) < 128 {
		for i := range p {
			p[i] ^= turned[i%4]
		}
		return
	}
	var pattern [patternSize]byte
	n := copy(pattern[:], turned[:])
	for want := min(len(p), patternSize); n < want; {
		n += copy(pattern[n:], pattern[:n])
	}
	for len(p) > 0 {
		p = p[subtle.XORBytes(p, p, pattern[:]):]
	}
}
