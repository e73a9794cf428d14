package activity

import (
	"context"
	"encoding/binary"
	"math"
	"net"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// Viewer returns a function that serves a viewer's connection as serve does, and counts its input.
func (t *Tracker) Viewer(serve func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		return serve(ctx, &viewer{Conn: c, used: func() { t.touch(&t.input) }})
	}
}

// Outlet returns the viewer's connection: what is written to it passes as it is.
func (v *viewer) Outlet() net.Conn { return v.Conn }

// viewer is a viewer's connection. What is read from it is what the viewer sends.
type viewer struct {
	net.Conn
	used func()

	dialog   rfb.Dialog
	head     []byte  // of the current message, until it is known whether it is input
	left     uint64  // remaining bytes of the current message
	pointer  [6]byte // the latest pointer event; zero: none yet
	announce bool    // the viewer says when it has a new text, so it sends one only on request
	through  bool    // the viewer sends something unknown
}

func (v *viewer) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	v.look(p[:n])
	return n, err
}

func (v *viewer) look(p []byte) {
	if v.through && len(p) > 0 {
		v.used()
		return
	}
	for len(p) > 0 {
		if v.left > 0 {
			n := min(uint64(len(p)), v.left)
			p, v.left = p[n:], v.left-n
			continue
		}
		v.head, p = append(v.head, p[0]), p[1:]
		open := v.dialog.Open()
		total, err := v.dialog.Measure(v.head)
		have := uint64(len(v.head))
		switch {
		case err != nil:
			v.through = true
			v.used()
			return
		case total == 0 || have < needed(open, v.head, total):
			continue
		}
		if open && v.isInput(total) {
			v.used()
		}
		v.left = total - min(total, have)
		v.head = v.head[:0]
	}
}

const (
	extendedFlags = 12      // bytes of a text's message up to the flags of the extended clipboard
	abilities     = 1 << 24 // the message only says what the viewer can do
	notify        = 1 << 27
	provide       = 1 << 28
)

// needed returns how many bytes of a message decide whether it is input.
func needed(open bool, head []byte, total uint64) uint64 {
	if open && head[0] == rfb.ClientCutText {
		return min(total, extendedFlags)
	}
	return 1
}

// isInput reports whether the message that begins with head was made by a user's hand. Programs of the viewer send the
// others: requests for pictures, sizes of the window, and what the server asks for.
func (v *viewer) isInput(total uint64) bool {
	switch h := v.head; h[0] {
	case rfb.KeyEvent: // a release follows a press, or the viewer lost the focus
		return h[1] != 0
	case rfb.QEMU:
		return h[2]|h[3] != 0
	case rfb.PointerEvent:
		// The first one has none before to compare with.
		before, at := v.pointer, [6]byte(h)
		first := before[0] == 0
		v.pointer = at
		more := at[1]&0x80 != 0 // buttons in one more byte
		return more || first && at[1] != 0 || !first && at != before
	case rfb.ClientCutText:
		return v.isText(total)
	}
	return false
}

// isText reports whether the user pasted a text.
func (v *viewer) isText(total uint64) bool {
	if int32(binary.BigEndian.Uint32(v.head[4:])) >= 0 {
		return total > 8
	}
	if len(v.head) < extendedFlags {
		return false
	}
	flags := binary.BigEndian.Uint32(v.head[8:])
	switch {
	case flags&abilities != 0:
		return false
	case flags&notify != 0:
		v.announce = true
		return flags&math.MaxUint16 != 0 // formats
	}
	return flags&provide != 0 && !v.announce
}
