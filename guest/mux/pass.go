package mux

import (
	"io"
	"net"
	"os"
	"sync"
)

// Sink takes what arrives for a stream, in the session's own goroutine: it must never wait. It gets buf[at:] and may overwrite
// buf. It returns how many bytes it took, and whether it is ready for more.
type Sink interface {
	Offer(buf []byte, at int) (n int, ready bool)
}

// Direct hands what arrives to sink, so that no other goroutine has to wake up for it. It returns once the sink is not ready or
// has not taken everything, or the stream or the session has ended, or the deadline of reads has passed. waits says that Read
// has something to return.
func (st *Stream) Direct(sink Sink) (waits bool) {
	st.reading.Lock()
	defer st.reading.Unlock()
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ripe() {
		return true
	}
	st.sink = sink
	for st.sink != nil && !st.ripe() {
		by := st.readBy
		st.mu.Unlock()
		err := st.wait(st.readable, by)
		st.mu.Lock()
		if err != nil {
			break
		}
	}
	waits = st.sink != nil || st.in.size > 0
	st.sink = nil
	return waits
}

// ripe reports whether Read would return at once. st.mu is held.
func (st *Stream) ripe() bool {
	return st.closed || st.over || st.reset || st.in.size > 0 || past(st.readBy)
}

// deliver gives bytes that arrived to the sink or to readers.
func (st *Stream) deliver(buf []byte, at int) {
	st.mu.Lock()
	if st.closed || st.over {
		st.mu.Unlock()
		return
	}
	more := uint32(0)
	wake := true
	if st.sink != nil {
		n, ready := st.sink.Offer(buf, at)
		at += n
		if ready {
			more = st.allow(uint32(n))
		} else { // the sink may hold it: it is allowed again with what comes next
			more = st.allow(0)
			st.taken += uint32(n)
		}
		if wake = !ready || at < len(buf); wake {
			st.sink = nil
		}
	}
	st.in.put(buf[at:])
	queue := more > 0 && st.grant == 0
	st.grant += more
	st.mu.Unlock()
	if wake {
		signal(st.readable)
	}
	if queue {
		st.s.grant(st)
	}
}

// granted returns the frame that allows the other end what deliver granted, once.
func (st *Stream) granted() (head [headerSize]byte, ok bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	more := st.grant
	st.grant = 0
	return frame(typeWindow, 0, st.id, more), more > 0 && !st.closed
}

var sends = sync.Pool{New: func() any { return new([Room + Large]byte) }}

// Write sends p. It returns once everything was handed to the connection.
func (st *Stream) Write(p []byte) (n int, err error) {
	st.writing.Lock()
	defer st.writing.Unlock()
	for n < len(p) {
		size, err := st.reserve(len(p) - n)
		if err != nil {
			return n, err
		}
		buf := sends.Get().(*[Room + Large]byte)
		copy(buf[Room:], p[n:n+size])
		err = st.data(buf[:Room+size], Room)
		sends.Put(buf)
		if err != nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// ReadFrom sends what it reads from r, until the end of r, which is none, or an error. It has no buffer while it waits for the
// other end, nor, if r is a socket, while it waits for r.
func (st *Stream) ReadFrom(r io.Reader) (sum int64, err error) {
	in := NewInput(r, Large, nil)
	for {
		size, err := st.reserve(Large)
		if err != nil {
			return sum, err
		}
		in.most = size
		buf, at, err := in.Next(size)
		unused := size - (len(buf) - at)
		st.mu.Lock()
		st.room += uint32(unused)
		closed := st.closed
		st.mu.Unlock()
		switch {
		case err == io.EOF:
			return sum, nil
		case err != nil:
			return sum, err
		case closed:
			return sum, net.ErrClosed
		}
		n := len(buf) - at
		st.writing.Lock()
		err = st.data(buf, at)
		st.writing.Unlock()
		in.Done()
		if err != nil {
			return sum, err
		}
		sum += int64(n)
	}
}

// data sends buf[at:] as one frame, and overwrites buf.
func (st *Stream) data(buf []byte, at int) error {
	h := frame(typeData, 0, st.id, uint32(len(buf)-at))
	at -= headerSize
	copy(buf[at:], h[:])
	return st.s.send(buf, at)
}

// reserve waits until this end may send something, and returns how many bytes it may send now, at most n.
func (st *Stream) reserve(n int) (size int, err error) {
	for {
		st.mu.Lock()
		by := st.writeBy
		size = min(n, int(st.room), Large)
		switch {
		case st.closed:
			err = net.ErrClosed
		case st.reset:
			err = ErrReset
		case past(by):
			err = os.ErrDeadlineExceeded
		default:
			st.room -= uint32(size)
		}
		st.mu.Unlock()
		if err != nil || size > 0 {
			return size, err
		}
		if err := st.wait(st.writable, by); err != nil {
			return 0, err
		}
	}
}
