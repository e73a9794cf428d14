package original

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fill makes the original's tables, and more accounts than fit into a page.
func fill(t *testing.T, url string) {
	t.Helper()
	text, err := os.ReadFile("../../e2e/testdata/original.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{string(text), `SET TIME ZONE 'America/New_York'`,
		`INSERT INTO users (id, email, password_hash, created_at)
			SELECT gen_random_uuid(), 'u' || n || '@example.com', 'hash', '2026-03-01'::timestamp + n * interval '1 second' FROM generate_series(1, 1200) n`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadsAnOriginal(t *testing.T) {
	t.Parallel()
	for version, start := range map[string]func(testing.TB) string{"as shipped": pgtest.Empty, "as in production": pgtest.New16} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			url := start(t)
			fill(t, url)
			d, err := Open(t.Context(), url, setting44)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if err := d.CheckKey(t.Context()); err != nil {
				t.Errorf("the right key: got %v, want no error", err)
			}
			byEmail, last, order := map[string]Account{}, time.Time{}, true
			if err := d.Each(t.Context(), func(a Account) error {
				byEmail[a.Email] = a
				order, last = order && !a.CreatedAt.Before(last), a.CreatedAt
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if len(byEmail) != 1207 || !order {
				t.Errorf("got %d accounts, in order %v, want 1207 in order", len(byEmail), order)
			}
			ada := byEmail["Ada@example.com"]
			if want := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC); !ada.CreatedAt.Equal(want) || ada.Subscriptions != 1 || len(ada.Instances) != 2 {
				t.Errorf("got %+v, want an account of %v with one subscription and two instances", ada, want)
			}
			if len(ada.Keys) != 1 || ada.Keys[0].Plain != "sk-ant-original-0123456789" || ada.Keys[0].Err != nil {
				t.Errorf("got %+v, want the key", ada.Keys)
			}
			if short := byEmail["short@example.com"]; len(short.Keys) != 2 || !short.CreatedAt.IsZero() || len(short.Instances) != 3 {
				t.Errorf("got %+v, want two keys, three instances and no time", short)
			}
			// The transaction cannot write.
			var refused *pgconn.PgError
			if _, err := d.tx.Exec(t.Context(), `UPDATE users SET email = email`); !errors.As(err, &refused) || refused.Code != "25006" {
				t.Errorf("a write: got %v, want a refusal because the transaction is read-only", err)
			}
		})
	}
}

func TestAWrongKeyIsNoticedFirst(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	fill(t, url)
	for _, key := range []string{"", "another key", strings.TrimRight(setting44, "=")} {
		d, err := Open(t.Context(), url, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.CheckKey(context.Background()); !errors.Is(err, ErrKey) {
			t.Errorf("%q: got %v, want error %v", key, err, ErrKey)
		}
		d.Close()
	}
}

// A password with characters that a URL must escape makes the URL unreadable; the parser's error would quote parts of it.
func TestErrorsDoNotContainThePassword(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"canary:canary%zz", "canary%zz@canary", "canary@can ary", "ca nary", "canary[canary", "canary/canary"} {
		_, err := Open(t.Context(), "postgres://user:"+password+"@127.0.0.1:1/original", "")
		if err == nil || strings.Contains(err.Error(), "nary") {
			t.Errorf("%s: got %v, want an error without it", password, err)
		}
	}
}
