package gate

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

var someOpcodes = opcodes{xtest: 133, xinput: 132, xkb: 136, bigRequests: 134, xinputEvent: 66}

// cutUp lets a stream through in pieces and returns what may be sent, as the relay sends it.
func cutUp(b []byte, piece func(left int) int) (sent []byte, faked int, err error) {
	r := requests{ops: someOpcodes, refuses: func() bool { return true }, faked: func(byte, byte) { faked++ }}
	var buf []byte
	for len(b) > 0 && err == nil {
		n := min(max(1, piece(len(b))), len(b))
		buf, b = append(buf, b[:n]...), b[n:]
		if n, err = r.follow(buf); err == nil {
			sent, buf = append(sent, buf[:n]...), buf[n:]
			if len(buf) >= maxHead {
				panic("the gate keeps more than a head")
			}
		}
	}
	return sent, faked, err
}

// FuzzRequests checks that the pieces in which a stream arrives do not matter, that its length does not change, and that no
// event of XTEST is in what passes.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("l\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00"), uint64(1))
	for seed := range uint64(500) {
		f.Add(stream(rand.New(rand.NewPCG(seed, 1))), seed)
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		whole, _, err := cutUp(b, func(left int) int { return left })
		random := rand.New(rand.NewPCG(seed, 2))
		pieces, faked, err2 := cutUp(b, func(int) int { return 1 + random.IntN(40) })
		if faked > 0 {
			t.Errorf("got %d events passed while held, want none", faked)
		}
		if err != nil || err2 != nil {
			if err != err2 { //nolint:errorlint // sentinels
				t.Errorf("whole: got %v, in pieces %v, want the same", err, err2)
			}
			return
		}
		if !bytes.Equal(whole, pieces) || len(whole) > len(b) || len(b)-len(whole) >= maxHead {
			t.Errorf("got %d and %d of %d bytes, want the same, and all but an incomplete head", len(whole), len(pieces), len(b))
		}
		if n := events(whole); n > 0 {
			t.Errorf("got %d events of XTEST in what passes, want none", n)
		}
	})
}

// stream returns a connection's beginning, with requests of many kinds.
func stream(r *rand.Rand) []byte {
	var order interface {
		binary.ByteOrder
		binary.AppendByteOrder
	} = binary.LittleEndian
	b := []byte{'l', 0}
	if r.IntN(2) == 0 {
		order, b[0] = binary.BigEndian, 'B'
	}
	for _, v := range []uint16{11, 0, 18, 16, 0} {
		b = order.AppendUint16(b, v)
	}
	b = append(b, make([]byte, 36)...)
	big := false
	majors := []byte{1, sendEvent, warpPointer, queryExtension, setPointerMapping, noOperation, 132, 133, 133, 134, 136}
	for range r.IntN(40) {
		major, minor, words := majors[r.IntN(len(majors))], byte(r.IntN(8)), 1+r.IntN(12)
		b = append(b, major, minor)
		switch {
		case big && r.IntN(2) == 0:
			b = order.AppendUint32(order.AppendUint16(b, 0), uint32(words+1))
		default:
			b = order.AppendUint16(b, uint16(words))
		}
		if major == 134 && minor == 0 && words == 1 {
			big = true
		}
		for range 4 * (words - 1) {
			b = append(b, byte(r.IntN(7)))
		}
	}
	return b
}

// events counts the events of XTEST in a stream, with a reading of its own.
func events(b []byte) (n int) {
	order, big := binary.ByteOrder(binary.LittleEndian), false
	if len(b) < 12 {
		return 0
	}
	if b[0] == 'B' {
		order = binary.BigEndian
	}
	skip := 12 + (int(order.Uint16(b[6:]))+3)&^3 + (int(order.Uint16(b[8:]))+3)&^3
	for b = b[min(skip, len(b)):]; len(b) >= 4; {
		size, body := 4*int(order.Uint16(b[2:])), 4
		if size == 0 && big && len(b) >= 8 {
			size, body = 4*int(order.Uint32(b[4:])), 8
		}
		if size == 0 || size > len(b) {
			return n
		}
		if b[0] == someOpcodes.xtest && b[1] == fakeInput && size >= body+2 && b[body] != 0 {
			n++
		}
		big = big || b[0] == someOpcodes.bigRequests && b[1] == 0 && size == 4
		b = b[size:]
	}
	return n
}
