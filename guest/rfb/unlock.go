package rfb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxName bounds the desktop's name in ServerInit.
const maxName = 4 << 10

// Unlock performs the viewer's half of the handshake with a machine, and returns its ServerInit.
func Unlock(c io.ReadWriter, password string) (serverInit []byte, err error) {
	var b [24]byte
	read := func(n int) bool {
		if err == nil {
			_, err = io.ReadFull(c, b[:n])
		}
		return err == nil
	}
	write := func(p ...byte) {
		if err == nil {
			_, err = c.Write(p)
		}
	}
	if !read(12) {
		return nil, fmt.Errorf("RFB version: %w", err)
	}
	if v := string(b[:12]); v < Version || v[:4] != "RFB " {
		return nil, errors.New("the machine does not speak RFB 3.8")
	}
	write([]byte(Version)...)
	if !read(1) {
		return nil, fmt.Errorf("RFB security types: %w", err)
	}
	if b[0] == 0 {
		return nil, errors.New("the machine's VNC server refused the connection")
	}
	types := make([]byte, b[0])
	if _, err := io.ReadFull(c, types); err != nil {
		return nil, err
	}
	switch chosen := choose(types); chosen {
	case SecurityVNC:
		write(chosen)
		if read(16) {
			answer := Answer(password, b[:16])
			write(answer[:]...)
		}
	case SecurityNone:
		write(chosen)
	default:
		return nil, errors.New("the machine offers no supported security type")
	}
	if !read(4) {
		return nil, fmt.Errorf("RFB security result: %w", err)
	}
	if binary.BigEndian.Uint32(b[:]) != 0 {
		return nil, errors.New("the machine's VNC server refused the password")
	}
	write(1) // ClientInit: shared, so that one viewer does not disconnect another
	if !read(24) {
		return nil, fmt.Errorf("RFB server init: %w", err)
	}
	n := binary.BigEndian.Uint32(b[20:])
	if n > maxName {
		return nil, errors.New("the machine's desktop name is too long")
	}
	serverInit = append(b[:24:24], make([]byte, n)...)
	_, err = io.ReadFull(c, serverInit[24:])
	return serverInit, err
}

// choose prefers the password: a server that offers both has one.
func choose(types []byte) byte {
	var chosen byte
	for _, t := range types {
		if t == SecurityVNC || t == SecurityNone && chosen == 0 {
			chosen = t
		}
	}
	return chosen
}
