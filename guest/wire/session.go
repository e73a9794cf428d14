package wire

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
)

// Session starts a yamux session on c; dialled says which end this is. Closing the session closes c without waiting for
// the other end.
func Session(ctx context.Context, c *websocket.Conn, dialled bool) (*yamux.Session, error) {
	config := &yamux.Config{
		AcceptBacklog:          32,
		EnableKeepAlive:        true,
		KeepAliveInterval:      KeepAlive,
		ConnectionWriteTimeout: WriteTimeout,
		MaxStreamWindowSize:    256 << 10,
		StreamOpenTimeout:      WriteTimeout,
		StreamCloseTimeout:     30 * time.Second,
		Logger:                 log.New(io.Discard, "", 0), // errors are returned
	}
	ctx, cancel := context.WithCancel(ctx)
	conn := &messages{c: c, ctx: ctx, cancel: cancel}
	// A yamux frame is at most a window long, and a message contains one frame.
	c.SetReadLimit(int64(config.MaxStreamWindowSize) + yamuxHeader)
	if dialled {
		return yamux.Client(conn, config)
	}
	return yamux.Server(conn, config)
}

// yamuxHeader is the length of a frame's header: version, type, flags, stream, length.
const yamuxHeader = 12

// messages turns c's binary messages into a byte stream. A frame's header waits for its body, so that both travel in one
// message: that halves the number of messages, which determines the cost of a tunnel. yamux reads and writes from one
// goroutine each.
type messages struct {
	c      *websocket.Conn
	ctx    context.Context
	cancel context.CancelFunc
	r      io.Reader
	w      []byte
	body   int // bytes that the header in w still waits for
}

func (m *messages) Read(p []byte) (int, error) {
	for {
		if m.r == nil {
			typ, r, err := m.c.Reader(m.ctx)
			if err != nil {
				return 0, err
			}
			if typ != websocket.MessageBinary {
				return 0, io.ErrUnexpectedEOF
			}
			m.r = r
		}
		n, err := m.r.Read(p)
		if err == io.EOF {
			m.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (m *messages) Write(p []byte) (int, error) {
	if m.body == 0 && len(p) == yamuxHeader && p[1] == 0 { // type 0: data
		if n := binary.BigEndian.Uint32(p[8:]); n > 0 {
			m.w, m.body = append(m.w[:0], p...), int(n)
			return len(p), nil
		}
	}
	if m.body > 0 {
		m.w = append(m.w, p...)
		m.body -= len(p)
		if m.body > 0 {
			return len(p), nil
		}
		m.body = 0
		if err := m.send(m.w); err != nil {
			return 0, err
		}
		if cap(m.w) > 64<<10 {
			m.w = nil // one large frame must not keep its memory as long as the tunnel lasts
		}
		return len(p), nil
	}
	if err := m.send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// send has a time limit: a peer that stopped reading must not block the tunnel's writer permanently.
func (m *messages) send(p []byte) error {
	ctx, cancel := context.WithTimeout(m.ctx, WriteTimeout)
	defer cancel()
	return m.c.Write(ctx, websocket.MessageBinary, p)
}

func (m *messages) Close() error {
	m.cancel()
	return m.c.CloseNow()
}
