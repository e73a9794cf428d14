package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// maxName bounds the desktop's name in ServerInit.
const maxName = 4 << 10

// unlock performs the viewer's half of the handshake with the machine and returns its ServerInit.
func unlock(c io.ReadWriter, password string) (serverInit []byte, err error) {
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
	if v := string(b[:12]); v < rfb.Version || v[:4] != "RFB " {
		return nil, errors.New("the machine does not speak RFB 3.8")
	}
	write([]byte(rfb.Version)...)
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
	case rfb.SecurityVNC:
		write(chosen)
		if read(16) {
			answer := rfb.Answer(password, b[:16])
			write(answer[:]...)
		}
	case rfb.SecurityNone:
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
		if t == rfb.SecurityVNC || t == rfb.SecurityNone && chosen == 0 {
			chosen = t
		}
	}
	return chosen
}

// viewFilter forwards a viewer's messages, except those that act on the desktop. A message may be split
// between calls at any byte; only its head is kept.
type viewFilter struct {
	head []byte // of the current message, while its length is unknown
	left uint64 // remaining bytes of the current message
	drop bool   // whether the remaining bytes are dropped
}

func (f *viewFilter) pass(out, in []byte) ([]byte, error) {
	for len(in) > 0 {
		if f.left > 0 {
			n := min(uint64(len(in)), f.left)
			if !f.drop {
				out = append(out, in[:n]...)
			}
			f.left -= n
			in = in[n:]
			continue
		}
		f.head = append(f.head, in[0])
		in = in[1:]
		total, drop, err := measure(f.head)
		if err != nil {
			return out, err
		}
		if total == 0 {
			continue
		}
		if !drop {
			out = append(out, f.head...)
		}
		f.left, f.drop = total-uint64(len(f.head)), drop
		f.head = f.head[:0]
	}
	return out, nil
}

// measure returns a message's total length, 0 while head is too short, and whether view mode drops it. It
// knows only the messages that viewers send.
func measure(head []byte) (total uint64, drop bool, err error) {
	// fixed is the length of the head that determines the total; extra is the number of bytes that follow it.
	fixed := func(n int, drop bool, extra func() uint64) (uint64, bool, error) {
		if len(head) < n {
			return 0, false, nil
		}
		total := uint64(n)
		if extra != nil {
			total += extra()
		}
		return total, drop, nil
	}
	switch head[0] {
	case rfb.SetPixelFormat:
		return fixed(20, false, nil)
	case rfb.SetEncodings:
		return fixed(4, false, func() uint64 { return 4 * uint64(binary.BigEndian.Uint16(head[2:])) })
	case rfb.FramebufferUpdateRequest:
		return fixed(10, false, nil)
	case rfb.KeyEvent:
		return fixed(8, true, nil)
	case rfb.PointerEvent: // the highest bit of the mask announces one more byte of buttons
		return fixed(6, true, func() uint64 { return uint64(head[1] >> 7) })
	case rfb.ClientCutText: // a negative length is the extended clipboard's
		return fixed(8, true, func() uint64 {
			n := int64(int32(binary.BigEndian.Uint32(head[4:])))
			return uint64(max(n, -n))
		})
	case 150: // EnableContinuousUpdates
		return fixed(10, false, nil)
	case 248: // ClientFence
		return fixed(9, false, func() uint64 { return uint64(head[8]) })
	case 250: // xvp: shutdown, reboot
		return fixed(4, true, nil)
	case 251: // SetDesktopSize
		return fixed(8, true, func() uint64 { return 16 * uint64(head[6]) })
	case 255: // QEMU: the extended key event is the one in use
		if len(head) >= 2 && head[1] != 0 {
			return 0, false, fmt.Errorf("unknown QEMU message %d", head[1])
		}
		return fixed(12, true, nil)
	}
	return 0, false, fmt.Errorf("unknown message %d", head[0])
}
