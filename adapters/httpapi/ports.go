package httpapi

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Queries are what the front asks of the read models; see projections.Reader.
type Queries interface {
	Instances(ctx context.Context, account string, p projections.Page) (list []projections.Instance, next string, err error)
	Instance(ctx context.Context, account, id string) (projections.Instance, error)
	History(ctx context.Context, account, id string, after int64, limit int) ([]projections.Entry, error)
	HistoryBefore(ctx context.Context, account, id string, before int64, limit int) ([]projections.Entry, error)
	AccountHistory(ctx context.Context, account string, after int64, limit int) ([]projections.Entry, error)
	AccountHistoryBefore(ctx context.Context, account string, before int64, limit int) ([]projections.Entry, error)
	Since(ctx context.Context, account string, after int64, limit int) ([]projections.Entry, error)
	Sessions(ctx context.Context, account string) ([]projections.Session, error)
	EndedSince(ctx context.Context, t time.Time) ([]string, error)
	Suspended(ctx context.Context) (map[string]int64, error)
	APIKeys(ctx context.Context, account string) ([]projections.APIKey, error)
	BootTimes(ctx context.Context, machineType string) (map[string]projections.BootTimes, error)
}

// Claims is what a good access token says.
type Claims struct {
	Account   string
	Session   string
	TokenID   string
	ExpiresAt time.Time
}

// Tokens makes and reads access and refresh tokens. A token of one kind never passes for the other.
type Tokens interface {
	Access(account, session string, now time.Time) (token string, expires time.Time)
	ParseAccess(token string) (Claims, error)
	Refresh(account, session string, leaf session.Leaf) string
	ParseRefresh(token string) (account, session, tokenID string, err error)
}

// Ticket is what a one-time ticket stands for.
type Ticket struct {
	Account  string
	Session  string
	Instance string
	Kind     string // KindVNC or KindAgent
	Mode     string // ModeControl or ModeView
}

// The kinds of bridges and what their user may do.
const (
	KindVNC     = "vnc"
	KindAgent   = "cloudbot"
	ModeControl = "control"
	ModeView    = "view"
)

// Tickets issues one-time tickets. Of any number of Redeems of one ticket exactly one succeeds.
type Tickets interface {
	Issue(ctx context.Context, t Ticket) (token string, expires time.Time, err error)
	// Redeem fails with a *domain.Error where the ticket is unknown, used or too old.
	Redeem(ctx context.Context, token string) (Ticket, error)
	// Peek is Redeem without using the ticket up.
	Peek(ctx context.Context, token string) (Ticket, error)
}

// Limiter counts tries by key over all replicas. It returns how long to wait, 0 to go ahead.
type Limiter interface {
	Allow(ctx context.Context, key string, limit int, window time.Duration) (retryAfter time.Duration, err error)
	// GiveBack takes back one use that Allow counted, where it can.
	GiveBack(ctx context.Context, key string, limit int, window time.Duration)
}

// BridgeSession says for whom a bridge is opened. Origin, credentials and ownership are checked.
type BridgeSession struct {
	Account   string
	SessionID string
	Instance  string
	Mode      string          // ModeControl or ModeView
	Revoked   <-chan struct{} // closed when the session ends, and at ExpiresAt: close with 4401
	Gone      <-chan struct{} // closed when the instance ends: close with 4404
	ExpiresAt time.Time
}

// Bridges answers a WebSocket request and returns when the bridge has ended. Credentials are
// taken out of the request before. What cannot be reached is refused before the upgrade.
type Bridges interface {
	ServeVNC(w http.ResponseWriter, r *http.Request, b BridgeSession)
	ServeAgent(w http.ResponseWriter, r *http.Request, b BridgeSession)
	// Check reaches the machine as a bridge of this kind would, and lets go of it. Where that is refused
	// it answers the request and returns false.
	Check(w http.ResponseWriter, r *http.Request, kind string, b BridgeSession) bool
}

// Diagnostics reaches the diagnostics server of an instance's guest, which speaks HTTP/1.1 on the connection.
type Diagnostics interface {
	Dial(ctx context.Context, instanceID string) (net.Conn, error)
}
