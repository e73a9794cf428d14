package activity

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
)

// acts has the gateway's methods that a user's own act leads to. A page calls all others by itself.
var acts = map[string]bool{
	"chat.send": true, "chat.abort": true, "agent": true, "sessions.send": true, "sessions.steer": true, "sessions.abort": true,
	"sessions.create": true, "sessions.patch": true, "sessions.reset": true, "sessions.delete": true,
	"exec.approval.resolve": true, "plugin.approval.resolve": true, "question.resolve": true,
}

// Chat returns a function that serves a connection to the agent as serve does, and counts what its user does there.
func (t *Tracker) Chat(serve func(context.Context, net.Conn) error) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		return serve(ctx, &talker{Conn: c, used: t.Chatted})
	}
}

const (
	maxText  = 4 << 10  // bytes of a message in which its method is looked for
	maxFront = 64 << 10 // bytes of the request that opens a WebSocket
)

// talker is a browser's connection to the agent: the request that opens a WebSocket, then its frames. What is read from it
// is what the browser sends.
type talker struct {
	net.Conn
	used func()

	front   int    // bytes of the request so far
	end     int    // bytes of its end that were seen in a row
	opened  bool   // the request is over
	head    []byte // of the current frame, while it is not complete
	left    uint64 // bytes of its payload that follow
	mask    [4]byte
	at      int    // place of the next byte in the mask
	control bool   // the frame is not part of a message
	last    bool   // it is the last one of its message
	text    []byte // of the message, at most maxText bytes
	more    bool   // the message is longer
	lost    bool   // what it sends is not understood
}

func (k *talker) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	k.look(p[:n])
	return n, err
}

func (k *talker) look(p []byte) {
	if !k.opened && !k.lost {
		p = k.open(p)
	}
	if k.lost && len(p) > 0 {
		k.used()
		return
	}
	for len(p) > 0 {
		if k.left == 0 {
			var complete bool
			if p, complete = k.frame(p); !complete {
				return
			}
		}
		n := int(min(uint64(len(p)), k.left))
		k.take(p[:n])
		p, k.left = p[n:], k.left-uint64(n)
		if k.left == 0 {
			k.over()
		}
	}
}

// open looks for the end of the request and returns what follows it.
func (k *talker) open(p []byte) []byte {
	const end = "\r\n\r\n"
	for i, b := range p {
		switch {
		case b == end[k.end]:
			k.end++
		case b == end[0]:
			k.end = 1
		default:
			k.end = 0
		}
		if k.end == len(end) {
			k.opened = true
			return p[i+1:]
		}
		if k.front++; k.front > maxFront {
			k.lost = true
			return p[i:]
		}
	}
	return nil
}

// frame reads the head of a frame and returns what follows it; complete: it is whole.
func (k *talker) frame(p []byte) (rest []byte, complete bool) {
	for len(p) > 0 {
		k.head, p = append(k.head, p[0]), p[1:]
		n, h := 2, k.head
		if len(h) < n {
			continue
		}
		size := uint64(h[1] & 0x7f)
		switch size {
		case 126:
			n += 2
		case 127:
			n += 8
		}
		masked := h[1]&0x80 != 0
		if masked {
			n += 4
		}
		if len(h) < n {
			continue
		}
		switch size {
		case 126:
			size = uint64(binary.BigEndian.Uint16(h[2:]))
		case 127:
			size = binary.BigEndian.Uint64(h[2:])
		}
		k.mask, k.at = [4]byte{}, 0
		if masked {
			k.mask = [4]byte(h[n-4:])
		}
		k.last, k.control, k.left = h[0]&0x80 != 0, h[0]&0x08 != 0, size
		k.head = k.head[:0]
		if size == 0 {
			k.over()
			continue
		}
		return p, true
	}
	return nil, false
}

// take adds a piece of the frame's payload to the message.
func (k *talker) take(p []byte) {
	if k.control {
		return
	}
	n := min(len(p), maxText-len(k.text))
	for _, b := range p[:n] {
		k.text = append(k.text, b^k.mask[k.at])
		k.at = (k.at + 1) % len(k.mask)
	}
	k.more = k.more || n < len(p)
}

// over handles the end of a frame.
func (k *talker) over() {
	if k.control || !k.last {
		return
	}
	name, known := methodIn(k.text)
	// The method of a long message may come after its content. Only what a user writes is long.
	if known && acts[name] || !known && k.more {
		k.used()
	}
	k.text, k.more = k.text[:0], false
}

// methodIn returns the method of a request that may be cut off; known: it was found.
func methodIn(text []byte) (name string, known bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return "", false
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", false
		}
		if key == "method" {
			t, err := d.Token()
			name, _ = t.(string)
			return name, err == nil
		}
		var skipped json.RawMessage
		if d.Decode(&skipped) != nil {
			return "", false
		}
	}
	return "", false
}
