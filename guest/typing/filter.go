package typing

import (
	"context"
	"encoding/binary"
	"net"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/rfb"
)

// Filter returns the viewer's connection. What is read from it is what the viewer sends; each letter is ready before it can be
// read. ctx ends the wait for that.
func (k *Keyboard) Filter(ctx context.Context, c net.Conn) net.Conn {
	return &filter{Conn: c, ctx: ctx, keys: k, injected: map[uint32]bool{}}
}

// Outlet returns the viewer's connection: what is written to it passes as it is.
func (f *filter) Outlet() net.Conn { return f.Conn }

type filter struct {
	net.Conn
	ctx  context.Context // Read has none
	keys *Keyboard

	in       []byte
	unread   []byte // of in: received, not looked at
	buffer   []byte
	out      []byte // of buffer: may pass
	head     []byte // of the current message, while its length is unknown
	left     uint64 // remaining bytes of the current message
	dialog   rfb.Dialog
	injected map[uint32]bool // letters that the guest typed, until the viewer releases their keys
	passed   time.Time       // when the last key passed
	through  bool            // the viewer speaks something unknown: everything passes
}

func (f *filter) Read(p []byte) (n int, err error) {
	for len(f.out) == 0 {
		if len(f.unread) == 0 {
			n, err := f.Conn.Read(p) // an idle viewer needs no buffer of its own
			if n == 0 {
				return 0, err
			}
			f.in = append(emptied(f.in), p[:n]...)
			f.unread = f.in
		}
		f.buffer = f.pass(emptied(f.buffer))
		f.out = f.buffer
	}
	n = copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

// emptied returns b to be filled again, or nil if it was for an unusually long message: idle viewers keep no such buffer.
func emptied(b []byte) []byte {
	if cap(b) > 1<<10 {
		return nil
	}
	return b[:0]
}

// pass appends to out what may pass now: at most until the next letter, unless that comes first.
func (f *filter) pass(out []byte) []byte {
	for len(f.unread) > 0 {
		if f.through {
			f.left = uint64(len(f.unread))
		}
		if f.left > 0 {
			n := min(uint64(len(f.unread)), f.left)
			out = append(out, f.unread[:n]...)
			f.left -= n
			f.unread = f.unread[n:]
			continue
		}
		head := append(f.head, f.unread[0])
		total, symbol := f.measure(head)
		if symbol != 0 && len(out) > 0 {
			return out
		}
		f.head, f.unread = head, f.unread[1:]
		if total == 0 && !f.through {
			continue
		}
		if symbol != 0 {
			f.keys.Ready(f.ctx, symbol, f.ahead()...)
		}
		if f.done(symbol) {
			f.head = f.head[:0]
			continue
		}
		out = append(out, f.head...)
		if f.dialog.Open() && (f.head[0] == rfb.KeyEvent || f.head[0] == rfb.QEMU) {
			f.passed = time.Now()
		}
		f.left = total - min(total, uint64(len(f.head)))
		f.head = f.head[:0]
	}
	return out
}

// done reports whether the message in head needs not pass: the guest has typed the letter, or its key is released.
func (f *filter) done(symbol uint32) bool {
	if symbol != 0 {
		f.injected[symbol] = f.keys.typed(f.ctx, symbol, f.passed)
		if !f.injected[symbol] {
			delete(f.injected, symbol)
		}
		return f.injected[symbol]
	}
	if !f.dialog.Open() || len(f.injected) == 0 || len(f.head) < 8 || f.head[0] != rfb.KeyEvent && f.head[0] != rfb.QEMU {
		return false
	}
	symbol = binary.BigEndian.Uint32(f.head[4:])
	was := f.injected[symbol]
	delete(f.injected, symbol)
	return was
}

// measure returns the message's total length, 0 while head is too short, and the symbol of the key that it presses.
func (f *filter) measure(head []byte) (total uint64, symbol uint32) {
	open := f.dialog.Open()
	total, err := f.dialog.Measure(head)
	if err != nil {
		f.through = true
		return 0, 0
	}
	if total > 0 && open {
		symbol = pressed(head)
	}
	return total, symbol
}

// pressed returns the symbol of the key that the message presses; 0: it is another message.
func pressed(message []byte) uint32 {
	switch {
	case message[0] == rfb.KeyEvent && message[1] != 0, message[0] == rfb.QEMU && message[2]|message[3] != 0:
		return binary.BigEndian.Uint32(message[4:])
	}
	return 0
}

// ahead returns the symbols of the keys that follow at once.
func (f *filter) ahead() (symbols []uint32) {
	for b := f.unread; len(b) > 0; {
		total, _, err := rfb.Measure(b)
		if err != nil || total == 0 || total > uint64(len(b)) {
			break
		}
		if s := pressed(b); s != 0 {
			symbols = append(symbols, s)
		}
		b = b[total:]
	}
	return symbols
}
