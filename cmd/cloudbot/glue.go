package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/bridge"
	"github.com/cloudbot-ai/control-plane/adapters/httpapi"
	"github.com/cloudbot-ai/control-plane/adapters/jetstream"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/adapters/tickets"
	"github.com/cloudbot-ai/control-plane/adapters/tunnel"
	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// Adapters do not import each other. The types here let one call another.

type tokens struct{ *secrets.Tokens }

func (t tokens) ParseAccess(token string) (httpapi.Claims, error) {
	c, err := t.Tokens.ParseAccess(token)
	return httpapi.Claims(c), err
}

type ticketOffice struct{ kept tickets.Tickets }

func (t ticketOffice) Issue(ctx context.Context, ticket httpapi.Ticket) (string, time.Time, error) {
	return t.kept.Issue(ctx, tickets.Ticket(ticket))
}

func (t ticketOffice) Redeem(ctx context.Context, token string) (httpapi.Ticket, error) {
	ticket, err := t.kept.Redeem(ctx, token)
	return httpapi.Ticket(ticket), err
}

func (t ticketOffice) Peek(ctx context.Context, token string) (httpapi.Ticket, error) {
	ticket, err := t.kept.Peek(ctx, token)
	return httpapi.Ticket(ticket), err
}

type presence struct{ *jetstream.Presence }

func (p presence) Lookup(ctx context.Context, instanceID string) (string, error) {
	url, err := p.Presence.Lookup(ctx, instanceID)
	if errors.Is(err, jetstream.ErrNoTunnel) {
		return "", nil
	}
	return url, err
}

type bridges struct{ *bridge.Bridge }

func (b bridges) ServeVNC(w http.ResponseWriter, r *http.Request, s httpapi.BridgeSession) {
	b.Bridge.ServeVNC(w, r, bridgeSession(s))
}

func (b bridges) ServeAgent(w http.ResponseWriter, r *http.Request, s httpapi.BridgeSession) {
	b.Bridge.ServeAgent(w, r, bridgeSession(s))
}

func (b bridges) Check(w http.ResponseWriter, r *http.Request, kind string, s httpapi.BridgeSession) bool {
	service := wire.VNC
	if kind == httpapi.KindAgent {
		service = wire.Agent
	}
	return b.Bridge.Check(w, r, bridgeSession(s), service)
}

func bridgeSession(s httpapi.BridgeSession) bridge.Session {
	return bridge.Session{
		Account: s.Account, SessionID: s.SessionID, Instance: s.Instance, Mode: s.Mode, Revoked: s.Revoked, Gone: s.Gone,
	}
}

type diagnostics struct{ hub *tunnel.Hub }

func (d diagnostics) Dial(ctx context.Context, instanceID string) (net.Conn, error) {
	conn, _, err := d.hub.Open(ctx, instanceID, wire.HTTP)
	return conn, err
}
