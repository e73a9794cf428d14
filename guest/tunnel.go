package guest

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/operator"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	firstWait = 50 * time.Millisecond
	lastWait  = 5 * time.Second
	longWait  = 30 * time.Second // after a refusal that a quick retry does not change
)

// stateEvery is the least time between two States: the agent can ask and withdraw in a loop.
const stateEvery = 300 * time.Millisecond

var errGoAway = errors.New("the control plane asked this guest to reconnect")

// tunnel keeps a tunnel to the control plane open until ctx ends.
func (g *Guest) tunnel(ctx context.Context) error {
	// Jitter, so that a control plane's restart does not bring all machines back in one instant.
	backoff := retry.Backoff{First: firstWait, Max: lastWait, Jitter: true}
	for {
		began := time.Now()
		err := g.enroll(ctx)
		if err == nil {
			err = g.connect(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		backoff.First, backoff.Max = firstWait, lastWait
		if errors.As(err, new(*refusedError)) {
			backoff.First, backoff.Max = longWait, longWait
		} else if errors.Is(err, errGoAway) || time.Since(began) > lastWait {
			backoff.Reset()
		}
		pause := backoff.Next()
		g.log.Warn("tunnel closed, will reconnect", "err", err, "again_in", pause.Round(time.Millisecond))
		if retry.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// connect dials, proves its identity, and serves until the tunnel ends. The error says why it ended.
func (g *Guest) connect(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	g.dials.Add(1)
	ws, under, err := g.dial(ctx)
	if err != nil {
		return err
	}
	session := wire.Session(ws, under, true)
	var all sync.WaitGroup
	defer all.Wait()
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	control, err := session.OpenStream()
	if err != nil {
		return err
	}
	now := time.Now()
	g.connected.Store(&now)
	defer g.connected.Store(nil)
	g.log.Info("tunnel connected")

	all.Add(3)
	go func() { defer all.Done(); cancel(g.speak(ctx, control)) }()
	go func() { defer all.Done(); cancel(g.listen(control)) }()
	go func() { defer all.Done(); cancel(g.accept(ctx, session, &all)) }()
	select {
	case <-ctx.Done():
	case <-session.Done():
		cancel(errors.New("the tunnel broke"))
	}
	return context.Cause(ctx)
}

func (g *Guest) dial(ctx context.Context) (*websocket.Conn, *frames.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*wire.GreetingTimeout)
	defer cancel()
	u := "ws" + strings.TrimPrefix(g.c.ControlPlaneURL, "http") + wire.TunnelPath
	ws, under, _, err := frames.Dial(ctx, u, &websocket.DialOptions{
		HTTPClient: g.client, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, nil, err
	}
	if err := g.greet(ctx, ws); err != nil {
		ws.CloseNow()
		switch websocket.CloseStatus(err) {
		case wire.CloseUnauthorized:
			g.forget()
			return nil, nil, errors.New("the control plane does not have this machine's key")
		case wire.CloseGone:
			return nil, nil, &refusedError{"the control plane no longer has this instance"}
		case wire.CloseTooOften:
			return nil, nil, &refusedError{"the control plane says that this machine connects too often"}
		case wire.CloseOwned:
			return nil, nil, errors.New("another guest with this machine's key holds the tunnel")
		}
		return nil, nil, fmt.Errorf("greeting: %w", err)
	}
	return ws, under, nil
}

func (g *Guest) greet(ctx context.Context, ws *websocket.Conn) error {
	ws.SetReadLimit(wire.MaxGreeting)
	var c wire.Challenge
	if err := readJSON(ctx, ws, &c); err != nil {
		return err
	}
	if c.Version != wire.Version || len(c.Nonce) != 32 {
		return fmt.Errorf("the control plane uses version %d of the tunnel, and this guest %d", c.Version, wire.Version)
	}
	proof, err := json.Marshal(wire.Proof{
		Version: wire.Version, Instance: g.c.Instance, Boot: g.boot,
		Signature: ed25519.Sign(g.key, wire.SignedBytes(c.Nonce, g.c.Instance, g.boot)),
		Process:   g.process, ProcessSignature: ed25519.Sign(g.key, wire.SignedProcess(c.Nonce, g.c.Instance, g.boot, g.process)),
	})
	if err != nil {
		return err
	}
	if err := ws.Write(ctx, websocket.MessageText, proof); err != nil {
		return err
	}
	var w wire.Welcome
	if err := readJSON(ctx, ws, &w); err != nil {
		return err
	}
	if !w.OK {
		return errors.New("not welcome")
	}
	return nil
}

func readJSON(ctx context.Context, ws *websocket.Conn, v any) error {
	_, b, err := ws.Read(ctx)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// speak writes the guest's side of the control stream.
func (g *Guest) speak(ctx context.Context, control *mux.Stream) error {
	send := func(m wire.Message) error {
		_ = control.SetWriteDeadline(time.Now().Add(wire.WriteTimeout))
		return wire.WriteLine(control, m, wire.MaxLine)
	}
	hello := func() error {
		return send(wire.Message{Hello: &wire.Hello{
			Version: g.version, Boot: g.boot, VNCPassword: g.secret.VNCPassword, GatewayToken: g.planeToken,
			Desktop: g.desktop.About(), Agent: g.agent.About(), Versions: g.versions(),
		}})
	}
	err := hello()
	if err != nil {
		return err
	}
	said := 0
	if g.announced { // only the current one is sent again
		reached, _ := g.phases.after(0)
		said = max(0, len(reached)-1)
	}
	health := time.NewTicker(wire.HealthEvery)
	defer health.Stop()
	use := time.NewTicker(wire.ActivityEvery)
	defer use.Stop()
	report := func() error {
		a := g.activity.Report()
		return send(wire.Message{Activity: &a})
	}
	if err := report(); err != nil {
		return err
	}
	var told wire.State
	var pause <-chan time.Time // until the next State may be sent; nil: it may be sent
	for {
		var stirred, came <-chan struct{}
		resumed := g.activity.Resumed()
		if pause == nil {
			var s wire.State
			s, stirred = g.operator.State()
			if s.Viewers, came = g.desktop.Viewers(); s.Viewers == 1 {
				s.Viewers = 0
			}
			if s != told {
				if err := send(wire.Message{State: &s}); err != nil {
					return err
				}
				if s.Runs != told.Runs || s.Approvals != told.Approvals || s.Questions != told.Questions {
					if err := report(); err != nil {
						return err
					}
				}
				told, pause, stirred, came = s, time.After(stateEvery), nil, nil
			}
		}
		reached, changed := g.phases.after(said)
		for _, p := range reached {
			if err := send(wire.Message{Phase: &p}); err != nil {
				return err
			}
			said++
			g.announced = true
			if p.Phase == ready {
				h := g.health()
				if err := send(wire.Message{Health: &h}); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-stirred:
		case <-came:
		case <-pause:
			pause = nil
		case <-g.changed:
			err = hello()
		case <-resumed:
			err = report()
		case <-use.C:
			err = report()
		case sent := <-g.last:
			err = report()
			close(sent)
		case <-health.C:
			h := g.health()
			err = send(wire.Message{Health: &h})
		}
		if err != nil {
			return err
		}
	}
}

// listen reads the control plane's side of the control stream.
func (g *Guest) listen(control *mux.Stream) error {
	lines := wire.NewLines(control)
	for {
		m, err := lines.Next()
		switch {
		case err != nil:
			return fmt.Errorf("control stream: %w", err)
		case m.Keys != nil:
			g.keys.set(m.Keys.Env)
			g.log.Info("API keys received", "count", len(m.Keys.Env))
		case m.Notice != nil:
			g.desktop.Notice(*m.Notice)
		case m.GoAway != nil:
			return errGoAway
		}
	}
}

// accept serves the streams that the control plane opens.
func (g *Guest) accept(ctx context.Context, session *mux.Session, all *sync.WaitGroup) error {
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return fmt.Errorf("accept a stream: %w", err)
		}
		if g.streams.Add(1) > wire.MaxStreams {
			g.streams.Add(-1)
			stream.Close()
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			defer g.streams.Add(-1)
			defer stream.Close()
			if err := g.serve(ctx, stream); err != nil && ctx.Err() == nil {
				g.log.Info("stream ended", "err", err)
			}
		}()
	}
}

func (g *Guest) serve(ctx context.Context, stream *mux.Stream) error {
	_ = stream.SetDeadline(time.Now().Add(wire.WriteTimeout))
	var open wire.Open
	if err := wire.ReadLine(stream, &open, wire.MaxHeader); err != nil {
		return err
	}
	var (
		handle func(context.Context, net.Conn) error
		err    error
	)
	switch open.Open {
	case wire.VNC:
		if handle, err = g.desktop.Dial(ctx); err == nil {
			handle = g.activity.Viewer(handle)
		}
	case wire.Agent:
		if handle, err = g.agent.Dial(ctx); err == nil {
			handle = g.activity.Chat(operator.Guard(g.planeToken, g.secret.GatewayToken, handle))
		}
	case wire.Operator:
		handle = g.operator.Serve
	case wire.Chats:
		handle = g.chats.Serve
	case wire.HTTP:
		handle = g.http.Hand
	default:
		err = errors.New("no such service")
	}
	if err != nil {
		return errors.Join(err, wire.WriteLine(stream, wire.Opened{Error: err.Error()}, wire.MaxHeader))
	}
	if err := wire.WriteLine(stream, wire.Opened{OK: true}, wire.MaxHeader); err != nil {
		return err
	}
	_ = stream.SetDeadline(time.Time{})
	return handle(ctx, stream)
}
