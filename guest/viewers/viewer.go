package viewers

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// impossible is a size that every server refuses, with an answer to the viewer that asked. It has one part: x11vnc ignores a
// screen without parts.
var impossible = append([]byte{rfb.SetDesktopSize, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 16)...)

// viewer is a viewer's connection to the VNC server. What is written to it is what the viewer sends.
type viewer struct {
	net.Conn
	room *Room

	mu     sync.Mutex // held while the server is written to
	dialog rfb.Dialog
	head   []byte                 // of the current message, while its length is unknown; all of a request for a size
	left   uint64                 // remaining bytes of the current message
	out    []byte                 // of Write
	owed   atomic.Pointer[[]byte] // a request for a size that the guest makes for the viewer, between two messages of it

	// Guarded by room.mu.
	wants []byte // its latest request for a size; nil: it does not set one
	asked int    // when it made that
}

// Inlet returns the VNC server's connection: what it sends passes as it is.
func (v *viewer) Inlet() net.Conn { return v.Conn }

func (v *viewer) Write(p []byte) (int, error) {
	err := v.write(p)
	v.flush()
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (v *viewer) write(p []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out = v.out[:0]
	for len(p) > 0 {
		if v.left > 0 {
			n := min(uint64(len(p)), v.left)
			v.out = append(v.out, p[:n]...)
			p, v.left = p[n:], v.left-n
			continue
		}
		v.head, p = append(v.head, p[0]), p[1:]
		sizes := v.dialog.Open() && v.head[0] == rfb.SetDesktopSize
		total, err := v.dialog.Measure(v.head)
		switch n := uint64(len(v.head)); {
		case err != nil: // the viewer speaks something unknown: everything passes
			total = math.MaxUint64
		case total == 0 || sizes && n < total:
			continue
		}
		if sizes {
			if err := v.ask(); err != nil {
				return err
			}
			continue
		}
		v.out = append(v.out, v.head...)
		v.left = total - uint64(len(v.head))
		v.head = v.head[:0]
	}
	return v.pass()
}

// pass sends the server what waits in out.
func (v *viewer) pass() error {
	if len(v.out) == 0 {
		return nil
	}
	_, err := v.Conn.Write(v.out)
	v.out = v.out[:0]
	return err
}

// ask handles the request for a size in head.
func (v *viewer) ask() error {
	message := append([]byte(nil), v.head...)
	v.head = v.head[:0]
	v.room.sizes.Lock()
	defer v.room.sizes.Unlock()
	v.out = append(v.out, v.room.asks(v, message)...)
	_ = v.Conn.SetWriteDeadline(time.Now().Add(resizeWithin)) // the other viewers' requests wait
	defer v.Conn.SetWriteDeadline(time.Time{})
	return v.pass()
}

// flush makes the request that is owed, unless the viewer is in the middle of a message: then Write makes it later.
func (v *viewer) flush() {
	for v.owed.Load() != nil && v.mu.TryLock() {
		between := v.left == 0 && len(v.head) == 0
		if between {
			if message := v.owed.Swap(nil); message != nil {
				_, _ = v.Conn.Write(*message) // a broken connection also ends the viewer's reading
			}
		}
		v.mu.Unlock()
		if !between {
			return
		}
	}
}
