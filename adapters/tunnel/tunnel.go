package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// pingTime is how long an owner has to answer a ping before another guest may replace it.
const pingTime = 2 * time.Second

// owner identifies the guest process that holds a machine's tunnel.
type owner struct {
	boot    string
	process string // "": an old guest does not send it; then only boot counts
}

// String is unambiguous: neither part has a dot.
func (o owner) String() string {
	if o.process == "" {
		return o.boot
	}
	return o.boot + "." + o.process
}

// tunnel is one machine's connection.
type tunnel struct {
	h                 *Hub
	ws                *websocket.Conn
	under             *frames.Conn
	instance, account string
	owner

	ready chan struct{} // closed after the first hello, when secret is set
	quit  chan struct{} // closed to end the tunnel
	done  chan struct{} // closed after the tunnel and all its goroutines have ended
	end   sync.Once
	keys  chan struct{} // holds a value when keys are to be sent

	streams atomic.Int64
	session atomic.Pointer[mux.Session]

	sendMu  sync.Mutex // of control
	control *mux.Stream

	mu       sync.Mutex
	hello    wire.Hello
	heard    time.Time // time of the last control line
	reports  []*report // not delivered yet, oldest first
	reported chan struct{}
	state    wire.State    // the zero State until the guest reports one
	restated chan struct{} // holds a value when the guest has reported a state
	use      wire.Activity // the latest report
	usedAt   time.Time     // when it was received
	uses     chan struct{} // holds a value when it has not been passed on
	metered  string        // the guest's meter; "": not known yet
	cost     int64         // its highest total
	costly   chan struct{} // holds a value when it has grown
	notice   *wire.Notice  // to be sent; nil: none
	noticeAt time.Time     // when it was made
	noticed  chan struct{} // holds a value when there is one
	silent   chan struct{} // closed when the guest can send no more lines
}

func newTunnel(h *Hub, ws *websocket.Conn, under *frames.Conn, instance string, who owner, account string) *tunnel {
	return &tunnel{
		h: h, ws: ws, under: under, instance: instance, owner: who, account: account, heard: h.now(),
		ready: make(chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
		keys: make(chan struct{}, 1), reported: make(chan struct{}, 1), restated: make(chan struct{}, 1),
		uses: make(chan struct{}, 1), costly: make(chan struct{}, 1), noticed: make(chan struct{}, 1), silent: make(chan struct{}),
	}
}

// stop ends the tunnel; it does not wait.
func (t *tunnel) stop() { t.end.Do(func() { close(t.quit) }) }

// abandon ends a tunnel that never ran.
func (t *tunnel) abandon() {
	t.stop()
	t.leave()
}

// leave removes the tunnel from the hub.
func (t *tunnel) leave() {
	t.h.mu.Lock()
	if t.h.tunnels[t.instance] == t {
		delete(t.h.tunnels, t.instance)
		t.h.fallSilent(t)
	}
	closing := t.h.closing
	t.h.mu.Unlock()
	if !closing && t.needs() != (wire.State{}) {
		t.stateChanged()
	}
	close(t.done)
	t.h.all.Done()
}

// run serves the tunnel until it ends.
func (t *tunnel) run(ctx context.Context) {
	defer t.leave()
	defer t.stop()
	log := t.h.log.With("instance", t.instance)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	session := wire.Session(t.ws, t.under, false)
	t.session.Store(session)
	var all sync.WaitGroup
	defer all.Wait()
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()

	first := time.AfterFunc(wire.WriteTimeout, func() {
		if !t.greeted() {
			cancel(errors.New("the guest sent no hello"))
		}
	})
	defer first.Stop()
	// A panic that a guest causes in one of these ends only its own tunnel.
	guarded := func(f func() error) {
		all.Go(func() {
			err := crash.Guard(f)()
			if p := crash.Of(err); p != nil {
				log.Error("tunnel panicked", "panic", p.Text, "stack", p.Stack)
			}
			if err != nil {
				cancel(err)
			}
		})
	}
	guarded(func() error { return t.accept(ctx, session, guarded) })
	guarded(func() error { t.presence(ctx); return nil })
	guarded(func() error { t.sendKeys(ctx); return nil })
	guarded(func() error { t.report(ctx, cancel); return nil })
	guarded(func() error { t.keepChats(ctx); return nil })
	guarded(func() error { t.reportCosts(ctx); return nil })
	guarded(func() error { t.sendNotices(ctx); return nil })
	if t.h.c.Uses != nil {
		guarded(func() error { t.passUses(ctx); return nil })
	}
	states := make(chan wire.State, 1)
	guarded(func() error { t.shareStates(ctx, states); return nil })
	if t.h.c.States != nil {
		guarded(func() error { t.h.c.States.Share(ctx, t.account, t.instance, states); return nil })
	}
	log.Info("machine connected", "boot", t.boot)
	select {
	case <-t.quit:
		cancel(errors.New("replaced or stopped"))
	case <-ctx.Done():
	case <-session.Done():
		cancel(errors.New("the connection broke"))
	}
	log.Info("machine disconnected", "cause", context.Cause(ctx))
}

// accept accepts the control stream. A guest may not open other streams.
func (t *tunnel) accept(ctx context.Context, session *mux.Session, guarded func(func() error)) error {
	control, err := session.AcceptStream()
	if err != nil {
		return err
	}
	t.sendMu.Lock()
	t.control = control
	t.sendMu.Unlock()
	t.wantKeys()
	guarded(func() error {
		defer close(t.silent)
		if err := t.listen(control); ctx.Err() == nil {
			t.h.log.Info("control stream ended", "instance", t.instance, "cause", err)
		}
		t.stop()
		return nil
	})
	if _, err := session.AcceptStream(); err != nil {
		return err
	}
	return errors.New("the guest opened a second stream")
}

func (t *tunnel) greeted() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func (t *tunnel) lastHeard() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heard
}

func (t *tunnel) secret() Secret {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Secret{VNCPassword: t.hello.VNCPassword, GatewayToken: t.hello.GatewayToken}
}

// yield ends the tunnel in favour of another guest, or returns errOwned.
func (t *tunnel) yield(ctx context.Context, to owner) error {
	if t.owner != to && t.alive(ctx) {
		return errOwned
	}
	t.stop()
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// alive reports whether the guest answers a ping in time.
func (t *tunnel) alive(ctx context.Context) bool {
	session := t.session.Load()
	if session == nil {
		return true // still in its greeting
	}
	pong := make(chan error, 1)
	go func() { _, err := session.Ping(); pong <- err }()
	timer := time.NewTimer(pingTime)
	defer timer.Stop()
	select {
	case err := <-pong:
		return err == nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// goAway asks the guest to dial again and ends the tunnel.
func (t *tunnel) goAway() {
	if t.send(wire.Message{GoAway: &wire.GoAway{}}) == nil {
		timer := time.NewTimer(time.Second) // the guest closes immediately; one that hangs gets a second
		defer timer.Stop()
		select {
		case <-t.done:
		case <-timer.C:
		}
	}
	t.stop()
}

// presence claims the machine for this replica until ctx ends.
func (t *tunnel) presence(ctx context.Context) {
	if t.h.c.Presence == nil {
		return
	}
	for wait := backoff(); ; {
		release, lost, err := t.h.c.Presence.Claim(ctx, t.instance, t.h.c.Advertise)
		if err == nil {
			select {
			case <-ctx.Done():
			case <-lost: // two guests connected at the same time, to different replicas
				t.stop()
				<-ctx.Done()
			}
			t.left(ctx) // first, so that a viewer at another replica finds one of the two
			release()
			return
		}
		if ctx.Err() == nil {
			t.h.log.Warn("presence claim failed", "instance", t.instance, "err", err)
		}
		if wait.Sleep(ctx) != nil {
			return
		}
	}
}

// left records when the machine was last heard.
func (t *tunnel) left(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := t.h.c.Presence.Left(ctx, t.instance, t.lastHeard()); err != nil {
		t.h.log.Info("last contact not recorded", "instance", t.instance, "err", err)
	}
}

// open opens a stream to a service.
func (t *tunnel) open(ctx context.Context, service string) (net.Conn, Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.WriteTimeout)
	defer cancel()
	select {
	case <-t.ready:
	case <-t.quit:
		return nil, Secret{}, ErrNotConnected
	case <-ctx.Done():
		return nil, Secret{}, ErrNotConnected
	}
	if t.streams.Add(1) > wire.MaxStreams {
		t.streams.Add(-1)
		return nil, Secret{}, ErrBusy
	}
	s, err := t.session.Load().OpenStream()
	if err != nil {
		t.streams.Add(-1)
		return nil, Secret{}, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	c := &stream{Stream: s, t: t}
	if err := c.ask(ctx, service); err != nil {
		c.Close()
		return nil, Secret{}, err
	}
	return c, t.secret(), nil
}

// stream is an open stream.
type stream struct {
	*mux.Stream
	t    *tunnel
	once sync.Once
}

func (s *stream) Close() error {
	s.once.Do(func() { s.t.streams.Add(-1) })
	return s.Stream.Close()
}

// ask names the service and waits for the guest's answer.
func (s *stream) ask(ctx context.Context, service string) error {
	end, _ := ctx.Deadline()
	_ = s.SetDeadline(end)
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	var opened wire.Opened
	err := wire.WriteLine(s, wire.Open{Open: service}, wire.MaxHeader)
	if err == nil {
		err = wire.ReadLine(s, &opened, wire.MaxHeader)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	switch {
	case err != nil:
		return fmt.Errorf("open %s: %w", service, err)
	case !opened.OK:
		return fmt.Errorf("open %s: %w: %q", service, ErrNotReady, clip(opened.Error, 200))
	}
	return s.SetDeadline(time.Time{})
}
