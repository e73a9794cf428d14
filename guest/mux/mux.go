// Package mux carries streams over one connection, as the tunnel between machine and control plane needs it: in the format of
// yamux (github.com/hashicorp/yamux, spec.md, version 0), so guests and servers of other releases understand it.
//
// The one thing to know: each stream has a window, the bytes that its reader has not taken yet. It begins with 256 KiB and
// grows while the reader takes a whole window in a few round trips, so a distant machine is as fast as a near one. What windows
// may grow by is bounded for the whole session, so a session's memory is, too.
package mux

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxFrame is the longest frame that is sent, header included.
	MaxFrame = headerSize + Large
	// MaxWindow is the largest window of a stream.
	MaxWindow = 8 << 20
	// queued bounds the answers that wait to be sent.
	queued = 64
)

// Errors of sessions and streams.
var (
	ErrClosed = errors.New("the session was closed")
	ErrReset  = errors.New("the stream was reset")

	errSilent   = errors.New("the other end does not answer")
	errStuck    = errors.New("the other end does not read")
	errLeaves   = errors.New("the other end leaves")
	errProtocol = errors.New("the other end broke the protocol")
)

// Config is a session's settings. Zero fields mean the defaults in brackets.
type Config struct {
	// Dialled says that this end opened the connection; the other end says the opposite.
	Dialled bool
	// Backlog is how many streams may wait for AcceptStream [32]. More are reset.
	Backlog int
	// KeepAlive is the time between pings [10 s]. A session ends if nothing arrives for WriteTimeout after one.
	KeepAlive time.Duration
	// WriteTimeout is how long one Write of the connection may take [10 s].
	WriteTimeout time.Duration
	// CloseTimeout is how long the other end may take to close a stream after this end did [30 s].
	CloseTimeout time.Duration
	// Growth is how many bytes all windows together may grow by [16 MiB].
	Growth int64
}

// Conn is a connection that reads and writes without copies.
type Conn interface {
	io.Closer
	// Next returns bytes that arrived, as Input.Next does.
	Next(n int) (buf []byte, at int, err error)
	// Send writes buf[at:]. It may overwrite all of buf; at is at least Room-headerSize.
	Send(buf []byte, at int) error
}

// plain is any other connection.
type plain struct {
	io.ReadWriteCloser
	*Input
}

func (p plain) Send(buf []byte, at int) error {
	_, err := p.Write(buf[at:])
	return err
}

// Session is the streams of one connection.
type Session struct {
	c    Config
	conn Conn

	mu      sync.Mutex
	streams map[uint32]*Stream
	next    uint32 // the id of the next stream that this end opens
	pings   map[uint32]chan time.Duration
	lastID  uint32 // of a ping
	sentAt  time.Duration
	err     error // why it ended
	watch   *time.Timer

	accepted chan *Stream
	widening []*Stream             // whose grants answer sends. mu guards it
	widened  chan struct{}         // has a token if there are some
	answers  chan [headerSize]byte // frames that recv owes: it never writes, or two ends could wait for each other
	done     chan struct{}

	begun   time.Time    // times are durations since it, so that no step of the clock counts
	sending sync.Mutex   // one frame at a time
	since   atomic.Int64 // when the Write began that is not over; 0: none
	heard   atomic.Int64 // when something last arrived
	rtt     atomic.Int64 // a round trip; 0: not known yet
	grown   atomic.Int64 // bytes by which windows have grown
}

// New starts a session. Each frame is one Write to conn, or one Send if it is a Conn. Closing the session closes conn.
func New(connection io.ReadWriteCloser, c Config) *Session {
	return NewOn(plain{connection, NewInput(connection, Large, nil)}, c)
}

// NewOn starts a session on a Conn.
func NewOn(conn Conn, c Config) *Session {
	c.Backlog = cmp.Or(c.Backlog, 32)
	c.KeepAlive = cmp.Or(c.KeepAlive, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 10*time.Second)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, 30*time.Second)
	c.Growth = cmp.Or(c.Growth, 16<<20)
	s := &Session{
		c: c, conn: conn, streams: map[uint32]*Stream{}, next: 2, pings: map[uint32]chan time.Duration{},
		accepted: make(chan *Stream, c.Backlog), answers: make(chan [headerSize]byte, queued), done: make(chan struct{}),
		widened: make(chan struct{}, 1),
	}
	if c.Dialled {
		s.next = 1
	}
	s.begun = time.Now()
	s.watch = time.AfterFunc(c.WriteTimeout/4, s.look)
	go s.answer()
	go func() { s.fail(s.receive()) }()
	s.ping()
	return s
}

func (s *Session) now() time.Duration { return time.Since(s.begun) }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session has ended; nil before.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session and its streams.
func (s *Session) Close() error {
	s.fail(ErrClosed)
	return nil
}

func (s *Session) fail(err error) {
	s.mu.Lock()
	first := s.err == nil
	if first {
		s.err = err
		s.watch.Stop()
		close(s.done)
	}
	s.mu.Unlock()
	if first {
		s.conn.Close()
	}
}

// OpenStream opens a stream. It does not wait for the other end.
func (s *Session) OpenStream() (*Stream, error) {
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return nil, s.err
	}
	st := s.add(s.next)
	s.next += 2
	s.mu.Unlock()
	if err := s.sendHead(frame(typeWindow, flagSYN, st.id, 0)); err != nil {
		return nil, err
	}
	return st, nil
}

// AcceptStream returns the next stream that the other end opens.
func (s *Session) AcceptStream() (*Stream, error) {
	select {
	case st := <-s.accepted:
		return st, s.sendHead(frame(typeWindow, flagACK, st.id, 0))
	case <-s.done:
		return nil, s.Err()
	}
}

// add makes a stream. s.mu is held.
func (s *Session) add(id uint32) *Stream {
	st := &Stream{
		s: s, id: id, window: initialWindow, allowed: initialWindow, room: initialWindow, updated: time.Now(),
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
	}
	s.streams[id] = st
	return st
}

// remove forgets a stream: what arrives for it is ignored. The other end may have opened another with its id.
func (s *Session) remove(st *Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.id] == st {
		delete(s.streams, st.id)
	}
}

// Streams returns how many streams are open or being closed.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// sendHead writes a frame without payload.
func (s *Session) sendHead(head [headerSize]byte) error {
	var buf [Room]byte
	copy(buf[Room-headerSize:], head[:])
	return s.send(buf[:], Room-headerSize)
}

// send writes the frame buf[at:], and may overwrite buf.
func (s *Session) send(buf []byte, at int) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	select {
	case <-s.done:
		return s.Err()
	default:
	}
	s.since.Store(int64(s.now()) + 1) // never 0
	err := s.conn.Send(buf, at)
	s.since.Store(0)
	if err != nil {
		s.fail(err)
	}
	return err
}

// answer sends what recv owes.
func (s *Session) answer() {
	for {
		select {
		case h := <-s.answers:
			if s.sendHead(h) != nil {
				return
			}
		case <-s.widened:
			s.mu.Lock()
			streams := s.widening
			s.widening = nil
			s.mu.Unlock()
			for _, st := range streams {
				if h, ok := st.granted(); ok && s.sendHead(h) != nil {
					return
				}
			}
		case <-s.done:
			return
		}
	}
}

// grant has answer send what the stream granted.
func (s *Session) grant(st *Stream) {
	s.mu.Lock()
	s.widening = append(s.widening, st)
	s.mu.Unlock()
	signal(s.widened)
}

// owe leaves a frame to answer. An end that makes us owe more than we can send does not get them all.
func (s *Session) owe(h [headerSize]byte) {
	select {
	case s.answers <- h:
	default:
	}
}

// arrived returns what arrives. Each piece of a frame counts as heard: on a slow line, a frame as long as a window takes a minute.
func (s *Session) arrived(n int) (buf []byte, at int, err error) {
	buf, at, err = s.conn.Next(n)
	if err == nil {
		s.heard.Store(int64(s.now()))
	}
	return buf, at, err
}

// skip reads the payload of a stream that was closed a moment ago.
func (s *Session) skip(n uint32) error {
	for n > 0 {
		buf, at, err := s.arrived(int(n))
		if err != nil {
			return err
		}
		n -= uint32(len(buf) - at)
	}
	return nil
}

// receive reads frames until one cannot be read.
func (s *Session) receive() error {
	var h [headerSize]byte
	for {
		for got := 0; got < headerSize; {
			buf, at, err := s.arrived(headerSize - got)
			if err != nil {
				return err
			}
			got += copy(h[got:], buf[at:])
		}
		id, length, flags := binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:]), binary.BigEndian.Uint16(h[2:])
		var err error
		switch {
		case h[0] != 0 || h[1] > typeGoAway:
			err = fmt.Errorf("%w: version %d, type %d", errProtocol, h[0], h[1])
		case h[1] == typePing:
			s.pinged(flags, length)
		case h[1] == typeGoAway:
			err = errLeaves
		default:
			err = s.about(h[1], flags, id, length)
		}
		if err != nil {
			return err
		}
	}
}

// about handles a frame about a stream.
func (s *Session) about(kind byte, flags uint16, id, length uint32) error {
	s.mu.Lock()
	st := s.streams[id]
	if flags&flagSYN != 0 {
		if st != nil || id%2 == s.next%2 || id == 0 {
			s.mu.Unlock()
			return fmt.Errorf("%w: stream %d was opened again", errProtocol, id)
		}
		st = s.add(id)
		select {
		case s.accepted <- st:
		default:
			delete(s.streams, id)
			st = nil
			s.owe(frame(typeWindow, flagRST, id, 0))
		}
	}
	s.mu.Unlock()
	switch {
	case kind == typeData && st == nil:
		if err := s.skip(length); err != nil {
			return err
		}
	case kind == typeData:
		if err := st.receive(length); err != nil {
			return err
		}
	case st != nil:
		if err := st.widen(length); err != nil {
			return err
		}
	}
	if st != nil && flags&(flagFIN|flagRST) != 0 {
		st.ended(flags&flagRST != 0)
	}
	return nil
}
