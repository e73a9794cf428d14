package mux

import "encoding/binary"

// Of the format.
const (
	headerSize    = 12 // version, type, flags, stream, length
	initialWindow = 256 << 10

	typeData   = 0
	typeWindow = 1
	typePing   = 2
	typeGoAway = 3

	flagSYN = 1
	flagACK = 2
	flagFIN = 4
	flagRST = 8
)

// frame returns a header.
func frame(kind byte, flags uint16, id, length uint32) (h [headerSize]byte) {
	h[1] = kind
	binary.BigEndian.PutUint16(h[2:], flags)
	binary.BigEndian.PutUint32(h[4:], id)
	binary.BigEndian.PutUint32(h[8:], length)
	return h
}
