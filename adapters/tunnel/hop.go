package tunnel

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/pipe"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// HopPrefix is the path at which to mount HopHandler.
const HopPrefix = "/internal/hop/"

const (
	hopProtocol = "cloudbot-hop"
	// yieldTime is how long another replica has to release a machine: to ping its guest and to end its tunnel. A
	// host that is gone does not answer, and its presence expires later; the greeting must not wait for that.
	yieldTime = pingTime + time.Second
)

// HopHandler serves other replicas, for machines whose tunnel this replica holds. Mount it at HopPrefix with
// the path unchanged. It never forwards to another replica.
func (h *Hub) HopHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+HopPrefix+"{instance}/{service}", h.hopOpen)
	mux.HandleFunc("POST "+HopPrefix+"{instance}/yield/{owner}", h.hopYield)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.hops == nil {
			refuse(w, r, http.StatusNotFound, "not_found", "There is nothing at this path.")
			return
		}
		if err := h.hops.check(r, time.Now()); err != nil {
			h.refusals.note(r.Context(), "hop", err) // anyone may send one
			refuse(w, r, http.StatusUnauthorized, "hop_refused", "This path is for replicas only.")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// hopOpen joins the caller's connection to a stream of a local tunnel.
func (h *Hub) hopOpen(w http.ResponseWriter, r *http.Request) {
	t := h.local(r.PathValue("instance"))
	if t == nil {
		refuse(w, r, http.StatusNotFound, "not_connected", ErrNotConnected.Error())
		return
	}
	conn, secret, err := t.open(r.Context(), r.PathValue("service"))
	switch {
	case errors.Is(err, ErrBusy):
		refuse(w, r, http.StatusTooManyRequests, "busy", ErrBusy.Error())
		return
	case errors.Is(err, ErrNotReady):
		refuse(w, r, http.StatusConflict, "not_ready", ErrNotReady.Error())
		return
	case err != nil:
		refuse(w, r, http.StatusBadGateway, "not_connected", ErrNotConnected.Error())
		return
	}
	defer conn.Close()
	sealed, err := h.hops.seal(secret, r.Header.Get(hopNonce))
	if err != nil {
		refuse(w, r, http.StatusInternalServerError, "internal", "The machine's secret cannot be encrypted.")
		return
	}
	back, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		refuse(w, r, http.StatusInternalServerError, "internal", "The connection cannot be taken over.")
		return
	}
	defer back.Close()
	_ = back.SetDeadline(time.Now().Add(wire.WriteTimeout))
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s: %s\r\n\r\n", hopProtocol, hopSecret, sealed)
	if rw.Flush() != nil {
		return
	}
	_ = back.SetDeadline(time.Time{})
	// The hijacked request's context lasts as long as this handler; the end of the tunnel closes conn.
	_ = pipe.Join(context.WithoutCancel(r.Context()), after(back, rw.Reader), conn)
}

// hopYield releases a machine whose guest dialled another replica.
func (h *Hub) hopYield(w http.ResponseWriter, r *http.Request) {
	if t := h.local(r.PathValue("instance")); t != nil {
		boot, process, _ := strings.Cut(r.PathValue("owner"), ".")
		if err := t.yield(r.Context(), owner{boot, process}); errors.Is(err, errOwned) {
			refuse(w, r, http.StatusConflict, "owned", errOwned.reason)
			return
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// hop reaches a service of a machine at another replica.
func (h *Hub) hop(ctx context.Context, target, instanceID, service string) (net.Conn, Secret, error) {
	conn, res, nonce, err := h.call(ctx, http.MethodGet, target, HopPrefix+url.PathEscape(instanceID)+"/"+url.PathEscape(service))
	if err != nil {
		return nil, Secret{}, fmt.Errorf("%w: hop to its replica: %w", ErrNotConnected, err)
	}
	switch res.StatusCode {
	case http.StatusSwitchingProtocols:
		secret, err := h.hops.unseal(res.Header.Get(hopSecret), nonce)
		if err != nil {
			conn.Close()
			return nil, Secret{}, err
		}
		return conn, secret, nil
	case http.StatusConflict:
		err = ErrNotReady
	case http.StatusTooManyRequests:
		err = ErrBusy
	default:
		err = fmt.Errorf("%w: its replica answers %d", ErrNotConnected, res.StatusCode)
	}
	conn.Close()
	return nil, Secret{}, err
}

// yieldElsewhere asks the replica that holds the machine's tunnel, if any, to release it.
func (h *Hub) yieldElsewhere(ctx context.Context, instanceID string, who owner) error {
	if h.hops == nil {
		return nil
	}
	target, err := h.c.Presence.Lookup(ctx, instanceID)
	if err != nil {
		// The guest has proved its identity. Its presence is claimed when presence is available again.
		h.log.WarnContext(ctx, "presence unavailable; another replica may hold the tunnel", "instance", instanceID, "err", err)
		return nil
	}
	if target == "" || target == h.c.Advertise {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, yieldTime)
	defer cancel()
	conn, res, _, err := h.call(ctx, http.MethodPost, target, HopPrefix+url.PathEscape(instanceID)+"/yield/"+url.PathEscape(who.String()))
	if err != nil {
		return nil // a replica that is gone holds no tunnel; its presence expires
	}
	conn.Close()
	if res.StatusCode == http.StatusConflict {
		return errOwned
	}
	return nil
}

// call sends a signed request on a new connection and returns that connection with the answer.
func (h *Hub) call(ctx context.Context, method, target, path string) (conn net.Conn, res *http.Response, nonce string, err error) {
	ctx, cancel := context.WithTimeout(ctx, wire.GreetingTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target+path, nil)
	if err != nil {
		return nil, nil, "", err
	}
	nonce = h.hops.sign(req, target, time.Now())
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", hopProtocol)
	if conn, err = dial(ctx, req.URL); err != nil {
		return nil, nil, "", err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReader(conn)
	if err = req.Write(conn); err == nil {
		res, err = http.ReadResponse(r, req)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, "", err
	}
	return after(conn, r), res, nonce, nil
}

func dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	if u.Scheme == "https" {
		d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}}
		return d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")))
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")))
}

// after returns the connection with what r has read of it.
func after(c net.Conn, r *bufio.Reader) net.Conn {
	if r.Buffered() == 0 {
		return c // a socket is read without a buffer
	}
	return &buffered{Conn: c, r: r}
}

// buffered first reads the data that arrived with the answer's head.
type buffered struct {
	net.Conn
	r io.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
