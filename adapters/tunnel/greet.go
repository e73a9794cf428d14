package tunnel

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/coder/websocket"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/frames"
	"github.com/cloudbot-ai/control-plane/guest/mux"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// refusal ends a greeting with a close code.
type refusal struct {
	code   websocket.StatusCode
	reason string
}

func (r *refusal) Error() string { return r.reason }

var (
	errUnauthorized = &refusal{wire.CloseUnauthorized, "signature refused"}
	errGone         = &refusal{wire.CloseGone, "no such instance"}
	errOwned        = &refusal{wire.CloseOwned, "another guest of this machine holds the tunnel"}
	errTooOften     = &refusal{wire.CloseTooOften, "this machine connects too often; try again in a minute"}
	errUnavailable  = &refusal{wire.CloseUnavailable, "try again"}
	errClosing      = &refusal{websocket.StatusServiceRestart, "restarting"}
)

// greet upgrades the request, has the guest prove its identity, and serves its tunnel until it ends. The nonce
// is new for each connection, so a recorded proof is useless.
func (h *Hub) greet(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Origin") != "" {
		refuse(w, r, http.StatusForbidden, "not_a_guest", "Only machines may open tunnels, not browsers.")
		return
	}
	from := h.c.ClientAddr(r)
	if v := h.greetTries.take(fair.ByAddress("address", from, greetTriesOne, greetTriesSite, greetTriesWide)...); v != fair.Taken {
		h.refusals.note(r.Context(), "too many tries", errors.New("too many greetings in a minute"))
		crowded(w, r, v, "30")
		return
	}
	leave, v := h.greetings.Take(fair.ByAddress("greeting", from, greetingsOne, greetingsSite, greetingsWide)...)
	if v != fair.Taken {
		h.refusals.note(r.Context(), "no place", errors.New("too many connections in their greeting"))
		crowded(w, r, v, "1")
		return
	}
	t, err := func() (*tunnel, error) {
		defer leave()
		ws, under, err := frames.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled}, mux.Large)
		if err != nil {
			return nil, nil // Accept has answered the request
		}
		t, err := h.admit(r.Context(), ws, under)
		if err == nil {
			return t, nil
		}
		var no *refusal
		if !errors.As(err, &no) {
			no = errUnavailable
		}
		// The guest may be gone or hostile: send the close frame without waiting for an answer.
		go func() { _ = ws.Close(no.code, no.reason) }()
		return nil, err
	}()
	if err != nil {
		reason := "connection failed"
		if no := (*refusal)(nil); errors.As(err, &no) {
			reason = no.reason
		}
		h.refusals.note(r.Context(), reason, err)
	}
	if t != nil {
		t.run(r.Context())
	}
}

// admit performs the greeting and makes the guest's tunnel the owner of the machine.
func (h *Hub) admit(ctx context.Context, ws *websocket.Conn, under *frames.Conn) (*tunnel, error) {
	ctx, cancel := context.WithTimeout(ctx, wire.GreetingTimeout)
	defer cancel()
	ws.SetReadLimit(wire.MaxGreeting)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	if err := writeJSON(ctx, ws, wire.Challenge{Version: wire.Version, Nonce: nonce}); err != nil {
		return nil, err
	}
	reading, late := context.WithTimeout(ctx, h.proof)
	defer late()
	typ, b, err := ws.Read(reading)
	if err != nil {
		return nil, err
	}
	var p wire.Proof
	if typ != websocket.MessageText || json.Unmarshal(b, &p) != nil || p.Version != wire.Version || !wire.Word(p.Instance) || !wire.Word(p.Boot) {
		return nil, errUnauthorized
	}
	key, account, err := h.c.Machines.Guest(ctx, p.Instance)
	if err != nil {
		var d *domain.Error
		switch {
		case !errors.As(err, &d) || d.Kind == domain.Unavailable || d.Kind == domain.Exhausted:
			return nil, fmt.Errorf("look up the guest of %s: %w", p.Instance, err)
		case d.Kind == domain.Unauthenticated || d.Kind == domain.Forbidden:
			return nil, errUnauthorized
		}
		return nil, errGone
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, wire.SignedBytes(nonce, p.Instance, p.Boot), p.Signature) {
		return nil, errUnauthorized
	}
	if p.Process != "" && (!wire.Word(p.Process) || !ed25519.Verify(key, wire.SignedProcess(nonce, p.Instance, p.Boot, p.Process), p.ProcessSignature)) {
		return nil, errUnauthorized
	}
	switch h.connects.take(fair.Claim{Key: "machine " + p.Instance, Max: connectsMachine}, fair.Claim{Key: "account " + account, Max: connectsAccount}) {
	case fair.ShareFull:
		return nil, errTooOften
	case fair.Full:
		return nil, errUnavailable
	}
	who := owner{p.Boot, p.Process}
	if err := h.yieldElsewhere(ctx, p.Instance, who); err != nil {
		return nil, err
	}
	t := newTunnel(h, ws, under, p.Instance, who, account)
	if err := h.take(ctx, t); err != nil {
		return nil, err
	}
	if err := writeJSON(ctx, ws, wire.Welcome{OK: true}); err != nil {
		t.abandon()
		return nil, err
	}
	return t, nil
}

// take makes t the owner of its machine and ends an earlier tunnel. The same guest process reconnects because it
// lost its connection, even if this end has not noticed. Another process must wait until the owner stops answering.
func (h *Hub) take(ctx context.Context, t *tunnel) error {
	for {
		h.mu.Lock()
		if h.closing {
			h.mu.Unlock()
			return errClosing
		}
		old := h.tunnels[t.instance]
		if old == nil {
			h.tunnels[t.instance] = t
			away := h.found(t.instance)
			h.all.Add(1)
			h.mu.Unlock()
			if (away == 0 || away >= silentAfter) && h.c.Changed != nil { // it was connected elsewhere, or away for long
				h.c.Changed(t.account, t.instance)
			}
			return nil
		}
		h.mu.Unlock()
		if err := old.yield(ctx, t.owner); err != nil {
			return err
		}
	}
}

func writeJSON(ctx context.Context, ws *websocket.Conn, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ws.Write(ctx, websocket.MessageText, b)
}
