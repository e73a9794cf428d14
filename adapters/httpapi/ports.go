package httpapi

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// Queries are the front's queries of the read models; see projections.Reader.
type Queries interface {
	List(ctx context.Context, account string, p projections.Page, used projections.Period, also ...func(*pgx.Batch)) (projections.Listed, error)
	Desktop(ctx context.Context, account, id string, used projections.Period, also ...func(*pgx.Batch)) (projections.Listed, error)
	Latest(ctx context.Context, accounts []string) (map[string]int64, error)
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
	Usage(ctx context.Context, account string, from, to time.Time) (usage.Usage, error)
	InstancesOf(ctx context.Context, account string, ids []string) ([]projections.Instance, error)
	Plans(ctx context.Context, accounts ...string) (map[string]billing.State, error)
	BootTimes(ctx context.Context, machineType string) (map[string]projections.BootTimes, error)
}

// Activities reads what is known of desktops' use, also as a part of another query's batch.
type Activities interface {
	commands.Activities
	// Beside returns ActivitiesOf in two steps: queue adds its query to a batch, and read is called once the batch is closed.
	Beside(account string) (queue func(*pgx.Batch), read func(context.Context) (map[string]commands.Activity, time.Time, error))
}

// Tokens signs and verifies access and refresh tokens. A token of one kind is never valid as the other.
type Tokens interface {
	Access(account, session string, now time.Time) (token string, expires time.Time)
	ParseAccess(token string) (access.Claims, error)
	Refresh(account, session string, leaf session.Leaf) string
	ParseRefresh(token string) (account, session, tokenID string, err error)
}

// Tickets issues one-time tickets. Exactly one Redeem of a ticket succeeds.
type Tickets interface {
	Issue(ctx context.Context, t access.Ticket) (token string, expires time.Time, err error)
	// Redeem returns a *domain.Error for a ticket that is unknown, has been used or has expired.
	Redeem(ctx context.Context, token string) (access.Ticket, error)
	// Peek is Redeem, but the ticket remains valid.
	Peek(ctx context.Context, token string) (access.Ticket, error)
}

// Limiter counts tries by key over all replicas. It returns how long to wait; 0: not at all.
type Limiter interface {
	Allow(ctx context.Context, key string, limit int, window time.Duration) (retryAfter time.Duration, err error)
	// GiveBack undoes one use that Allow counted, if possible.
	GiveBack(ctx context.Context, key string, limit int, window time.Duration)
}

// Bridges serves a WebSocket request and returns when the bridge has ended. The request has no credentials.
// An unreachable machine is refused before the upgrade.
type Bridges interface {
	ServeVNC(w http.ResponseWriter, r *http.Request, b access.BridgeSession)
	ServeAgent(w http.ResponseWriter, r *http.Request, b access.BridgeSession)
	// Check reaches the machine as a bridge of this kind would, then disconnects from it. If the machine cannot
	// be reached, Check answers the request and returns false.
	Check(w http.ResponseWriter, r *http.Request, kind string, b access.BridgeSession) bool
}

// Diagnostics connects to the diagnostics server of an instance's guest, which speaks HTTP/1.1.
type Diagnostics interface {
	Dial(ctx context.Context, instanceID string) (net.Conn, error)
}

// Chats reads the saved chats of an account's own instance: a wire.SavedChats in JSON, and when they were saved.
type Chats interface {
	Read(ctx context.Context, account, instanceID string) (chats []byte, at time.Time, err error)
}
