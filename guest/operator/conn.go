package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// conn is a connection to the gateway, after its hello.
type conn struct {
	ws    *websocket.Conn
	end   context.CancelFunc
	ended chan struct{} // closed when the machine's side of the pipe has ended
	done  chan struct{} // closed when the connection is of no use any more
	event func(c *conn, name string, payload json.RawMessage)
	pace  *rate.Limiter // of events about prompts

	hinted  chan struct{}        // holds a value if the number of runs may have changed
	jobs    chan struct{}        // holds a value if the schedule may have changed
	changed func(session string) // see Config
	works   func()               // called for each event of a run
	spent   func(json.RawMessage)

	mu    sync.Mutex
	last  int
	calls map[string]func(answer) // run by read, in the order of the gateway's frames
}

// answer is the gateway's answer to a request.
type answer struct {
	ok               bool
	payload, failure json.RawMessage
}

// frame is a frame of the gateway.
type frame struct {
	Type, ID, Event string
	OK              bool
	Payload, Error  json.RawMessage
}

// dial connects to the gateway as an administrator that shows approvals.
func dial(ctx context.Context, config Config) (*conn, error) {
	serve, err := config.Dial(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	near, far := net.Pipe()
	c := &conn{end: cancel, ended: make(chan struct{}), done: make(chan struct{}), calls: map[string]func(answer){}, hinted: make(chan struct{}, 1), jobs: make(chan struct{}, 1), pace: rate.NewLimiter(promptRate, promptBurst)}
	go func() {
		defer close(c.ended)
		_ = serve(ctx, far)
		near.Close()
	}()
	opening, opened := context.WithTimeout(ctx, connectWithin)
	defer opened()
	head := &bounded{Conn: near, left: maxHello}
	// Neither Origin nor forwarding headers: the gateway accepts only clients that look local.
	c.ws, _, err = websocket.Dial(opening, "ws://127.0.0.1:18789/", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return head, nil },
			DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10,
		}},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err == nil {
		c.ws.SetReadLimit(maxHello)
		if err = c.greet(opening, config.Token); err != nil {
			c.ws.CloseNow()
		}
	}
	if err != nil {
		near.Close()
		cancel()
		<-c.ended
		return nil, err
	}
	head.over()
	c.ws.SetReadLimit(maxSkip)
	return c, nil
}

func (c *conn) close() {
	c.ws.CloseNow()
	c.end()
	<-c.ended
}

const connectID = "operator-connect"

func (c *conn) greet(ctx context.Context, token string) error {
	f, err := c.next(ctx)
	if err != nil {
		return err
	}
	if f.Event != "connect.challenge" {
		return errors.New("the agent did not send a challenge first")
	}
	err = c.write(ctx, connectID, "connect", map[string]any{
		"minProtocol": 4, "maxProtocol": 4,
		"client": map[string]any{"id": "gateway-client", "displayName": "CloudBot", "version": "0.1.0", "platform": "linux", "mode": "backend"},
		"role":   "operator", "caps": []string{"approvals"}, "auth": map[string]any{"token": token},
		"scopes": []string{"operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.questions"},
	})
	if err != nil {
		return err
	}
	for range maxHelloFrames - 1 { // the challenge was one
		f, err := c.next(ctx)
		switch {
		case err != nil:
			return err
		case f.Type != "res" || f.ID != connectID:
			continue
		case !f.OK:
			return fmt.Errorf("the agent refused its operator: %s", failureOf(f.Error))
		}
		return nil
	}
	return errors.New("the agent sent too much before its hello-ok")
}

// failureOf returns the code of a failure, for the log.
func failureOf(raw json.RawMessage) string {
	var f struct{ Code string }
	_ = json.Unmarshal(raw, &f)
	return fmt.Sprintf("%.40q", f.Code)
}

// next reads a frame; one that is too long is skipped and comes back empty.
func (c *conn) next(ctx context.Context) (frame, error) {
	ctx, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	var f frame
	typ, r, err := c.ws.Reader(ctx)
	if err != nil {
		return f, err
	}
	if typ != websocket.MessageText {
		return f, errors.New("the agent sent a frame that is not text")
	}
	var b bytes.Buffer
	if n, err := io.Copy(&b, io.LimitReader(r, maxFrame+1)); err != nil {
		return f, err
	} else if n > maxFrame {
		b = bytes.Buffer{}
		_, err := io.Copy(io.Discard, r)
		return f, err
	}
	return f, json.Unmarshal(b.Bytes(), &f)
}

// read handles the gateway's frames until the connection ends.
func (c *conn) read(ctx context.Context) error {
	for {
		f, err := c.next(ctx)
		if err != nil {
			return err
		}
		switch {
		case f.Type == "res":
			c.mu.Lock()
			then := c.calls[f.ID]
			delete(c.calls, f.ID)
			c.mu.Unlock()
			if then != nil {
				then(answer{f.OK, f.Payload, f.Error})
			}
		case f.Type == "event" && wire.OperatorEvent(f.Event):
			if err := c.pace.Wait(ctx); err != nil {
				return err
			}
			c.event(c, f.Event, f.Payload)
		case f.Type == "event" && f.Event == cronName:
			c.planned()
			c.hint()
		case f.Type == "event" && hints[f.Event]:
			c.hint()
			if f.Event != "sessions.changed" { // else a run is in progress, which may be too short for the looks
				c.works()
			}
			if f.Event == "session.message" {
				c.spent(f.Payload)
			}
			if c.changed != nil && sessionEvents[f.Event] {
				c.changed(sessionOf(f.Payload))
			}
		}
	}
}

const maxOpenCalls = 256 // requests without an answer, over all streams

// send sends a request; then gets the answer, unless the connection ends before. then must not block. A gateway that does not
// read until ctx ends, or 10 s, loses the connection.
func (c *conn) send(ctx context.Context, method string, params any, then func(answer)) error {
	c.mu.Lock()
	if len(c.calls) >= maxOpenCalls {
		c.mu.Unlock()
		c.ws.CloseNow() // a gateway that does not answer
		return errors.New("the agent leaves too many requests without an answer")
	}
	c.last++
	id := "o" + strconv.Itoa(c.last)
	if then == nil {
		then = func(answer) {}
	}
	c.calls[id] = then
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return c.write(ctx, id, method, params)
}

func (c *conn) write(ctx context.Context, id, method string, params any) error {
	b, err := json.Marshal(map[string]any{"type": "req", "id": id, "method": method, "params": params})
	if err != nil {
		return err
	}
	return c.ws.Write(ctx, websocket.MessageText, b)
}

// bounded limits what is read until over is called: the head of the answer, frames and pings.
type bounded struct {
	net.Conn
	mu   sync.Mutex
	left int
	free bool
}

func (b *bounded) over() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = true
}

func (b *bounded) Read(p []byte) (int, error) {
	b.mu.Lock()
	free, left := b.free, b.left
	b.mu.Unlock()
	if free {
		return b.Conn.Read(p)
	}
	if left <= 0 {
		return 0, errors.New("the agent sent too much before its hello-ok")
	}
	n, err := b.Conn.Read(p[:min(len(p), left)])
	b.mu.Lock()
	b.left -= n
	b.mu.Unlock()
	return n, err
}
