package mux

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"time"
)

// Of a window's size.
const (
	// growsWithin says that a window grows if its reader takes a part of it, see allow, within so many round trips.
	growsWithin = 2
	// near is a round trip below which windows grow only for a reader that takes bytes as fast as a machine can send them, and
	// only to nearWindow: with 256 KiB, each part of the path waits for the next one several thousand times a second. More than
	// lineBytes have to pass first without a part of a window taking lineTime: the kernel's buffers take fewer for a reader that
	// has stopped, and a reader of pictures, or one that stops after fewer bytes, leaves 256 KiB waiting at most.
	near       = 2 * time.Millisecond
	nearWindow = 1 << 20
	lineBytes  = 32 << 20
	lineTime   = 4 * time.Millisecond
	// shrinksAfter is how long a reader takes for a part of a window that is no longer needed.
	shrinksAfter = time.Second / 2
)

// Stream is a net.Conn. Close ends both directions, and a Read or Write that waits.
type Stream struct {
	s  *Session
	id uint32

	writing sync.Mutex // one Write at a time
	reading sync.Mutex // one Read at a time: a token wakes only one

	mu       sync.Mutex
	in       buffer
	sink     Sink      // takes what arrives; nil: in does
	window   uint32    // bytes that may wait for the reader
	allowed  uint32    // bytes of it that the other end may still send
	taken    uint32    // bytes that were read and not allowed again yet
	updated  time.Time // when bytes were last allowed
	line     int64     // bytes that were read as fast as a machine can send them
	grant    uint32    // bytes that the session's answer allows the other end
	room     uint32    // bytes that this end may still send
	closed   bool      // by this end
	over     bool      // the other end sends no more
	reset    bool
	readBy   time.Time
	writeBy  time.Time
	patience *time.Timer // for the other end to close

	readable, writable chan struct{} // has a token if there is something to look at
}

// Read reads what has arrived, and waits for something. It returns io.EOF after the other end closed the stream.
func (st *Stream) Read(p []byte) (int, error) {
	st.reading.Lock()
	defer st.reading.Unlock()
	for {
		st.mu.Lock()
		by := st.readBy
		switch {
		case st.closed:
			st.mu.Unlock()
			return 0, net.ErrClosed
		case past(by): // even if there is something to read: an end that sends without a pause cannot delay it
			st.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0 || st.in.size > 0:
			n := st.in.take(p)
			more := st.allow(uint32(n))
			st.mu.Unlock()
			if more > 0 {
				_ = st.s.sendHead(frame(typeWindow, 0, st.id, more)) // the next Read meets the error
			}
			return n, nil
		case st.reset:
			st.mu.Unlock()
			return 0, ErrReset
		case st.over:
			st.mu.Unlock()
			return 0, io.EOF
		}
		st.mu.Unlock()
		if err := st.wait(st.readable, by); err != nil {
			return 0, err
		}
	}
}

func past(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// wait waits for a token, a deadline or the end of the session.
func (st *Stream) wait(token <-chan struct{}, by time.Time) error {
	var late <-chan time.Time
	if !by.IsZero() {
		left := time.Until(by)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		timer := time.NewTimer(left)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-token:
		return nil
	case <-late:
		return os.ErrDeadlineExceeded
	case <-st.s.done:
	}
	// What arrived before the session's end counts first: bytes, and how the stream ended.
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.reset || token == st.readable && (st.in.size > 0 || st.over) {
		return nil
	}
	return st.s.Err()
}

// allow returns how many bytes more the other end may send after n were read, and resizes the window. st.mu is held.
//
// A grown window is allowed again in quarters: in halves, a reader whose pieces cross the half late would have half a window a
// round trip.
func (st *Stream) allow(n uint32) (more uint32) {
	part := st.window / 2
	if st.window > initialWindow {
		part = st.window / 4
	}
	if st.taken += n; st.taken < part || st.over {
		return 0
	}
	now, rtt := time.Now(), st.s.RTT()
	took := now.Sub(st.updated)
	more, st.taken, st.updated = st.taken, 0, now
	if st.line += int64(more); took > lineTime {
		st.line = 0
	}
	grows, most := took < growsWithin*rtt, uint32(MaxWindow)
	if rtt < near {
		grows, most = st.line > lineBytes, nearWindow
	}
	wider := min(st.window, max(most, st.window)-st.window)
	switch {
	case grows && wider > 0 && st.s.grow(int64(wider)):
		more += wider
		st.window += wider
	case took > shrinksAfter && st.window > initialWindow:
		less := min(more, st.window-initialWindow)
		more -= less
		st.window -= less
		st.s.grown.Add(-int64(less))
	}
	st.allowed += more
	return more
}

// grow takes bytes of what all windows may grow by.
func (s *Session) grow(n int64) bool {
	if s.grown.Add(n) <= s.c.Growth {
		return true
	}
	s.grown.Add(-n)
	return false
}

// receive reads n bytes of a data frame.
func (st *Stream) receive(n uint32) error {
	st.mu.Lock()
	if n > st.allowed {
		st.mu.Unlock()
		return fmt.Errorf("%w: %d bytes, where %d are allowed", errProtocol, n, st.allowed)
	}
	st.allowed -= n
	st.mu.Unlock()
	for n > 0 {
		buf, at, err := st.s.arrived(int(n))
		if err != nil {
			return err
		}
		n -= uint32(len(buf) - at)
		st.deliver(buf, at)
	}
	return nil
}

// widen lets this end send n bytes more.
func (st *Stream) widen(n uint32) error {
	if n == 0 {
		return nil
	}
	st.mu.Lock()
	if uint64(st.room)+uint64(n) > math.MaxUint32 {
		st.mu.Unlock()
		return fmt.Errorf("%w: a window above 4 GiB", errProtocol)
	}
	st.room += n
	st.mu.Unlock()
	signal(st.writable)
	return nil
}

// ended notes that the other end closed or reset the stream.
func (st *Stream) ended(reset bool) {
	st.mu.Lock()
	st.over = true
	st.reset = st.reset || reset
	gone := st.closed || reset
	if gone && st.patience != nil {
		st.patience.Stop()
	}
	st.mu.Unlock()
	if gone {
		st.s.remove(st)
	}
	signal(st.readable)
	signal(st.writable)
}

func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// Close closes the stream. What has arrived and was not read is lost.
func (st *Stream) Close() error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	st.in.clear()
	st.s.grown.Add(-int64(st.window - initialWindow))
	st.window = initialWindow
	gone := st.over
	if !gone {
		st.patience = time.AfterFunc(st.s.c.CloseTimeout, func() {
			st.s.remove(st)
			st.s.owe(frame(typeWindow, flagRST, st.id, 0))
		})
	}
	reset := st.reset
	st.mu.Unlock()
	if gone {
		st.s.remove(st)
	}
	signal(st.readable)
	signal(st.writable)
	if reset {
		return nil
	}
	return st.s.sendHead(frame(typeWindow, flagFIN, st.id, 0))
}

// SetDeadline sets both deadlines; a zero time means none.
func (st *Stream) SetDeadline(t time.Time) error {
	_ = st.SetReadDeadline(t)
	return st.SetWriteDeadline(t)
}

// SetReadDeadline also applies to a Read that waits.
func (st *Stream) SetReadDeadline(t time.Time) error {
	st.mu.Lock()
	st.readBy = t
	st.mu.Unlock()
	signal(st.readable)
	return nil
}

// SetWriteDeadline also applies to a Write that waits.
func (st *Stream) SetWriteDeadline(t time.Time) error {
	st.mu.Lock()
	st.writeBy = t
	st.mu.Unlock()
	signal(st.writable)
	return nil
}

// LocalAddr and RemoteAddr name the stream.
func (st *Stream) LocalAddr() net.Addr  { return addr(st.id) }
func (st *Stream) RemoteAddr() net.Addr { return addr(st.id) }

type addr uint32

func (addr) Network() string  { return "mux" }
func (a addr) String() string { return fmt.Sprint("stream ", uint32(a)) }

var _ net.Conn = (*Stream)(nil)
