package wire

import (
	"context"
	"io"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// Session starts a session of streams on c; dialled says which end this is. Closing the session closes c without waiting for
// the other end.
func Session(c *websocket.Conn, dialled bool) *mux.Session {
	// Guests before mux sent a frame as long as their stream's window.
	c.SetReadLimit(mux.MaxWindow + mux.MaxFrame)
	return mux.New(&messages{c: c}, mux.Config{Dialled: dialled, KeepAlive: KeepAlive, WriteTimeout: WriteTimeout})
}

// messages turns c's binary messages into a byte stream. Each Write is a message. The session watches how long it takes, so
// no message needs a timer.
type messages struct {
	c *websocket.Conn
	r io.Reader
}

func (m *messages) Read(p []byte) (int, error) {
	for {
		if m.r == nil {
			typ, r, err := m.c.Reader(context.Background())
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
	if err := m.c.Write(context.Background(), websocket.MessageBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (m *messages) Close() error { return m.c.CloseNow() }
