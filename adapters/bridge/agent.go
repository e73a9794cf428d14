package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

const (
	maxFrame   = 26 << 20  // bytes of one frame; the gateway takes and sends 25 MiB
	largeFrame = 256 << 10 // beyond this a browser's frame needs a place
)

// ServeAgent bridges the OpenClaw protocol to the machine's gateway and returns when the session has
// ended. The gateway is connected to here, with the machine's token; the browser's first frame is the
// gateway's hello-ok answer, without credentials, and its own connect is refused.
func (b *Bridge) ServeAgent(w http.ResponseWriter, r *http.Request, s access.BridgeSession) {
	if !b.enter(w, r, s) {
		return
	}
	defer b.leave(s)
	gateway, hello, err := b.gateway(r.Context(), s)
	if err != nil {
		b.unreachable(w, r, s, err)
		return
	}
	defer gateway.Close()
	ws, err := b.accept(w, r)
	if err != nil {
		return // it answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxFrame)
	b.run(context.WithoutCancel(r.Context()), ws, gateway, s,
		func(ctx context.Context, w *browser) error { return b.toGateway(ctx, gateway, w, s) },
		func(ctx context.Context, w *browser) error {
			err := w.write(websocket.MessageText, hello)
			if hello = nil; err != nil { // the session does not keep it
				return errLeft
			}
			return b.fromGateway(ctx, gateway, w)
		})
}

// agent is the connection to a machine's gateway.
type agent struct {
	*websocket.Conn
	line *greeting
}

// Close leaves the gateway without waiting for its good-bye.
func (a agent) Close() error { return a.CloseNow() }

// startingError says that the gateway is still starting.
type startingError struct{ after time.Duration }

func (e *startingError) Error() string { return "the gateway is still starting" }

// gateway connects to the machine's gateway and returns the hello for the browser.
func (b *Bridge) gateway(ctx context.Context, s access.BridgeSession) (agent, []byte, error) {
	opening, cancel := context.WithTimeout(ctx, b.c.OpenWithin)
	defer cancel()
	conn, secret, err := b.c.Opener.Open(opening, s.Instance, wire.Agent)
	if err != nil {
		return agent{}, nil, err
	}
	greeting := b.greeting(conn)
	defer greeting.over()
	// Neither Origin nor forwarding headers: the gateway lets in whom it takes for a local client.
	ws, _, err := websocket.Dial(opening, "ws://127.0.0.1:18789/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return greeting, nil },
			DisableKeepAlives: true,
		}},
		CompressionMode: websocket.CompressionDisabled,
	})
	var hello []byte
	if err == nil {
		ws.SetReadLimit(maxGreeting)
		if hello, err = connect(opening, ws, secret.GatewayToken, s.Controls()); err != nil {
			ws.CloseNow()
		}
	}
	switch {
	case err != nil && greeting.spent():
		err = errGreeting
		fallthrough
	case err != nil:
		conn.Close()
		return agent{}, nil, err
	}
	ws.SetReadLimit(maxFrame)
	return agent{ws, greeting}, hello, nil
}

const connectID = "cloudbot-connect"

// frame is what is read of the protocol's frames; names are exact, as in the gateway.
type frame struct {
	Type   string
	ID     string
	Method string
	OK     bool
	Event  string
}

// parse reads the top level of a frame. A map is used because decoding into a struct would also take
// "METHOD" for "method", which the gateway does not.
func parse(b []byte) (frame, map[string]json.RawMessage, error) {
	var f frame
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil || fields == nil {
		return f, nil, errors.New("not a frame")
	}
	for name, into := range map[string]any{"type": &f.Type, "id": &f.ID, "method": &f.Method, "event": &f.Event, "ok": &f.OK} {
		if raw, ok := fields[name]; ok && json.Unmarshal(raw, into) != nil {
			return f, nil, errors.New("not a frame")
		}
	}
	return f, fields, nil
}

// connect goes through the gateway's handshake.
func connect(ctx context.Context, ws *websocket.Conn, token string, control bool) (hello []byte, err error) {
	f, _, err := next(ctx, ws)
	if err != nil {
		return nil, err
	}
	if f.Event != "connect.challenge" {
		return nil, errors.New("the gateway does not begin with a challenge")
	}
	scopes := []string{"operator.read"}
	if control {
		scopes = append(scopes, "operator.write", "operator.approvals", "operator.questions")
	}
	b, err := json.Marshal(map[string]any{"type": "req", "id": connectID, "method": "connect", "params": map[string]any{
		"minProtocol": 4, "maxProtocol": 4,
		"client": map[string]any{"id": "gateway-client", "version": "0.1.0", "platform": "linux", "mode": "backend"},
		"role":   "operator", "scopes": scopes, "caps": []string{"tool-events", "approvals"}, "auth": map[string]any{"token": token},
	}})
	if err != nil {
		return nil, err
	}
	if err := ws.Write(ctx, websocket.MessageText, b); err != nil {
		return nil, err
	}
	for range maxGreetingFrames - 1 { // the challenge was one
		f, fields, err := next(ctx, ws)
		if err != nil {
			return nil, err
		}
		if f.Type != "res" || f.ID != connectID {
			continue
		}
		if !f.OK {
			return nil, refused(fields["error"])
		}
		return withoutCredentials(fields)
	}
	return nil, errGreeting
}

func next(ctx context.Context, ws *websocket.Conn) (frame, map[string]json.RawMessage, error) {
	typ, b, err := ws.Read(ctx)
	if err != nil {
		return frame{}, nil, err
	}
	if typ != websocket.MessageText || !utf8.Valid(b) {
		return frame{}, nil, errors.New("the gateway sent no text")
	}
	return parse(b)
}

func refused(raw json.RawMessage) error {
	var e struct {
		Code         string
		RetryAfterMs int
	}
	_ = json.Unmarshal(raw, &e)
	if e.Code == "UNAVAILABLE" {
		return &startingError{max(time.Duration(e.RetryAfterMs)*time.Millisecond, time.Second)}
	}
	return fmt.Errorf("the gateway refuses connect: %.40q", e.Code)
}

// withoutCredentials is the hello-ok answer with nothing left under auth but role and scopes.
func withoutCredentials(fields map[string]json.RawMessage) ([]byte, error) {
	var payload, auth map[string]json.RawMessage
	if err := json.Unmarshal(fields["payload"], &payload); err != nil || payload == nil {
		return nil, errors.New("the gateway's hello has no payload")
	}
	if err := json.Unmarshal(payload["auth"], &auth); len(payload["auth"]) > 0 && err != nil {
		return nil, errors.New("the gateway's hello cannot be read")
	}
	kept := map[string]json.RawMessage{}
	for _, name := range []string{"role", "scopes"} {
		if v, ok := auth[name]; ok {
			kept[name] = v
		}
	}
	var err error
	if payload["auth"], err = json.Marshal(kept); err != nil {
		return nil, err
	}
	if fields["payload"], err = json.Marshal(payload); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// viewMethods are the methods that only look.
var viewMethods = map[string]bool{
	"health": true, "status": true, "models.list": true, "agents.list": true, "chat.history": true,
	"sessions.list": true, "sessions.preview": true, "sessions.subscribe": true, "sessions.unsubscribe": true,
	"sessions.messages.subscribe": true, "sessions.messages.unsubscribe": true,
}

// toGateway copies the browser's frames, each checked first.
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
		// The place is wanted by others: a browser that does not go on sending is dropped.
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
	f, _, err := parse(msg)
	if err != nil {
		return errProtocol
	}
	if why := objection(f, !s.Controls()); why != "" {
		answer, err := json.Marshal(map[string]any{"type": "res", "id": f.ID, "ok": false, "error": map[string]any{"code": "INVALID_REQUEST", "message": why}})
		if err != nil {
			return err
		}
		if err := w.write(websocket.MessageText, answer); err != nil {
			return errLeft
		}
		return nil
	}
	wctx, cancel := context.WithTimeout(ctx, b.c.WriteWithin)
	defer cancel()
	if len(msg) > largeFrame {
		defer b.watch(&gateway.line.sent, func() { w.end(errSlowMachine); cancel() })()
	}
	if err := gateway.Write(wctx, websocket.MessageText, msg); err != nil {
		return errMachine
	}
	return nil
}

// objection says why a frame of the browser is not passed on, "" where it is.
func objection(f frame, view bool) string {
	switch {
	case f.Method == "connect":
		return "this connection is connected already"
	case view && (f.Type != "req" || !viewMethods[f.Method]):
		return "this connection may only look"
	}
	return ""
}

// fromGateway copies the gateway's frames. A short one is sent as it is; a long one goes through in
// pieces, so that a session never holds 25 MiB.
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

// fill reads until buf is full or the message ends, which whole tells.
func fill(r io.Reader, buf []byte) (n int, whole bool, err error) {
	n, err = io.ReadFull(r, buf)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return n, true, nil
	}
	return n, false, err
}

// utf8Check tells whether text that comes in pieces is valid UTF-8.
type utf8Check struct {
	rest [utf8.UTFMax]byte // an unfinished character
	n    int
}

func (c *utf8Check) add(p []byte) bool {
	for c.n > 0 && len(p) > 0 && !utf8.FullRune(c.rest[:c.n]) {
		c.rest[c.n] = p[0]
		c.n++
		p = p[1:]
	}
	if c.n > 0 && utf8.FullRune(c.rest[:c.n]) {
		if !utf8.Valid(c.rest[:c.n]) {
			return false
		}
		c.n = 0
	}
	// Cut an unfinished character off the end and keep it.
	for i := 1; i < utf8.UTFMax && i <= len(p); i++ {
		if tail := p[len(p)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				c.n = copy(c.rest[:], tail)
				p = p[:len(p)-i]
			}
			break
		}
	}
	return utf8.Valid(p)
}

func (c *utf8Check) complete() bool { return c.n == 0 }
