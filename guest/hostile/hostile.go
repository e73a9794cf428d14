// Package hostile is a machine controlled by an attacker, for tests: it enrols and connects like a real guest, over a real
// tunnel, and then does what the test wants.
//
// Start with Machine.Connect, or give one of the services (Gateway, Desktop) a connection of your own.
package hostile

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Machine is the machine that connects, and the identity it presents.
type Machine struct {
	URL      string // of the control plane
	Instance string
	Boot     string
	Process  string // "": an old guest
	Key      ed25519.PrivateKey
	From     string // X-Forwarded-For; "": none

	Network func(ctx context.Context, network, addr string) (net.Conn, error) // to dial on; nil: the real one
}

// Enroll redeems a token for the machine's key and returns the answer's status and problem code.
func (m Machine) Enroll(ctx context.Context, token string) (status int, code string, err error) {
	body, err := json.Marshal(wire.Enroll{Token: token, PublicKey: m.Key.Public().(ed25519.PublicKey)})
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL+wire.EnrollPath, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header = m.header()
	res, err := m.client(nil).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	return res.StatusCode, problemCode(res), nil
}

// Refused is the control plane's refusal of a greeting: a status and a problem before the upgrade, or a close code after
// it.
type Refused struct {
	Status int // 0: it was a close code
	Close  websocket.StatusCode
	Code   string // of the problem
	Reason string // of the close
	After  string // Retry-After
}

func (r *Refused) Error() string {
	return fmt.Sprintf("refused: status %d %s, close %d %q", r.Status, r.Code, r.Close, r.Reason)
}

// Dial begins the greeting and reads the challenge. The caller may continue it.
func (m Machine) Dial(ctx context.Context) (*websocket.Conn, wire.Challenge, error) {
	ws, _, _, c, err := m.dial(ctx)
	return ws, c, err
}

func (m Machine) dial(ctx context.Context) (*websocket.Conn, *frames.Conn, *gate, wire.Challenge, error) {
	var c wire.Challenge
	g := &gate{open: make(chan struct{})}
	close(g.open)
	ws, under, res, err := frames.Dial(ctx, "ws"+strings.TrimPrefix(m.URL, "http")+wire.TunnelPath, &websocket.DialOptions{HTTPClient: m.client(g), HTTPHeader: m.header()})
	if err != nil {
		if res != nil {
			return nil, nil, nil, c, &Refused{Status: res.StatusCode, Code: problemCode(res), After: res.Header.Get("Retry-After")}
		}
		return nil, nil, nil, c, err
	}
	_, b, err := ws.Read(ctx)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		ws.CloseNow()
		return nil, nil, nil, c, closed(err)
	}
	return ws, under, g, c, nil
}

// Connect greets properly and says a proper hello. The error is a *Refused where the control plane refuses.
func (m Machine) Connect(ctx context.Context) (*Tunnel, error) {
	ws, under, g, c, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	t, err := m.greet(ctx, ws, under, c)
	if err != nil {
		ws.CloseNow()
		return nil, closed(err)
	}
	t.gate = g
	return t, nil
}

func (m Machine) greet(ctx context.Context, ws *websocket.Conn, under *frames.Conn, c wire.Challenge) (*Tunnel, error) {
	b, err := json.Marshal(m.Proof(c))
	if err != nil {
		return nil, err
	}
	if err := ws.Write(ctx, websocket.MessageText, b); err != nil {
		return nil, err
	}
	if _, _, err := ws.Read(ctx); err != nil {
		return nil, err
	}
	session := wire.Session(ws, under, true)
	t := &Tunnel{m: m, session: session}
	if t.control, err = session.OpenStream(); err != nil {
		session.Close()
		return nil, err
	}
	return t, t.Say(wire.Message{Hello: &wire.Hello{Version: "hostile", Boot: m.Boot, VNCPassword: Password, GatewayToken: Token}})
}

// FloodBoots connects up to n times, each time as another boot that sends all its phases. It returns how many boots did
// so, and the error that ended it.
func (m Machine) FloodBoots(ctx context.Context, n int) (boots int, err error) {
	for boots < n {
		m.Boot = fmt.Sprint("boot-", boots)
		t, err := m.Connect(ctx)
		if no := (*Refused)(nil); errors.As(err, &no) && no.Close == wire.CloseOwned {
			continue // the control plane has not noticed the end of the last one yet
		}
		if err != nil {
			return boots, err
		}
		for _, p := range []string{"booting", "installing", "desktop", "agent", "ready"} {
			if err := t.Say(wire.Message{Phase: &wire.Phase{Phase: p}}); err != nil {
				return boots, err
			}
		}
		t.Close()
		boots++
	}
	return boots, nil
}

// Proof returns the correct answer to a challenge.
func (m Machine) Proof(c wire.Challenge) wire.Proof {
	p := wire.Proof{
		Version: wire.Version, Instance: m.Instance, Boot: m.Boot, Process: m.Process,
		Signature: ed25519.Sign(m.Key, wire.SignedBytes(c.Nonce, m.Instance, m.Boot)),
	}
	if m.Process != "" {
		p.ProcessSignature = ed25519.Sign(m.Key, wire.SignedProcess(c.Nonce, m.Instance, m.Boot, m.Process))
	}
	return p
}

func (m Machine) header() http.Header {
	h := http.Header{}
	if m.From != "" {
		h.Set("X-Forwarded-For", m.From)
	}
	return h
}

// client returns a client that keeps no connections; its connections pass through g if that is set.
func (m Machine) client(g *gate) *http.Client {
	dial := m.Network
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	t := &http.Transport{DisableKeepAlives: true, DialContext: dial}
	if g != nil {
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &gated{Conn: conn, gate: g, closed: make(chan struct{})}, nil
		}
	}
	return &http.Client{Transport: t}
}

func problemCode(res *http.Response) string {
	var p struct{ Code string }
	_ = json.NewDecoder(res.Body).Decode(&p)
	return p.Code
}

func closed(err error) error {
	var c websocket.CloseError
	if errors.As(err, &c) {
		return &Refused{Close: c.Code, Reason: c.Reason}
	}
	return err
}

// Tunnel is the machine's end of its tunnel.
type Tunnel struct {
	m       Machine
	session *mux.Session
	control *mux.Stream
	gate    *gate
}

// Say sends a control line.
func (t *Tunnel) Say(m wire.Message) error { return wire.WriteLine(t.control, m, wire.MaxLine) }

// Serve answers the streams that the control plane opens, by service, until the tunnel ends.
func (t *Tunnel) Serve(services map[string]func(net.Conn)) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s, err := t.session.AcceptStream()
		if err != nil {
			return
		}
		all.Go(func() {
			defer s.Close()
			var o wire.Open
			if wire.ReadLine(s, &o, wire.MaxHeader) != nil {
				return
			}
			serve := services[o.Open]
			if serve == nil {
				_ = wire.WriteLine(s, wire.Opened{Error: "not ready"}, wire.MaxHeader)
				return
			}
			if wire.WriteLine(s, wire.Opened{OK: true}, wire.MaxHeader) == nil {
				serve(s)
			}
		})
	}
}

// Freeze stops all reads and writes of the machine, as SIGSTOP does; the connection stays open.
func (t *Tunnel) Freeze() { t.gate.shut() }

// Thaw ends a Freeze.
func (t *Tunnel) Thaw() { t.gate.reopen() }

// Ended is closed with the tunnel.
func (t *Tunnel) Ended() <-chan struct{} { return t.session.Done() }

// Streams returns how many streams are open or being closed, the control stream included.
func (t *Tunnel) Streams() int { return t.session.Streams() }

// Close ends the tunnel.
func (t *Tunnel) Close() { t.session.Close() }

// gate passes bytes while it is open.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func (g *gate) passage() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

type gated struct {
	net.Conn
	gate   *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gated) wait() error {
	select {
	case <-c.gate.passage():
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *gated) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if stop := c.wait(); stop != nil {
		return 0, stop
	}
	return n, err
}

func (c *gated) Write(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *gated) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
