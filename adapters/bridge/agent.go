package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

const (
	maxFrame   = 26 << 20  // bytes of one frame; the gateway accepts and sends 25 MiB
	largeFrame = 256 << 10 // a browser's frame above this needs a place
)

// ServeAgent bridges the OpenClaw protocol to the machine's gateway and returns when the session has ended.
// The bridge itself connects to the gateway, with the machine's token. The browser's first frame is the
// gateway's hello-ok answer, without credentials; a connect of the browser is refused.
func (b *Bridge) ServeAgent(w http.ResponseWriter, r *http.Request, s access.BridgeSession) {
	leave := b.enter(w, r, s)
	if leave == nil {
		return
	}
	defer leave()
	gateway, hello, err := b.gateway(r.Context(), s)
	if err != nil {
		b.unreachable(w, r, s, err)
		return
	}
	defer gateway.Close()
	ws, _, err := b.accept(w, r)
	if err != nil {
		return // accept has answered the request
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxFrame)
	greeted := make(chan struct{})
	legs := []leg{
		func(ctx context.Context, w *browser) error { return b.toGateway(ctx, gateway, w, s) },
		func(ctx context.Context, w *browser) error {
			err := w.write(websocket.MessageText, hello)
			if hello = nil; err != nil { // free its memory for the rest of the session
				return errLeft
			}
			close(greeted)
			return b.fromGateway(ctx, gateway, w)
		},
	}
	if gateway.door != nil {
		legs = append(legs, func(ctx context.Context, w *browser) error {
			select {
			case <-greeted:
				return gateway.door.toBrowser(ctx, w)
			case <-ctx.Done():
				return errLeft
			}
		})
	}
	b.run(context.WithoutCancel(r.Context()), ws, gateway, s, legs...)
}

// viewMethods are the methods that change nothing.
var viewMethods = map[string]bool{
	"health": true, "status": true, "models.list": true, "agents.list": true, "chat.history": true,
	"sessions.list": true, "sessions.preview": true, "sessions.subscribe": true, "sessions.unsubscribe": true,
	"sessions.messages.subscribe": true, "sessions.messages.unsubscribe": true,
	"artifacts.download": true, // pictures, which chat.history leaves out
}

// toGateway checks and copies the browser's frames.
func (b *Bridge) toGateway(ctx context.Context, gateway agent, w *browser, s access.BridgeSession) error {
	var buf bytes.Buffer
	for {
		if buf.Cap() > largeFrame {
			buf = bytes.Buffer{}
		}
		buf.Reset()
		if err := b.frameToGateway(ctx, &buf, gateway, w, s); err != nil {
			return err
		}
	}
}

func (b *Bridge) frameToGateway(ctx context.Context, buf *bytes.Buffer, gateway agent, w *browser, s access.BridgeSession) error {
	typ, r, err := w.Reader(context.Background())
	if err != nil {
		return left(err)
	}
	if typ != websocket.MessageText {
		return errText
	}
	n, err := io.Copy(buf, io.LimitReader(r, largeFrame))
	if err == nil && n == largeFrame {
		// A few large frames fit in memory, not one for each of all sessions.
		leave := b.large.take(ctx, b.c.LargeWait, fair.Claim{Key: s.Account, Max: largePerAccount})
		if leave == nil {
			return errCrowded
		}
		defer leave()
		w.carrying.Store(true)
		defer w.carrying.Store(false)
		// Others need the place: a browser that stops sending is disconnected.
		late := time.AfterFunc(b.c.LargeWithin, func() { w.end(errSlow) })
		var arrived counter
		stop := b.watch(&arrived.n, func() { w.end(errSlow) })
		_, err = io.Copy(buf, io.TeeReader(r, &arrived))
		stop()
		late.Stop()
	}
	if err != nil {
		return left(err)
	}
	msg := buf.Bytes()
	if !utf8.Valid(msg) {
		return errText
	}
	f, fields, err := parse(msg)
	if err != nil {
		return errProtocol
	}
	if why := objection(f, !s.Controls()); why != "" {
		return refuseFrame(w, f, why)
	}
	if gateway.door != nil && f.Type == "req" && wire.OperatorMethod(f.Method) {
		return gateway.door.fromBrowser(w, f, fields["params"], b.c.WriteWithin)
	}
	if b.toMachine(ctx, gateway, w, msg) != nil {
		return errMachine
	}
	return nil
}

// toMachine writes a frame. It writes a large one in pieces: between them, answers to the gateway's pings pass.
func (b *Bridge) toMachine(ctx context.Context, gateway agent, w *browser, msg []byte) error {
	if len(msg) <= largeFrame {
		ctx, cancel := context.WithTimeout(ctx, b.c.WriteWithin)
		defer cancel()
		return gateway.Write(ctx, websocket.MessageText, msg)
	}
	ctx, cancel := context.WithTimeout(ctx, b.c.LargeWithin)
	defer cancel()
	defer b.watch(&gateway.line.sent, func() { w.end(errSlowMachine); cancel() })()
	out, err := gateway.Writer(ctx, websocket.MessageText)
	if err != nil {
		return err
	}
	for piece := range slices.Chunk(msg, bigBuffer) {
		if _, err := out.Write(piece); err != nil {
			return err
		}
	}
	return out.Close()
}

// refuseFrame answers a frame of the browser that is not forwarded.
func refuseFrame(w *browser, f frame, why string) error {
	answer, err := json.Marshal(map[string]any{"type": "res", "id": f.ID, "ok": false, "error": map[string]any{"code": "INVALID_REQUEST", "message": why}})
	if err != nil {
		return err
	}
	if err := w.write(websocket.MessageText, answer); err != nil {
		return errLeft
	}
	return nil
}

// objection returns why a frame of the browser is not forwarded; "" if it is.
func objection(f frame, view bool) string {
	switch {
	case f.Method == "connect":
		return "this connection is already connected"
	case view && (f.Type != "req" || !viewMethods[f.Method]):
		return "this connection is view-only"
	}
	return ""
}

// fromGateway copies the gateway's frames. A short frame is sent whole, a long one in pieces, so that a
// session never holds 25 MiB.
func (b *Bridge) fromGateway(ctx context.Context, gateway agent, w *browser) error {
	for {
		typ, r, err := gateway.Reader(ctx)
		if err != nil {
			if websocket.CloseStatus(err) == websocket.StatusServiceRestart {
				return b.restart()
			}
			return errMachine
		}
		if typ != websocket.MessageText {
			return errMachine
		}
		if err := b.frameToBrowser(r, w); err != nil {
			return err
		}
	}
}

func (b *Bridge) frameToBrowser(r io.Reader, w *browser) error {
	buf := b.buffers.Get().(*[]byte)
	defer b.buffers.Put(buf)
	n, whole, err := fill(r, *buf)
	if err != nil {
		return errMachine
	}
	var check utf8Check
	if whole {
		if !check.add((*buf)[:n]) || !check.complete() {
			return errMachine
		}
		if w.write(websocket.MessageText, (*buf)[:n]) != nil {
			return errLeft
		}
		return nil
	}
	out, err := w.Writer(context.Background(), websocket.MessageText)
	if err != nil {
		return errLeft
	}
	for {
		if !check.add((*buf)[:n]) || whole && !check.complete() {
			return errMachine
		}
		w.begin()
		_, err := out.Write((*buf)[:n])
		if err == nil && whole {
			err = out.Close()
		}
		w.finish()
		if err != nil {
			return errLeft
		}
		if whole {
			return nil
		}
		if n, whole, err = fill(r, *buf); err != nil {
			return errMachine
		}
	}
}
