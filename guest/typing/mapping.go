package typing

import (
	"time"

	"github.com/cloudbot-ai/control-plane/guest/xevents"
)

// Requests and events of the core protocol, and of XTEST.
const (
	keyPress, keyRelease  = 2, 3
	fakeInput             = 2
	queryExtension        = 98
	queryKeymap           = 44
	changeKeyboardMapping = 100
	getKeyboardMapping    = 101
	mappingNotify         = 34
)

// mapping is what the key codes mean.
type mapping struct {
	codes    map[uint32]byte   // of the symbols that a viewer can type
	free     []byte            // without a symbol
	unneeded []byte            // with a symbol that no program and no keyboard uses
	letters  map[byte]struct{} // given to letters that the keyboard lacks
}

// parse reads a mapping of n symbols a code. used has the codes that were free or unneeded before, and gets those that are now.
func parse(first byte, n int, b []byte, used map[byte]time.Time) mapping {
	m := mapping{codes: map[uint32]byte{}, letters: map[byte]struct{}{}}
	for code := int(first); len(b) >= 4*n && n > 0 && code <= 255; code, b = code+1, b[4*n:] {
		c := byte(code)
		var symbols []uint32 // of the first group: two levels, and the third and fourth behind the second group
		for i := range n {
			if s := xevents.Order.Uint32(b[4*i:]); s != 0 && (i < 2 || i == 4 || i == 5) {
				symbols = append(symbols, s)
			}
		}
		_, ours := used[c]
		switch {
		case blank(b[:4*n]):
			m.free = append(m.free, c)
		case len(symbols) > 0 && isUnneeded(symbols[0]):
			m.unneeded = append(m.unneeded, c)
		case len(symbols) > 0 && isLetter(symbols[0]) && ours:
			m.letters[c] = struct{}{}
		default:
			delete(used, c)
			for _, s := range symbols {
				if _, has := m.codes[s]; !has {
					m.codes[s] = c
				}
			}
			continue
		}
		if !ours {
			used[c] = time.Time{}
		}
		for _, s := range symbols {
			m.codes[s] = c
		}
	}
	return m
}

func blank(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// isLetter reports whether the symbol is a character: neither a key with a function nor a modifier, for which the VNC server
// knows replacements. Dead keys count.
func isLetter(symbol uint32) bool {
	return symbol > 0x20 && symbol < 0xfd00 || symbol >= 0xfe50 && symbol < 0xfea0 || symbol >= 0x01000000 && symbol < 0x01110000
}

// isUnneeded reports whether the symbol is of a rare key, such as XF86Finance or XF86UWB, of which the US keyboard has dozens.
// Keys that desktops react to, for volume, brightness, mail or media, are needed.
func isUnneeded(symbol uint32) bool {
	if symbol>>8 != 0x1008ff {
		return false
	}
	switch low := symbol & 0xff; low {
	case 0x04, 0x07, // KbdLightOnOff, MonBrightnessCycle
		0x36, 0x3c, // Shop, Finance
		0x5a, 0x5e, 0x5f, 0x65, 0x68, // DOS, Game, Go, MenuKB, New
		0x6b, 0x6e, 0x72, 0x74, 0x77, // Open, Phone, Reply, RotateWindows, Save
		0x78, 0x79, 0x7b, 0x7f, 0x8a, // ScrollUp, ScrollDown, Send, TaskPane, Xfer
		0x8e, 0x8f, 0x90, // Messenger, WebCam, MailForward
		0x93, 0x94, 0x95, 0x96, // Battery, Bluetooth, WLAN, UWB
		0xa9, 0xb0, 0xb1, 0xb4, 0xb5, 0xb6: // TouchpadToggle, TouchpadOn, TouchpadOff, WWAN, RFKill, AudioPreset
		return true
	default:
		return low >= 0x41 && low <= 0x4b // Launch1 to Launch9, LaunchA, LaunchB
	}
}
