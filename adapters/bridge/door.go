package bridge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// door is a stream to the machine's operator service (see wire.Operator): approvals and questions, their answers, and
// stopping a run that another connection started. Only sessions that control have one.
type door struct{ net.Conn }

// door opens the service; nil: the session may not use it, or the machine's guest is older than the service.
func (b *Bridge) door(ctx context.Context, s access.BridgeSession) (*door, error) {
	if !s.Controls() {
		return nil, nil
	}
	conn, _, err := b.c.Opener.Open(ctx, s.Instance, wire.Operator)
	switch {
	case errors.Is(err, wire.ErrNotReady):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &door{conn}, nil
}

func (d *door) close() {
	if d != nil {
		d.Close()
	}
}

// fromBrowser sends a request to the guest, which checks it.
func (d *door) fromBrowser(w *browser, f frame, params json.RawMessage, within time.Duration) error {
	line, err := json.Marshal(wire.OperatorRequest{ID: f.ID, Method: f.Method, Params: params})
	if err != nil {
		return err
	}
	if f.ID == "" || len(f.ID) > maxFrameID || len(line) >= wire.MaxOperator {
		return refuseFrame(w, f, "this request has no id, or is too long")
	}
	_ = d.SetWriteDeadline(time.Now().Add(within))
	if _, err := d.Write(append(line, '\n')); err != nil {
		return errMachine
	}
	return nil
}

const maxFrameID = 256 // bytes of an id that the guest takes

// A guest sends fewer lines: 20 events and 10 answers in a second, and 100 more at the beginning. Without a limit here, lines
// that no browser gets would cost as much as the machine can send.
const (
	lineRate  = 50 // lines in a second that are read
	lineBurst = 250
)

// toBrowser writes the guest's events and answers as ordinary frames.
func (d *door) toBrowser(ctx context.Context, w *browser) error {
	pace := rate.NewLimiter(lineRate, lineBurst)
	lines := bufio.NewScanner(d)
	lines.Buffer(make([]byte, 0, 1<<10), wire.MaxOperator)
	for lines.Scan() {
		if pace.Wait(ctx) != nil {
			return errLeft
		}
		var l wire.OperatorLine
		if !utf8.Valid(lines.Bytes()) || json.Unmarshal(lines.Bytes(), &l) != nil {
			return errMachine
		}
		f := map[string]any{"type": "event", "event": l.Event, "payload": l.Payload}
		switch {
		case l.Event == "" && l.ID != "" && l.OK:
			f = map[string]any{"type": "res", "id": l.ID, "ok": true, "payload": l.Payload}
		case l.Event == "" && l.ID != "":
			f = map[string]any{"type": "res", "id": l.ID, "ok": false, "error": l.Error}
		case !wire.OperatorEvent(l.Event):
			continue
		}
		b, err := json.Marshal(f)
		if err != nil {
			return errMachine
		}
		if w.write(websocket.MessageText, b) != nil {
			return errLeft
		}
	}
	return errMachine
}
