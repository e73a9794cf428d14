package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

const (
	listed       = 20    // instances of each account
	coldAccounts = 2_000 // that one measurement with a cold key cache asks for
)

// member is an account that lists its instances.
type member struct{ account, token string }

// seed signs accounts up in the log and fills the read models: listed instances with sealed names for each of them, and
// instances of other accounts up to rows. It returns the accounts with their tokens, which the server in dir accepts.
func seed(ctx context.Context, l *lab, dir string, accounts, rows int) ([]member, error) {
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
		return nil, err
	}
	dev, err := secrets.LoadDev(filepath.Join(dir, "data"))
	if err != nil {
		return nil, err
	}
	ring, err := secrets.NewKeyring(dev.EncryptionKey)
	if err != nil {
		return nil, err
	}
	tokens, err := secrets.NewTokens(secrets.TokensConfig{AccessKeys: []string{dev.JWTSecret}, RefreshKeys: []string{dev.JWTRefreshSecret}})
	if err != nil {
		return nil, err
	}
	vault, err := secrets.OpenVault(ctx, secrets.VaultConfig{Pool: l.pool, Keyring: ring})
	if err != nil {
		return nil, err
	}
	members, err := signUpAll(ctx, l, vault, tokens, accounts)
	if err != nil {
		return nil, fmt.Errorf("sign up: %w", err)
	}
	if err := fillReadModels(ctx, l, vault, members, rows); err != nil {
		return nil, fmt.Errorf("fill the read models: %w", err)
	}
	return members, nil
}

// quickPasswords stands in for the hash of a password, which no list compares.
type quickPasswords struct{ commands.Passwords }

func (quickPasswords) Check(_, _ string) error                      { return nil }
func (quickPasswords) Hash(context.Context, string) ([]byte, error) { return []byte("no hash"), nil }

func signUpAll(ctx context.Context, l *lab, vault *secrets.Vault, tokens *secrets.Tokens, accounts int) ([]member, error) {
	store, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	entropy := ulid.DefaultEntropy()
	all := &commands.Accounts{
		Log: commands.Log{
			Store: eventstore.Store(store), NewID: func() string { return ulid.MustNew(ulid.Now(), entropy).String() },
			Now: func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }, DigestKey: []byte("bench"),
		},
		Vault: vault, Passwords: quickPasswords{}, Blind: vault.Blind,
	}
	members := make([]member, accounts)
	var g errgroup.Group
	g.SetLimit(64)
	for n := range members {
		g.Go(func() error {
			login, err := all.SignUp(ctx, commands.Origin{ClientAddr: "192.0.2.1"}, fmt.Sprintf("list-%d@example.com", n), "a long enough pass phrase", "", "bench")
			if err != nil {
				return err
			}
			token, _ := tokens.Access(login.Account, login.Session, time.Now())
			members[n] = member{login.Account, token}
			return nil
		})
	}
	return members, g.Wait()
}

// fillReadModels writes the rows of read.instances, read.idle and read.usage_intervals. Some of an account's desktops boot, most
// are stopped, and some failed.
func fillReadModels(ctx context.Context, l *lab, vault *secrets.Vault, members []member, rows int) error {
	now := time.Now().UTC().Truncate(time.Microsecond)
	versions, _ := json.Marshal(map[string]string{
		"guest": "2026.11.28", "openclaw": "2026.9.6", "node": "22.21.1", "os": "Ubuntu 24.04.3 LTS", "x11vnc": "0.9.16", "chromium": "142.0.7444.59",
	})
	var instances, idles, usages [][]any
	for _, m := range members {
		for n := range listed {
			id := ulid.MustNew(ulid.Timestamp(now.Add(-time.Duration(n)*time.Minute)), rand.Reader).String()
			name, err := vault.Seal(ctx, m.account, commands.NameLabel(id), fmt.Appendf(nil, "Research desk %d", n))
			if err != nil {
				return err
			}
			status, phase, address, reason := "stopped", "ready", "", ""
			switch n % 10 {
			case 0, 1:
				status, phase, address = "running", "installing", "203.0.113.7"
			case 9:
				status, reason = "failed", "The machine did not start. Terminate the desktop and create a new one."
			}
			instances = append(instances, []any{id, m.account, name, status, phase, "Installing the desktop", reason, "t3.large", "eu-central-1", address,
				"i-0123456789abcdef0", now, now, now, int64(1), string(versions)})
			idles = append(idles, []any{id, m.account, "t3.large", status, status == "running", &now, (*time.Time)(nil), `{"region":"eu-central-1"}`, int64(1)})
			usages = append(usages, []any{id, int64(1), m.account, "disk", "eu-central-1", "", int64(40), now.Add(-72 * time.Hour)})
			if status == "running" {
				usages = append(usages, []any{id, int64(2), m.account, "compute", "eu-central-1", "t3.large", int64(0), now.Add(-time.Hour)})
			}
		}
	}
	return pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
		// The other accounts' instances: their names are as long, and are never opened.
		if _, err := tx.Exec(ctx, `INSERT INTO read.instances (id, account, name, status, phase, detail, reason, type, region, address, machine,
				created_at, updated_at, phase_since, position, versions)
			SELECT '01H' || lpad(n::text, 23, '0'), '01H' || lpad((n / $2)::text, 23, '0'), decode(repeat('ab', 52), 'hex'), 'stopped', 'ready', 'The desktop is ready', '',
				't3.large', 'eu-central-1', '', 'i-0123456789abcdef0', $3, $3, $3, 1, $4::jsonb FROM generate_series(1, $1::bigint) n`,
			max(0, rows-len(instances)), listed, now, string(versions)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO read.idle (id, account, type, status, running, run_at, wake_at, facts, position)
			SELECT id, account, type, status, false, created_at, NULL, '{"region":"eu-central-1"}', 1 FROM read.instances`); err != nil {
			return err
		}
		for _, t := range []struct {
			table   string
			columns []string
			rows    [][]any
		}{
			{"instances", []string{"id", "account", "name", "status", "phase", "detail", "reason", "type", "region", "address", "machine",
				"created_at", "updated_at", "phase_since", "position", "versions"}, instances},
			{"idle", []string{"id", "account", "type", "status", "running", "run_at", "wake_at", "facts", "position"}, idles},
		} {
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"read", t.table}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `CREATE TEMP TABLE used (instance text, n bigint, account text, kind text, region text, type text, gib bigint, from_at timestamptz) ON COMMIT DROP`); err != nil {
			return err
		}
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"used"}, []string{"instance", "n", "account", "kind", "region", "type", "gib", "from_at"}, pgx.CopyFromRows(usages)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO read.usage_intervals (instance, n, account, kind, region, type, gib, from_at, to_at, ended_by)
			SELECT instance, n, account, kind, region, type, gib, from_at, 'infinity', '' FROM used`)
		return err
	})
}
