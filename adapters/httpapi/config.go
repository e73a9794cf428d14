package httpapi

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/projections"
)

const (
	maxHeader = 32 << 10 // bytes of a request's header
	maxBody   = 64 << 10 // bytes of a request's body, but for Stripe's
	maxBodies = 64 << 20 // bytes of all bodies at a time: a thousand of the largest
)

// Config is what the front needs.
type Config struct {
	// Required.
	Accounts  *commands.Accounts
	Instances *commands.Instances
	Keys      *commands.Keys
	Idle      *commands.Idle
	Budgets   *commands.Budgets
	Prices    *usage.Prices
	Queries   Queries
	Progress  *projections.Progress // the position of the read models behind Queries
	Epoch     *Epoch                // the epoch of the log that its positions belong to; nil: always the first
	Tokens    Tokens
	Logger    *slog.Logger

	// If one of these is nil, requests that need it are answered with 503; with 404 for Web and Mounts.
	Tickets     Tickets
	Bridges     Bridges
	Diagnostics Diagnostics
	Chats       Chats
	// Payments is set where plans are required. nil: everyone may use everything, up to Instances.Limit.
	Payments *Payments
	// Silent reports whether a running instance's machine does not respond, and since when. nil: every machine responds.
	Silent func(ctx context.Context, instanceID string) (since time.Time, silent bool, err error)
	// AgentState returns what an instance's agent needs from its user, from memory; the zero State if it needs nothing or
	// that is not known. nil: never known.
	AgentState func(instanceID string) wire.State
	// Activities reads when desktops were last used. nil: never known.
	Activities Activities
	DiskGiB    int                     // of a new desktop's disk; 0: it has none of its own
	Web        http.Handler            // the dashboard; sees paths below /app as if they were below /
	Mounts     map[string]http.Handler // by prefix, such as "/guest/"; they get the full path, and neither deadline nor sign-in

	Limiter        Limiter              // shared by replicas; nil: this process counts alone
	Audit          *commands.Audit      // records diagnostics that are read; nil: nothing is recorded
	Limits         Limits               // zero fields: see Limits
	PublicURL      string               // the front's own; its origin may always call. "": pages of the request's Host may
	Origins        []string             // "https://app.example.com"; other sites that may call from browsers
	TrustedProxies []netip.Prefix       // whose X-Forwarded-For is believed; none by default
	RealIP         bool                 // these proxies send the client's address as X-Real-IP; their X-Forwarded-For is ignored
	Readiness      *Readiness           // what /ready says; nil: always ready
	Metrics        *prometheus.Registry // nil: a private one
	Environment    string               // as /health says it; "": development
	Version        string               // as GET /api says it; "": dev
	Source         string               // CloudEvents source; "": /cloudbot/<Environment>, as on NATS
	HSTS           bool                 // send Strict-Transport-Security: clients reach the front over TLS

	AccessLife  time.Duration    // life of an access token; 0: 1 h
	TicketLife  time.Duration    // longest bridge opened with a ticket; 0: 12 h
	Timeout     time.Duration    // of one request; 0: 25 s
	BodyTime    time.Duration    // for a request's body, plus the time that bodyRate allows for its length; 0: 5 s
	Heartbeat   time.Duration    // between comments on a silent event stream; 0: 15 s
	Grace       time.Duration    // at the end of Run, for load balancers to see that /ready fails; 0: none
	Drain       time.Duration    // for requests after it; 0: 20 s
	MaxInFlight int              // requests at a time; 0: 2048
	MaxStreams  int              // event streams an account may have; 0: 20
	NewID       func() string    // returns a new ULID; nil: a random one
	Now         func() time.Time // nil: time.Now in UTC
}

// Limits bounds requests. A zero field means the default in brackets, a negative Limit no bound.
type Limits struct {
	// Log-ins with a wrong password. For a device that logged in to the account before, only LoginDevice counts.
	LoginAddress    Rate // from one address, and four times as many from its network, see tallies [60 in 5 min]
	LoginAccount    Rate // to one account from one address, and so on [10 in 5 min]
	LoginEverywhere Rate // to one account from all addresses together [60 in 15 min]
	LoginDevice     Rate // from one device [10 in 5 min]
	LoginRight      Rate // with the right password to one account, at this replica [60 in 5 min]
	SignUpAddress   Rate // sign-ups from one address, and so on [20 an hour]
	SignUpAccount   Rate // sign-ups with one e-mail address from one address, and so on [10 an hour]
	Refresh         Rate // refreshes from one address, with tokens signed by this server [600 in 5 min]
	RefreshSession  Rate // refreshes of one session from one address, counted first [60 in 5 min]
	Ticket          Rate // refused bridge tickets from one address, and four times as many from its network [600 in 5 min]
	TicketInstance  Rate // those of them for one instance [120 in 5 min]
	Password        Rate // password changes tried on one account [10 in 10 min]
	Export          Rate // exports of one account [6 an hour]
	Create          Rate // instances asked for by one account [60 in 10 min]
	Payments        Rate // requests of one account for which Stripe is called, which count as changes too [60 in 10 min]
	Write           Rate // other changes by one account [600 in 5 min]
	Brake           Rate // terminations, stops and ended sessions by one account, if they change something [600 in 5 min]
	InFlightAddress int  // requests from one address at a time, over all accounts; see shares [256]
	BodiesAddress   int  // bytes of bodies from one address at a time, see bodyCost [4 MiB]
	InFlight        int  // requests of one account at a time, and separately those that Brake counts [64]
}

// Rate is a number of requests in a window of time.
type Rate struct {
	Limit  int
	Window time.Duration
}

func (l Limits) filled() Limits {
	l.LoginAddress = cmp.Or(l.LoginAddress, Rate{60, 5 * time.Minute})
	l.LoginAccount = cmp.Or(l.LoginAccount, Rate{10, 5 * time.Minute})
	l.LoginEverywhere = cmp.Or(l.LoginEverywhere, Rate{60, 15 * time.Minute})
	l.LoginDevice = cmp.Or(l.LoginDevice, Rate{10, 5 * time.Minute})
	l.LoginRight = cmp.Or(l.LoginRight, Rate{60, 5 * time.Minute})
	l.SignUpAddress = cmp.Or(l.SignUpAddress, Rate{20, time.Hour})
	l.SignUpAccount = cmp.Or(l.SignUpAccount, Rate{10, time.Hour})
	l.Refresh = cmp.Or(l.Refresh, Rate{600, 5 * time.Minute})
	l.RefreshSession = cmp.Or(l.RefreshSession, Rate{60, 5 * time.Minute})
	l.Ticket = cmp.Or(l.Ticket, Rate{600, 5 * time.Minute})
	l.TicketInstance = cmp.Or(l.TicketInstance, Rate{120, 5 * time.Minute})
	l.Password = cmp.Or(l.Password, Rate{10, 10 * time.Minute})
	l.Export = cmp.Or(l.Export, Rate{6, time.Hour})
	l.Create = cmp.Or(l.Create, Rate{60, 10 * time.Minute})
	l.Payments = cmp.Or(l.Payments, Rate{60, 10 * time.Minute})
	l.Write = cmp.Or(l.Write, Rate{600, 5 * time.Minute})
	l.Brake = cmp.Or(l.Brake, Rate{600, 5 * time.Minute})
	l.InFlight = cmp.Or(l.InFlight, 64)
	l.InFlightAddress = cmp.Or(l.InFlightAddress, 256)
	l.BodiesAddress = cmp.Or(l.BodiesAddress, 4<<20)
	return l
}

func (c Config) filled() (Config, error) {
	for name, missing := range map[string]bool{
		"Accounts": c.Accounts == nil, "Instances": c.Instances == nil, "Keys": c.Keys == nil,
		"Idle": c.Idle == nil, "Budgets": c.Budgets == nil, "Prices": c.Prices == nil, "Queries": c.Queries == nil, "Progress": c.Progress == nil, "Tokens": c.Tokens == nil, "Logger": c.Logger == nil,
	} {
		if missing {
			return c, fmt.Errorf("%s: %w", name, errMissing)
		}
	}
	c.Epoch = cmp.Or(c.Epoch, NewEpoch(1))
	for _, o := range c.Origins {
		if u, err := url.Parse(o); err != nil || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.ToLower(o) != o {
			return c, fmt.Errorf("origin %q is not of the form https://host[:port] in lower case", o)
		}
	}
	if c.PublicURL != "" && originOf(c.PublicURL) == "" {
		return c, fmt.Errorf("public URL %q is not a URL", c.PublicURL)
	}
	for prefix := range c.Mounts {
		if !strings.HasPrefix(prefix, "/") || !strings.HasSuffix(prefix, "/") || len(prefix) < 3 {
			return c, fmt.Errorf("mount %q is not of the form /name/", prefix)
		}
	}
	c.Limits = c.Limits.filled()
	c.Metrics = cmp.Or(c.Metrics, prometheus.NewRegistry())
	c.Environment = cmp.Or(c.Environment, "development")
	c.Version = cmp.Or(c.Version, "dev")
	c.Source = cmp.Or(c.Source, "/cloudbot/"+c.Environment)
	c.AccessLife = cmp.Or(c.AccessLife, time.Hour)
	c.TicketLife = cmp.Or(c.TicketLife, 12*time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 25*time.Second)
	c.BodyTime = cmp.Or(c.BodyTime, 5*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 15*time.Second)
	c.Drain = cmp.Or(c.Drain, 20*time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 2048)
	c.MaxStreams = cmp.Or(c.MaxStreams, 20)
	if c.Now == nil {
		c.Now = func() time.Time { return time.Now().UTC() }
	}
	if c.NewID == nil {
		c.NewID = func() string { return ulid.MustNew(ulid.Now(), rand.Reader).String() }
	}
	return c, nil
}
