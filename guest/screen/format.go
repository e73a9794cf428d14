package screen

import (
	"encoding/binary"
	"errors"
)

// pixelFormat is the format in which a client wants pixels.
type pixelFormat struct {
	bits, depth      byte
	bigEndian        bool
	maxR, maxG, maxB uint16
	shR, shG, shB    byte
}

// native is the format that the server offers: 0x00RRGGBB, little endian.
var native = pixelFormat{bits: 32, depth: 24, maxR: 255, maxG: 255, maxB: 255, shR: 16, shG: 8, shB: 0}

func (f pixelFormat) bytes() []byte {
	b := []byte{f.bits, f.depth, 0, 1}
	if f.bigEndian {
		b[2] = 1
	}
	for _, m := range [...]uint16{f.maxR, f.maxG, f.maxB} {
		b = binary.BigEndian.AppendUint16(b, m)
	}
	return append(b, f.shR, f.shG, f.shB, 0, 0, 0)
}

// parseFormat refuses colour maps and unusual sizes: no relevant client requests them.
func parseFormat(b []byte) (pixelFormat, error) {
	u := binary.BigEndian.Uint16
	f := pixelFormat{
		bits: b[0], depth: b[1], bigEndian: b[2] != 0,
		maxR: u(b[4:]), maxG: u(b[6:]), maxB: u(b[8:]),
		shR: b[10], shG: b[11], shB: b[12],
	}
	if f.bits != 8 && f.bits != 16 && f.bits != 32 || b[3] == 0 || f.shR > 31 || f.shG > 31 || f.shB > 31 {
		return f, errors.New("unsupported pixel format")
	}
	return f, nil
}

func (f pixelFormat) appendPixels(out []byte, pixels []uint32) []byte {
	if f == native {
		for _, p := range pixels {
			out = binary.LittleEndian.AppendUint32(out, p)
		}
		return out
	}
	for _, p := range pixels {
		v := scaled(p>>16, f.maxR)<<f.shR | scaled(p>>8, f.maxG)<<f.shG | scaled(p, f.maxB)<<f.shB
		switch {
		case f.bits == 8:
			out = append(out, byte(v))
		case f.bits == 16 && f.bigEndian:
			out = binary.BigEndian.AppendUint16(out, uint16(v))
		case f.bits == 16:
			out = binary.LittleEndian.AppendUint16(out, uint16(v))
		case f.bigEndian:
			out = binary.BigEndian.AppendUint32(out, v)
		default:
			out = binary.LittleEndian.AppendUint32(out, v)
		}
	}
	return out
}

func scaled(channel uint32, limit uint16) uint32 { return (channel & 0xff) * uint32(limit) / 255 }
