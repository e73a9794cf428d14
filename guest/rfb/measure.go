package rfb

import (
	"encoding/binary"
	"fmt"
)

// QEMU begins QEMU's messages, of which viewers send the key event: 0, down (2 bytes), keysym and key code (4 bytes each).
const QEMU = 255

// Measure returns the total length of a viewer's message, 0 while head is too short, and whether it acts on the desktop.
func Measure(head []byte) (total uint64, acts bool, err error) {
	// fixed is the length of the head that determines the total; extra is the number of bytes that follow it.
	fixed := func(n int, acts bool, extra func() uint64) (uint64, bool, error) {
		if len(head) < n {
			return 0, false, nil
		}
		total := uint64(n)
		if extra != nil {
			total += extra()
		}
		return total, acts, nil
	}
	switch head[0] {
	case SetPixelFormat:
		return fixed(20, false, nil)
	case SetEncodings:
		return fixed(4, false, func() uint64 { return 4 * uint64(binary.BigEndian.Uint16(head[2:])) })
	case FramebufferUpdateRequest:
		return fixed(10, false, nil)
	case KeyEvent:
		return fixed(8, true, nil)
	case PointerEvent: // the highest bit of the mask announces one more byte of buttons
		return fixed(6, true, func() uint64 { return uint64(head[1] >> 7) })
	case ClientCutText: // a negative length is the extended clipboard's
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
	case SetDesktopSize:
		return fixed(8, true, func() uint64 { return 16 * uint64(head[6]) })
	case QEMU: // the extended key event is the one in use
		if len(head) >= 2 && head[1] != 0 {
			return 0, false, fmt.Errorf("unknown QEMU message %d", head[1])
		}
		return fixed(12, true, nil)
	}
	return 0, false, fmt.Errorf("unknown message %d", head[0])
}

// Dialog measures all that a viewer sends: its part of the handshake, then messages. The zero Dialog is at the beginning.
type Dialog struct {
	part     int
	password bool
}

// Open reports whether the handshake is over.
func (d *Dialog) Open() bool { return d.part == 4 }

// Password reports whether the viewer chose the VNC authentication.
func (d *Dialog) Password() bool { return d.password }

// Measure returns the length of what begins with head, as the function Measure does. It is called again with a longer head
// until the length is known.
func (d *Dialog) Measure(head []byte) (total uint64, err error) {
	if d.Open() {
		total, _, err = Measure(head)
		return total, err
	}
	n := d.handshake(head)
	if n == 0 {
		return 0, fmt.Errorf("unknown handshake %.12q", head)
	}
	if len(head) < n {
		return 0, nil
	}
	if d.part == 1 {
		d.password = head[0] == SecurityVNC
		if !d.password {
			d.part++
		}
	}
	d.part++
	return uint64(n), nil
}

// handshake returns the length of the current part; 0: it is unknown.
func (d *Dialog) handshake(head []byte) int {
	switch d.part {
	case 0:
		if n := min(len(head), len(Version)); Version[:n] == string(head[:n]) {
			return len(Version)
		}
	case 1: // security type
		if head[0] == SecurityNone || head[0] == SecurityVNC {
			return 1
		}
	case 2: // answer of the VNC authentication
		return 16
	case 3: // ClientInit
		return 1
	}
	return 0
}
