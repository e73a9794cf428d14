package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/internal/problem"
	"github.com/cloudbot-ai/control-plane/projections"
)

// front is the whole front over a log in memory, on a real listener.
type front struct {
	t        testing.TB
	server   *Server
	url      string
	client   *http.Client
	store    *memory.Store
	progress *projections.Progress
	tokens   fakeTokens
	tickets  *fakeTickets
	bridges  *fakeBridges
	clock    *clock
	log      *lockedBuffer
	conform  *conformity
	guard    *commands.Instances
	budget   *commands.Budgets
	books    *commandstest.Books
	used     *activities
}

// canary replaces every secret; it must not appear in any output.
const canary = "cAnArY-sk-ant-0123456789abcdef"

// newFront starts a front; change may adjust its Config.
func newFront(t testing.TB, change func(*Config)) *front {
	t.Helper()
	f := &front{
		t: t, store: memory.New(), progress: &projections.Progress{}, clock: &clock{},
		log: &lockedBuffer{}, bridges: &fakeBridges{}, conform: newConformity(t),
	}
	f.tokens = fakeTokens{key: []byte("test key"), now: f.clock.Now}
	f.tickets = &fakeTickets{now: f.clock.Now, issued: map[string]access.Ticket{}}
	newID := func() string { return ulid.MustNew(ulid.Timestamp(f.clock.Now()), rand.Reader).String() }
	log := commands.Log{Store: f.store, NewID: newID, Now: f.clock.Now, DigestKey: []byte("digest")}
	prices, err := usage.Parse([]byte(priceList))
	if err != nil {
		t.Fatal(err)
	}
	f.books, f.used = &commandstest.Books{Store: f.store}, &activities{now: f.clock.Now, of: map[string]commands.Activity{}}
	f.budget = &commands.Budgets{Log: log, Prices: prices, Books: f.books, Logger: slog.New(slog.DiscardHandler)}
	f.guard = &commands.Instances{Log: log, Vault: fakeVault{}, Cloud: fakeCloud{}, Limit: 3}
	cfg := Config{
		Accounts: &commands.Accounts{
			Log: log, Vault: fakeVault{}, Passwords: fakePasswords{},
			Blind: func(purpose, value string) string {
				return "blind" + strings.NewReplacer("@", "_", ".", "_", "+", "_").Replace(value)
			},
		},
		Instances: f.guard,
		Keys:      &commands.Keys{Log: log, Vault: fakeVault{}},
		Idle:      &commands.Idle{Log: log, Shortest: 5 * time.Minute},
		Budgets:   f.budget, Prices: prices, DiskGiB: 40, Activities: f.used,
		Queries:  readModel{f.store, f.clock.Now, f.books},
		Progress: f.progress,
		Tokens:   f.tokens, Tickets: f.tickets, Bridges: f.bridges,
		Logger:  slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Origins: []string{"https://app.example.com"},
		NewID:   newID, Now: f.clock.Now,
	}
	if change != nil {
		change(&cfg)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.server = server
	f.followLog()
	srv := httptest.NewServer(server)
	t.Cleanup(srv.Close)
	t.Cleanup(server.drain) // before: streams would keep Close waiting
	f.url, f.client = srv.URL, srv.Client()
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return f
}

// followLog keeps Progress at the head, as the projectors do.
func (f *front) followLog() {
	ctx, cancel := context.WithCancel(context.Background())
	f.t.Cleanup(cancel)
	hints := f.store.Notifications(ctx)
	go func() {
		for at := int64(0); ; {
			if head, err := f.store.Head(ctx); err == nil {
				f.progress.Set("all", head)
				_, joins := f.server.Streaming()
				f.server.Happened(f.between(ctx, at, head), head, joins)
				at = head
			}
			if _, ok := <-hints; !ok {
				return
			}
		}
	}()
}

func (f *front) head() int64 {
	f.t.Helper()
	head, err := f.store.Head(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	return head
}

// call is one request; zero fields are left out.
type call struct {
	method, path string
	token        string // bearer
	body         any    // string and []byte are sent unchanged, others as JSON
	header       map[string]string
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// field returns a top-level member of the answer's JSON as text.
func (a answer) field(t testing.TB, name string) string {
	t.Helper()
	var m map[string]any
	a.into(t, &m)
	s, _ := m[name].(string)
	return s
}

// position returns the position that the answer names.
func (a answer) position(t testing.TB) int64 {
	t.Helper()
	n, err := strconv.ParseInt(a.header.Get(headerPosition), 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", headerPosition, err)
	}
	return n
}

// do sends c and checks the exchange against the document. An event stream's body is not read.
func (f *front) do(c call) answer {
	f.t.Helper()
	var body []byte
	switch b := c.body.(type) {
	case nil:
	case string:
		body = []byte(b)
	case []byte:
		body = b
	default:
		body, _ = json.Marshal(b)
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 60*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, c.method, f.url+c.path, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if body == nil {
		req.Body, req.ContentLength = http.NoBody, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for k, v := range c.header {
		req.Header.Set(k, v)
	}
	res, err := f.client.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", c.method, c.path, err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if res.Header.Get("Content-Type") != "text/event-stream" && res.StatusCode != http.StatusSwitchingProtocols {
		if a.body, err = io.ReadAll(res.Body); err != nil {
			f.t.Fatal(err)
		}
	}
	f.conform.check(f.t, req, body, res, a.body)
	if a.status >= 400 && c.method != http.MethodHead && c.path != "/ready" {
		var p problem.Problem
		a.into(f.t, &p)
		if res.Header.Get("Content-Type") != "application/problem+json" || p.Status != a.status {
			f.t.Errorf("%s %s: got %d %s, want a problem document", c.method, c.path, a.status, a.body)
		}
	}
	return a
}

// want is do, and fails the test on another status.
func (f *front) want(status int, c call) answer {
	f.t.Helper()
	a := f.do(c)
	if a.status != status {
		f.t.Fatalf("%s %s: %d, want %d: %s", c.method, c.path, a.status, status, a.body)
	}
	return a
}

// user is a signed-up user.
type user struct{ email, access, refresh, account, session string }

func (f *front) signUp(email string) user {
	f.t.Helper()
	a := f.want(201, call{method: "POST", path: "/api/auth/signup", body: map[string]string{"email": email, "password": canary}})
	return f.user(email, a)
}

func (f *front) logIn(email string) user {
	f.t.Helper()
	a := f.want(200, call{method: "POST", path: "/api/auth/login", body: map[string]string{"email": email, "password": canary}})
	return f.user(email, a)
}

func (f *front) user(email string, a answer) user {
	f.t.Helper()
	u := user{email: email, access: a.field(f.t, "access_token"), refresh: a.field(f.t, "refresh_token")}
	who, err := f.tokens.ParseAccess(u.access)
	if err != nil {
		f.t.Fatal(err)
	}
	u.account, u.session = who.Account, who.Session
	return u
}

// create creates an instance and waits until queries find it.
func (f *front) create(u user, name string) string {
	f.t.Helper()
	a := f.want(202, call{method: "POST", path: "/api/instances", token: u.access, body: map[string]string{"name": name}})
	f.caughtUp()
	return a.field(f.t, "id")
}

// running creates an instance whose machine runs.
func (f *front) running(u user, name string) string {
	f.t.Helper()
	id := f.create(u, name)
	f.happen(id,
		instance.LaunchAttempted{Attempt: 1, At: f.clock.Now(), Spec: instance.Spec{ClientToken: "t", Type: "t3.large", Region: "test-1"}},
		instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: f.clock.Now()},
		instance.MachineRunning{Address: "203.0.113.7", At: f.clock.Now()})
	return id
}

// happen appends events as the saga and the guest do.
func (f *front) happen(id string, events ...instance.Event) {
	f.t.Helper()
	agg := eventstore.Aggregate[instance.State, instance.Event, instance.Command]{Codec: instance.Codec, Evolve: instance.Evolve, Decide: instance.Decide}
	stamp := eventstore.Stamp{NewID: f.guard.NewID, Now: f.clock.Now(), Meta: eventstore.Metadata{Actor: commands.System}}
	_, err := eventstore.Run(context.Background(), f.store, stamp, func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		if _, err := agg.Load(context.Background(), u, id); err != nil {
			return nil, err
		}
		return nil, agg.Emit(u, id, events...)
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.caughtUp()
}

// between returns the entries of all accounts after a position and up to another.
func (f *front) between(ctx context.Context, after, upTo int64) (list []projections.Owned) {
	m := readModel{f.store, f.clock.Now, f.books}
	all, err := m.fold(ctx)
	if err != nil {
		return nil // the test is over
	}
	for account, entries := range all.entries {
		for _, e := range entries {
			if e.Position > after && e.Position <= upTo {
				list = append(list, projections.Owned{Account: account, Entry: e})
			}
		}
	}
	return list
}

func (f *front) caughtUp() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := f.progress.Wait(ctx, f.head()); err != nil {
		f.t.Fatal(err)
	}
}

// clock is the real time, or a fixed one, plus an offset that a test advances.
type clock struct{ ahead, fixed atomic.Int64 }

func (c *clock) Now() time.Time {
	now := time.Now()
	if at := c.fixed.Load(); at != 0 {
		now = time.Unix(0, at)
	}
	return now.Add(time.Duration(c.ahead.Load())).UTC()
}

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
