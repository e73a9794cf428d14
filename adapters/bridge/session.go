package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// ending is why a session ends, and what the browser is told.
type ending struct {
	code   websocket.StatusCode
	reason string
}

func (e *ending) Error() string { return e.reason }

var (
	errLeft      = &ending{websocket.StatusNormalClosure, "the browser left"}
	errSignedOut = &ending{CloseSignedOut, "you are not signed in any more"}
	errGone      = &ending{CloseGone, "the instance is gone"}
	errMachine   = &ending{CloseUnreachable, "the machine is out of reach"}
	errStalled   = &ending{websocket.StatusPolicyViolation, "the browser does not read"}
	errProtocol  = &ending{websocket.StatusProtocolError, "not what this endpoint speaks"}
	errText      = &ending{websocket.StatusInvalidFramePayloadData, "text frames of valid UTF-8 only"}
	errTooBig    = &ending{websocket.StatusMessageTooBig, "message too big"}
)

// restart tells the browser when to come back: not all of them at the same moment.
func (b *Bridge) restart() *ending {
	wait := b.c.RetryAfter/2 + rand.N(b.c.RetryAfter)
	return &ending{CloseRestart, fmt.Sprintf(`{"retry_ms":%d}`, wait.Milliseconds())}
}

// turn is when a session ends after the server began to stop: a moment of its own for each.
func (b *Bridge) turn() time.Duration {
	if b.c.Spread <= 0 {
		return 0
	}
	return rand.N(b.c.Spread)
}

// browser is the browser's leg. Its reads and writes are not bound to the session's context: that
// would cut the connection before the close code is out. Closing it is what ends them.
type browser struct {
	*websocket.Conn
	end   func(error) // ends the session, with a code where it is an *ending
	watch *time.Timer // cuts a browser that does not read
	every time.Duration
	mu    sync.Mutex // of watch: an agent session writes from two goroutines
	busy  int
}

// write sends one message; a browser that does not take it in time is dropped.
func (w *browser) write(typ websocket.MessageType, p []byte) error {
	w.begin()
	defer w.finish()
	return w.Conn.Write(context.Background(), typ, p)
}

func (w *browser) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy++; w.busy == 1 {
		w.watch.Reset(w.every)
	}
}

func (w *browser) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy--; w.busy == 0 {
		w.watch.Stop()
	} else {
		w.watch.Reset(w.every)
	}
}

// run copies both ways until one leg ends, the login does, the instance does or the server stops;
// then it closes both legs and returns once nothing of the session runs any more. up and down return
// why they ended.
func (b *Bridge) run(ctx context.Context, ws *websocket.Conn, machine io.Closer, s access.BridgeSession, up, down func(context.Context, *browser) error) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &browser{Conn: ws, every: b.c.WriteWithin, end: cancel}
	w.watch = time.AfterFunc(time.Hour, func() { cancel(errStalled); ws.CloseNow() })
	w.watch.Stop()

	var legs sync.WaitGroup
	for _, leg := range []func(context.Context, *browser) error{up, down} {
		legs.Go(func() {
			err := crash.Guard(func() error { return leg(ctx, w) })()
			if p := crash.Of(err); p != nil {
				b.log.Error("panic in a bridge", "instance", s.Instance, "panic", p.Text, "stack", p.Stack)
			}
			cancel(err)
		})
	}
	stopPings := b.pings(ctx, ws, cancel)

	stop, turn := b.stop, (<-chan time.Time)(nil)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.Revoked:
			cancel(errSignedOut)
		case <-s.Gone:
			cancel(errGone)
		case <-stop:
			stop, turn = nil, time.After(b.turn())
		case <-turn:
			cancel(b.restart())
		}
	}
	machine.Close() // ends a read that waits on a silent machine
	var why *ending
	if !errors.As(context.Cause(ctx), &why) {
		why = errLeft
	}
	if why != errStalled { // one that does not read would not take the good-bye either
		_ = ws.Close(why.code, why.reason)
	}
	ws.CloseNow()
	w.watch.Stop()
	legs.Wait()
	stopPings()
	b.log.Info("bridge session ended", "instance", s.Instance, "cause", why.reason, "seconds", int(time.Since(began).Seconds()))
}

// pings asks the browser now and then whether it is there, without a goroutine in between.
func (b *Bridge) pings(ctx context.Context, ws *websocket.Conn, cancel context.CancelCauseFunc) (stop func()) {
	var running sync.WaitGroup
	var mu sync.Mutex
	ended := false
	var timer *time.Timer
	mu.Lock()
	timer = time.AfterFunc(b.c.PingEvery, func() {
		mu.Lock()
		if ended {
			mu.Unlock()
			return
		}
		running.Add(1)
		mu.Unlock()
		defer running.Done()
		pctx, done := context.WithTimeout(ctx, b.c.PongWithin)
		defer done()
		if err := ws.Ping(pctx); err != nil {
			cancel(errStalled)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			timer.Reset(b.c.PingEvery)
		}
	})
	mu.Unlock()
	return func() {
		mu.Lock()
		ended = true
		timer.Stop()
		mu.Unlock()
		running.Wait()
	}
}
