package wire

import (
	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
)

// Session starts a session of streams on c, whose connection is under; dialled says which end this is. c must have read the
// whole greeting, and reads nothing any more. Closing the session closes c without waiting for the other end.
func Session(c *websocket.Conn, under *frames.Conn, dialled bool) *mux.Session {
	return mux.NewOn(&messages{under, c}, mux.Config{Dialled: dialled, KeepAlive: KeepAlive, WriteTimeout: WriteTimeout})
}

// messages are c's binary messages as a stream of bytes. The session watches how long a Send takes, so no message needs a
// timer.
type messages struct {
	*frames.Conn
	c *websocket.Conn
}

func (m *messages) Send(buf []byte, at int) error { return m.Conn.Send(frames.Binary, buf, at) }

func (m *messages) Close() error { return m.c.CloseNow() }
