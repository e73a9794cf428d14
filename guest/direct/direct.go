// Package direct reads and writes sockets without what the net package's Read and Write imply: a buffer while a read waits, a
// goroutine of its own while a write might wait.
package direct

import (
	"io"
	"net"
	"syscall"
)

// Writer writes to a socket without waiting. It has one user at a time.
type Writer struct {
	raw syscall.RawConn
	p   []byte
	n   int
	f   func(uintptr) bool
}

// NewWriter returns nil if c is no socket: TLS, a filter.
func NewWriter(c net.Conn) *Writer {
	raw := socket(c)
	if raw == nil {
		return nil
	}
	w := &Writer{raw: raw}
	w.f = func(fd uintptr) bool {
		n, err := syscall.Write(int(fd), w.p)
		for err == syscall.EINTR {
			n, err = syscall.Write(int(fd), w.p)
		}
		w.n = max(n, 0)
		return true
	}
	return w
}

// Try writes what the socket takes now and returns how much that was. An error shows in the next Write that waits.
func (w *Writer) Try(p []byte) int {
	w.p, w.n = p, 0
	err := w.raw.Write(w.f)
	w.p = nil
	if err != nil {
		return 0
	}
	return w.n
}

func socket(c any) syscall.RawConn {
	s, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// Reader reads from a socket. It has one user at a time.
type Reader struct {
	raw  syscall.RawConn
	take func() []byte
	give func()
	n    int
	err  error
	f    func(uintptr) bool
}

// NewReader returns nil if r is no socket: TLS, a filter. take returns the buffer of a read, and give takes it back if
// nothing has arrived yet.
func NewReader(r io.Reader, take func() []byte, give func()) *Reader {
	raw := socket(r)
	if raw == nil {
		return nil
	}
	s := &Reader{raw: raw, take: take, give: give}
	s.f = func(fd uintptr) bool {
		p := s.take()
		s.n, s.err = syscall.Read(int(fd), p)
		for s.err == syscall.EINTR {
			s.n, s.err = syscall.Read(int(fd), p)
		}
		if s.err == syscall.EAGAIN {
			s.give()
			return false
		}
		return true
	}
	return s
}

// Read waits for something, and reads it into a buffer that it takes only then. The buffer is the caller's if n is above 0.
func (s *Reader) Read() (n int, err error) {
	s.n, s.err = 0, nil
	if err := s.raw.Read(s.f); err != nil {
		return 0, err
	}
	switch {
	case s.err != nil:
		s.give()
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: s.err}
	case s.n == 0:
		s.give()
		return 0, io.EOF
	}
	return s.n, nil
}
