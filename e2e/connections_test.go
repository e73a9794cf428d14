package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// The secrets of a server whose users the test creates.
var (
	accessKey     = strings.Repeat("access ", 6)
	refreshKey    = strings.Repeat("refresh ", 6)
	encryptionKey = base64.StdEncoding.EncodeToString([]byte("01234567890123456789012345678901"))
)

func secretsOf() []string {
	return []string{"JWT_SECRET_KEY=" + accessKey, "JWT_REFRESH_SECRET_KEY=" + refreshKey, "ENCRYPTION_KEY=" + encryptionKey}
}

// person is a user written into the log: signed up, logged in, with a desktop that has failed.
type person struct {
	account, session, instance, token string
}

// openLog opens the log and the vault of a server whose secrets are secretsOf.
func openLog(t *testing.T, databaseURL string) (store *postgres.Store, vault *secrets.Vault, closeLog func()) {
	t.Helper()
	pool, err := postgres.OpenPool(t.Context(), databaseURL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store, err = postgres.Open(t.Context(), postgres.Config{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secrets.NewKeyring(encryptionKey)
	if err != nil {
		t.Fatal(err)
	}
	vault, err = secrets.OpenVault(t.Context(), secrets.VaultConfig{Pool: pool, Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	return store, vault, func() {
		store.Close()
		pool.Close()
	}
}

// people writes n people into the log. No server has their data keys in its cache.
func people(t *testing.T, databaseURL string, n int) []person {
	t.Helper()
	store, vault, closeLog := openLog(t, databaseURL)
	defer closeLog()
	tokens, err := secrets.NewTokens(secrets.TokensConfig{AccessKeys: secrets.SplitKeys(accessKey), RefreshKeys: secrets.SplitKeys(refreshKey)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	all := make([]person, n)
	for i := range all {
		p := person{account: ulid.Make().String(), session: ulid.Make().String(), instance: ulid.Make().String()}
		if err := vault.NewKey(t.Context(), p.account); err != nil {
			t.Fatal(err)
		}
		seal := func(label, plain string) []byte {
			sealed, err := vault.Seal(t.Context(), p.account, label, []byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			return sealed
		}
		a := eventstore.Append{}
		a.Writes = append(a.Writes,
			write(t, "account", p.account, account.Codec.Encode, now, account.Event(account.SignedUp{Email: seal(commands.EmailLabel, fmt.Sprintf("p%d@example.com", i)), Password: seal("password", "x"), At: now})),
			write(t, "session", p.session, session.Codec.Encode, now, session.Event(session.Started{
				Account: p.account, Agent: "test", Address: seal(commands.AddressLabel(p.session), "192.0.2.1"),
				Leaf: session.Leaf{Generation: 1, TokenID: ulid.Make().String(), IssuedAt: now, ExpiresAt: now.Add(time.Hour)}})),
			write[instance.Event](t, "instance", p.instance, instance.Codec.Encode, now,
				instance.Requested{Account: p.account, Name: seal(commands.NameLabel(p.instance), "desk"), Type: "t3.large", Region: "local"},
				instance.LaunchAbandoned{Code: "no_capacity", Reason: "None."}, instance.Failed{Code: "no_capacity", Reason: "None."}))
		if _, err := store.Append(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		p.token, _ = tokens.Access(p.account, p.session, now)
		all[i] = p
	}
	return all
}

func write[E any](t *testing.T, aggregate, id string, encode func(E) (string, int, []byte, error), now time.Time, events ...E) eventstore.Write {
	w := eventstore.Write{Stream: eventstore.StreamID{Aggregate: aggregate, ID: id}}
	for _, e := range events {
		typ, schema, data, err := encode(e)
		if err != nil {
			t.Fatal(err)
		}
		w.Events = append(w.Events, eventstore.NewEvent{ID: ulid.Make().String(), Type: typ, Schema: schema, Time: now, Data: data, Meta: eventstore.Metadata{Actor: "system"}})
	}
	return w
}

// TestPoolOfTwo calls each route, reading and writing, for 64 users at once, on a server with two connections and none of
// the users' keys in memory. A call that holds one connection while it waits for another would block such a server.
func TestPoolOfTwo(t *testing.T) {
	t.Parallel()
	const callers = 64
	routes := []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/api/auth/me", "", 200},
		{"GET", "/api/auth/sessions", "", 200},
		{"GET", "/api/instances", "", 200},
		{"GET", "/api/instances?all=true", "", 200},
		{"GET", "/api/instances/{id}", "", 200},
		{"GET", "/api/instances/{id}/history", "", 200},
		{"GET", "/api/instances/{id}/debug/log", "", 409}, // its machine does not run
		{"GET", "/api/instances/{id}/boot", "", 200},
		{"GET", "/api/user/api-keys", "", 200},
		{"GET", "/api/boot-times", "", 200},
		{"GET", "/api/instance-types", "", 200},
		{"GET", "/api/events", "", 200},
		{"POST", "/api/instances", `{"name":"new"}`, 202},
		{"PATCH", "/api/instances/{id}", `{"name":"other"}`, 200},
		{"POST", "/api/instances/{id}/tickets", `{"kind":"vnc"}`, 409},
		{"POST", "/api/user/api-keys", `{"provider":"openai","api_key":"sk-0123456789abcdefghij"}`, 201},
		{"DELETE", "/api/instances/{id}", "", 202},
		{"POST", "/api/auth/logout", "", 204},
	}
	database := pgtest.New(t)
	users := people(t, database, callers*len(routes))
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("pool_max_conns", "2")
	u.RawQuery = q.Encode()
	s := newServer(t, append(secretsOf(), "DATABASE_URL="+u.String())...)
	s.start()
	for i, route := range routes {
		var mu sync.Mutex
		statuses := map[int]int{}
		began := time.Now()
		parallel(callers, func(n int) {
			p := users[i*callers+n]
			c := &client{t: t, base: s.URL, token: p.token}
			path := strings.Replace(route.path, "{id}", p.instance, 1)
			status, text := c.glance(route.method, path, route.body)
			mu.Lock()
			defer mu.Unlock()
			if statuses[status]++; status != route.want && statuses[status] == 1 {
				t.Errorf("%s %s: got %d, want %d: %s", route.method, path, status, route.want, text)
			}
		})
		t.Logf("64 callers, 2 connections, no key at hand: %-6s %-32s %v, %v", route.method, route.path, statuses, time.Since(began).Round(time.Millisecond))
	}
}

// glance sends a request and reads the beginning of the answer, because some never end.
func (c *client) glance(method, path, body string) (status int, text string) {
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, err = bufio.NewReader(res.Body).ReadString('\n')
	if text == "" && err != nil {
		text = err.Error()
	}
	return res.StatusCode, text
}

// TestReadOnlyDatabase turns the database of a running server read-only and back, as a failover does. Reads continue or
// return, and so do writes, without a restart.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := u.Path[1:]
	s := newServer(t, "DATABASE_URL="+database)
	s.start()
	c := signUp(t, s.URL, "frances@example.com")
	store := func(key string) answer {
		return c.do("POST", "/api/user/api-keys", `{"provider":"openai","api_key":"`+key+`"}`)
	}
	if a := store("sk-before-the-failover"); a.status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", a.status, a.body)
	}
	sql(t, database, `ALTER DATABASE `+name+` SET default_transaction_read_only = on`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	if a := store("sk-during-the-failover"); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("a write while the database is read-only: got %d %s, want 503 with Retry-After", a.status, a.body)
	}
	sql(t, database, `SET default_transaction_read_only = off`, `ALTER DATABASE `+name+` RESET default_transaction_read_only`)
	back := time.Now()
	await(t, 30*time.Second, "a write", func() bool { return store("sk-after-the-failover-1234").status == http.StatusCreated })
	wrote := time.Since(back)
	await(t, 30*time.Second, "a read", func() bool { return strings.Contains(string(c.do("GET", "/api/user/api-keys", "").body), `"1234"`) })
	signUp(t, s.URL, "later@example.com") // a new data key is a write of the pool
	s.verify()
	t.Logf("the database was read-only: a write was back after %v", wrote.Round(time.Millisecond))
}
