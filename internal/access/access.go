// Package access holds what a request may do, as the front, the token and ticket stores and the bridges
// exchange it. It has types only: each adapter imports them instead of another adapter.
package access

import (
	"strings"
	"time"
)

// Claims is what a valid access token says.
type Claims struct {
	Account   string
	Session   string // of the log-in, or an API token's, see TokenSession
	TokenID   string
	ExpiresAt time.Time
	Grant     *Grant // of an API token; nil: a log-in, which may do everything
}

// Grant is what an API token may do.
type Grant struct {
	Scopes   []string
	Desktops []string // the only ones it may be used for; nil: all
}

// tokenSession begins the session of an API token; what follows is the token's id.
const tokenSession = "token/"

// TokenSession returns what an API token has in place of a session.
func TokenSession(id string) string { return tokenSession + id }

// TokenOf returns the id of the API token that a session stands for, if it is one.
func TokenOf(session string) (id string, ok bool) { return strings.CutPrefix(session, tokenSession) }

// The kinds of bridges.
const (
	KindVNC   = "vnc"      // the desktop's screen
	KindAgent = "cloudbot" // the desktop's agent
)

// The modes of bridges.
const (
	ModeControl = "control"
	ModeView    = "view"
)

// Ticket is what a one-time ticket permits: opening one WebSocket.
type Ticket struct {
	Account  string
	Session  string
	Instance string
	Kind     string // KindVNC or KindAgent
	Mode     string // ModeControl or ModeView
}

// BridgeSession is one client's right to one machine. Its origin, credentials and ownership have been checked.
type BridgeSession struct {
	Account   string
	SessionID string // of the log-in
	Instance  string
	Mode      string          // ModeControl; anything else is view only
	Revoked   <-chan struct{} // closed when the session ends, and at ExpiresAt: close with 4401; nil: never
	Gone      <-chan struct{} // closed when the instance ends: close with 4404; nil: never
	ExpiresAt time.Time
}

// Controls reports whether the client may act on the machine.
func (s BridgeSession) Controls() bool { return s.Mode == ModeControl }
