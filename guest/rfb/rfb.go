// Package rfb contains what both ends of an RFB 3.8 connection (RFC 6143) share: message types, security types, and the
// DES answer of the VNC authentication.
package rfb

import (
	"crypto/des"
	"crypto/subtle"
	"math/bits"
)

// Version is the first line of both sides.
const Version = "RFB 003.008\n"

// Security types.
const (
	SecurityNone = 1
	SecurityVNC  = 2
)

// Messages of the client.
const (
	SetPixelFormat           = 0
	SetEncodings             = 2
	FramebufferUpdateRequest = 3
	KeyEvent                 = 4
	PointerEvent             = 5
	ClientCutText            = 6
	SetDesktopSize           = 251
)

// Messages of the server.
const (
	FramebufferUpdate = 0
	Bell              = 2
	ServerCutText     = 3
)

// EncodingRaw is the one encoding that every client supports.
const EncodingRaw = 0

// Answer encrypts a challenge of 16 bytes with the password's first 8 bytes. As VNC authentication requires, the bits
// of each byte of the key are reversed.
func Answer(password string, challenge []byte) [16]byte {
	var key [8]byte
	copy(key[:], password)
	for i := range key {
		key[i] = bits.Reverse8(key[i])
	}
	var out [16]byte
	block, err := des.NewCipher(key[:])
	if err != nil {
		panic(err) // the key is 8 bytes long by its type
	}
	block.Encrypt(out[:8], challenge[:8])
	block.Encrypt(out[8:], challenge[8:16])
	return out
}

// Accept reports, in constant time, whether response answers challenge.
func Accept(password string, challenge, response []byte) bool {
	want := Answer(password, challenge)
	return subtle.ConstantTimeCompare(want[:], response) == 1
}

// Obscure returns the 8 bytes of a VNC server's password file. They can be decoded without a key.
func Obscure(password string) []byte {
	fixed := [8]byte{23, 82, 107, 6, 35, 78, 88, 7}
	for i := range fixed {
		fixed[i] = bits.Reverse8(fixed[i])
	}
	block, err := des.NewCipher(fixed[:])
	if err != nil {
		panic(err)
	}
	var in, out [8]byte
	copy(in[:], password)
	block.Encrypt(out[:], in[:])
	return out[:]
}
