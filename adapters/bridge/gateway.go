package bridge

import (
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

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// agent is the connection to a machine's gateway.
type agent struct {
	*websocket.Conn
	line *greeting
	door *door // nil: the machine has none, or the session may not use it
}

// Close closes the connections without waiting for the gateway's close frame.
func (a agent) Close() error {
	a.door.close()
	return a.CloseNow()
}

// startingError means that the gateway is still starting.
type startingError struct{ after time.Duration }

func (e *startingError) Error() string { return "the gateway is still starting" }

// gateway connects to the machine's gateway and returns the hello-ok answer for the browser.
func (b *Bridge) gateway(ctx context.Context, s access.BridgeSession) (agent, []byte, error) {
	opening, cancel := context.WithTimeout(ctx, b.c.OpenWithin)
	defer cancel()
	a, hello, err := b.dialAgent(opening, s)
	if cutOff(err) {
		a, hello, err = b.dialAgent(opening, s)
	}
	return a, hello, err
}

// dialAgent connects to both services of the agent. They end together when the machine moves to another replica.
func (b *Bridge) dialAgent(opening context.Context, s access.BridgeSession) (agent, []byte, error) {
	door, err := b.door(opening, s)
	if err != nil {
		return agent{}, nil, err
	}
	a, hello, err := b.dialGateway(opening, s, door)
	if err != nil {
		door.close()
	}
	return a, hello, err
}

func (b *Bridge) dialGateway(opening context.Context, s access.BridgeSession, door *door) (agent, []byte, error) {
	conn, secret, err := b.c.Opener.Open(opening, s.Instance, wire.Agent)
	if err != nil {
		return agent{}, nil, err
	}
	greeting := b.greeting(conn)
	defer greeting.over()
	// Neither Origin nor forwarding headers: the gateway accepts only clients that look local.
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
		if hello, err = connect(opening, ws, secret.GatewayToken, rights(s)); err != nil {
			ws.CloseNow()
		}
	}
	switch {
	case err != nil && greeting.spent():
		err = errGreeting
	case err != nil && greeting.cut.Load(): // net/http hides that in errors of its own
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	if err != nil {
		conn.Close()
		return agent{}, nil, err
	}
	ws.SetReadLimit(maxFrame)
	return agent{ws, greeting, door}, hello, nil
}

const connectID = "cloudbot-connect"

// frame has the fields of a protocol frame that the bridge reads. Names are case-sensitive, as in the gateway.
type frame struct {
	Type   string
	ID     string
	Method string
	OK     bool
	Event  string
}

// parse reads the top level of a frame. It decodes into a map: a struct would also accept "METHOD" for
// "method", which the gateway does not.
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

// rights returns the session's scopes at the gateway. A run may ask for approvals and put questions only with its sender's
// rights to them, also where the guest's operator is asked.
func rights(s access.BridgeSession) []string {
	if !s.Controls() {
		return []string{"operator.read"}
	}
	return []string{"operator.read", "operator.write", "operator.approvals", "operator.questions"}
}

// connect performs the handshake with the gateway.
func connect(ctx context.Context, ws *websocket.Conn, token string, scopes []string) (hello []byte, err error) {
	f, _, err := next(ctx, ws)
	if err != nil {
		return nil, err
	}
	if f.Event != "connect.challenge" {
		return nil, errors.New("the gateway did not send a challenge first")
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
			return nil, gatewayError(fields["error"])
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
		return frame{}, nil, errors.New("the gateway sent a frame that is not text")
	}
	return parse(b)
}

// gatewayError is the error with which a gateway refuses to connect.
func gatewayError(raw json.RawMessage) error {
	var e struct {
		Code         string
		RetryAfterMs int
	}
	_ = json.Unmarshal(raw, &e)
	if e.Code == "UNAVAILABLE" {
		return &startingError{max(time.Duration(e.RetryAfterMs)*time.Millisecond, time.Second)}
	}
	return fmt.Errorf("the gateway refused connect: %.40q", e.Code)
}

// withoutCredentials returns the hello-ok answer with only role and scopes under auth.
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
