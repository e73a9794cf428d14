package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// ending is why a session ends: the close code and reason that the browser gets.
type ending struct {
	code   websocket.StatusCode
	reason string
}

func (e *ending) Error() string { return e.reason }

var (
	errLeft      = &ending{websocket.StatusNormalClosure, "the browser left"}
	errSignedOut = &ending{CloseSignedOut, "you are no longer signed in"}
	errGone      = &ending{CloseGone, "the instance no longer exists"}
	errMachine   = &ending{CloseUnreachable, "the machine cannot be reached"}
	errStalled   = &ending{websocket.StatusPolicyViolation, "the browser stopped reading"}
	errProtocol  = &ending{websocket.StatusProtocolError, "not the protocol of this endpoint"}
	errText      = &ending{websocket.StatusInvalidFramePayloadData, "only text frames of valid UTF-8 are accepted"}
	errTooBig    = &ending{websocket.StatusMessageTooBig, "message too big"}
)

// restart asks the browser to reconnect after a random wait, so that not all reconnect together.
func (b *Bridge) restart() *ending {
	wait := b.c.RetryAfter/2 + rand.N(b.c.RetryAfter)
	return &ending{CloseRestart, fmt.Sprintf(`{"retry_ms":%d}`, wait.Milliseconds())}
}

// turn returns how long after the start of the shutdown a session ends: a random time for each, after the machines of
// this replica have moved. A session that came back earlier would be cut again when its machine moves.
func (b *Bridge) turn() time.Duration {
	if b.c.Spread <= b.c.First {
		return 0
	}
	return b.c.First + rand.N(b.c.Spread-b.c.First)
}

// browser is the browser's leg. Its reads and writes do not use the session's context, which would cut the
// connection before the close code is sent. Closing the connection ends them.
type browser struct {
	*websocket.Conn
	end   func(error) // ends the session, with a code if the error is an *ending
	watch *time.Timer // disconnects a browser that does not read
	every time.Duration
	mu    sync.Mutex // of watch: an agent session writes from three goroutines
	busy  int

	carrying atomic.Bool // a large frame is on its way, and Bridge.watch sees it move. Until it is over, no pong may be read
}

// write sends one message; a browser that does not accept it in time is disconnected.
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

// leg copies in one direction, and returns why it ended.
type leg func(context.Context, *browser) error

// run copies in both directions until one leg, the log-in session or the instance ends, or the server stops.
// Then it closes both legs and returns after all goroutines of the session have ended.
func (b *Bridge) run(ctx context.Context, ws *websocket.Conn, machine io.Closer, s access.BridgeSession, legs ...leg) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &browser{Conn: ws, every: b.c.WriteWithin, end: cancel}
	w.watch = time.AfterFunc(time.Hour, func() { cancel(errStalled); ws.CloseNow() })
	w.watch.Stop()

	var all sync.WaitGroup
	for _, leg := range legs {
		all.Go(func() {
			err := crash.Guard(func() error { return leg(ctx, w) })()
			if p := crash.Of(err); p != nil {
				b.log.Error("bridge panicked", "instance", s.Instance, "panic", p.Text, "stack", p.Stack)
			}
			cancel(err)
		})
	}
	stopPings := b.pings(ctx, w, cancel)

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
	if why == errMachine && closed(b.stop) { // the machine connects to another replica
		why = b.restart()
	}
	if why != errStalled { // a browser that does not read would not read the close frame either
		_ = ws.Close(why.code, why.reason)
	}
	ws.CloseNow()
	w.watch.Stop()
	all.Wait()
	stopPings()
	b.log.Info("bridge session ended", "instance", s.Instance, "cause", why.reason, "seconds", int(time.Since(began).Seconds()))
}

// pings sends the browser a ping at intervals. It needs no goroutine between them.
func (b *Bridge) pings(ctx context.Context, w *browser, cancel context.CancelCauseFunc) (stop func()) {
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
		if !w.carrying.Load() && w.Ping(pctx) != nil && !w.carrying.Load() {
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
