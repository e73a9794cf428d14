package mux

import (
	"io"
	"sync"

	"github.com/cloudbot-ai/control-plane/guest/direct"
)

// Room is how many bytes before what an Input returns are free, for the headers of a frame and of the connection that carries
// it (at most 14 bytes, of a WebSocket).
const Room = 32

// Sizes of an Input's reads.
const (
	wait  = 1 << 10 // where nothing may have arrived
	Small = 4 << 10
	Half  = 32 << 10
	Large = 64 << 10
)

var pools = map[int]*sync.Pool{Small: pool(Small), Half: pool(Half), Large: pool(Large)}

func pool(size int) *sync.Pool {
	return &sync.Pool{New: func() any { b := make([]byte, Room+size); return &b }}
}

// Input reads a connection into a buffer that it holds only while something is unread: an idle connection has none if it is a
// socket, and a small one otherwise.
type Input struct {
	r      io.Reader
	socket *direct.Reader // nil: it is none
	pool   *sync.Pool
	size   int
	most   int     // bytes of the next read; 0: size
	pooled *[]byte // buf, if it is of the pool
	buf    []byte
	from   int // what is unread, in buf
	to     int

	waiting []byte // for reads of what is no socket
	flooded bool   // the last of them filled its buffer
}

// NewInput reads from r in pieces of at most size bytes: Small, Half or Large. What arrived earlier comes first.
func NewInput(r io.Reader, size int, arrived []byte) *Input {
	in := &Input{r: r, pool: pools[size], size: size}
	in.socket = direct.NewReader(r, in.take, in.give)
	if len(arrived) > 0 {
		in.buf = append(make([]byte, Room), arrived...)
		in.from, in.to = Room, len(in.buf)
	}
	return in
}

func (in *Input) take() []byte {
	in.pooled = in.pool.Get().(*[]byte)
	in.buf = *in.pooled
	return in.buf[Room : Room+in.limit()]
}

// limit returns how many bytes the next read may have.
func (in *Input) limit() int {
	if in.most > 0 {
		return min(in.most, in.size)
	}
	return in.size
}

func (in *Input) give() {
	if in.pooled != nil {
		in.pool.Put(in.pooled)
	}
	in.pooled, in.buf = nil, nil
}

// Next returns bytes in buf[at:], at most n, and waits for some. They, and Room bytes before them, belong to the caller until
// the next call.
func (in *Input) Next(n int) (buf []byte, at int, err error) {
	if in.from == in.to {
		if err := in.fill(); err != nil {
			return nil, 0, err
		}
	}
	at = in.from
	in.from = min(in.to, at+n)
	return in.buf[:in.from], at, nil
}

// Done gives back the buffer, if everything in it was returned.
func (in *Input) Done() {
	if in.from == in.to {
		in.give()
	}
}

// Expect says that the next read will not wait.
func (in *Input) Expect() { in.flooded = true }

// fill reads into a buffer.
func (in *Input) fill() (err error) {
	n := 0
	in.give()
	switch {
	case in.socket != nil:
		n, err = in.socket.Read()
	case in.flooded:
		n, err = in.r.Read(in.take())
		in.flooded = n >= in.size/2
	default:
		if in.waiting == nil {
			in.waiting = make([]byte, Room+wait)
		}
		in.buf = in.waiting
		n, err = in.r.Read(in.waiting[Room : Room+min(wait, in.limit())])
		in.flooded = n == wait
	}
	in.from, in.to = Room, Room+n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}
