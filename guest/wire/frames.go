package wire

import (
	"encoding/binary"
	"io"
	"net/http"
	"sync"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// JoinFrames returns a transport for WebSocket clients whose frames leave in large writes. The WebSocket library masks a frame
// in pieces of 4 KiB and writes each of them; of a screen's worth of pixels, that was most of the time a tunnel took.
func JoinFrames(t http.RoundTripper) http.RoundTripper { return joining{t} }

type joining struct{ http.RoundTripper }

func (j joining) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := j.RoundTripper.RoundTrip(r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		return res, err
	}
	if c, ok := res.Body.(io.ReadWriteCloser); ok {
		res.Body = &frames{ReadWriteCloser: c}
	}
	return res, nil
}

// joinedBytes bounds what waits for the rest of its frame: one of package mux with its WebSocket header fits.
const joinedBytes = mux.MaxFrame + 14

var joined = sync.Pool{New: func() any { return new([joinedBytes]byte) }}

// frames is a WebSocket client's connection after its handshake. Its Write keeps a part of a frame back until the frame is
// whole or joinedBytes have come together. The library never has more than one Write at a time.
type frames struct {
	io.ReadWriteCloser
	buffer  *[joinedBytes]byte // nil: nothing waits
	waiting []byte             // in it
	head    []byte             // of the next frame, while it is not whole
	left    uint64             // payload of the current frame that has not been written yet
}

func (f *frames) Write(p []byte) (int, error) {
	whole := f.follow(p)
	if whole && len(f.waiting) == 0 {
		return f.ReadWriteCloser.Write(p)
	}
	if f.buffer == nil {
		f.buffer = joined.Get().(*[joinedBytes]byte)
		f.waiting = f.buffer[:0]
	}
	for rest := p; len(rest) > 0; {
		n := copy(f.waiting[len(f.waiting):joinedBytes], rest)
		f.waiting, rest = f.waiting[:len(f.waiting)+n], rest[n:]
		if len(f.waiting) < joinedBytes && (!whole || len(rest) > 0) {
			continue
		}
		if _, err := f.ReadWriteCloser.Write(f.waiting); err != nil {
			return 0, err
		}
		f.waiting = f.waiting[:0]
	}
	if whole {
		joined.Put(f.buffer) // an idle tunnel keeps none
		f.buffer, f.waiting = nil, nil
	}
	return len(p), nil
}

// follow reads what p continues, and reports whether a frame ends with it.
func (f *frames) follow(p []byte) (whole bool) {
	for len(p) > 0 {
		if f.left == 0 {
			f.head = append(f.head, p[0])
			p = p[1:]
			if size, ok := frameSize(f.head); ok {
				f.left, f.head = size, f.head[:0]
			}
			continue
		}
		n := min(uint64(len(p)), f.left)
		p, f.left = p[n:], f.left-n
	}
	return f.left == 0 && len(f.head) == 0
}

// frameSize returns the length of a frame's payload by its header (RFC 6455, section 5.2); false while the header is not
// whole.
func frameSize(head []byte) (uint64, bool) {
	if len(head) < 2 {
		return 0, false
	}
	size, length := uint64(head[1]&0x7f), 2
	switch size {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	sized := length
	if head[1]&0x80 != 0 {
		length += 4 // the mask
	}
	if len(head) < length {
		return 0, false
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(head[2:sized]))
	case 127:
		size = binary.BigEndian.Uint64(head[2:sized])
	}
	return size, true
}
