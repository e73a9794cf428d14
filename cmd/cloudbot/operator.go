package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// operator is what the operator's commands about accounts and instances use.
type operator struct {
	cfg    config
	log    *slog.Logger
	pool   *pgxpool.Pool
	events commands.Log
	vault  *secrets.Vault
	reader *projections.Reader

	catchUp func(context.Context) error // brings the read models up to the head of the log
}

// operate runs f with up-to-date read models, beside a running server or without one.
func operate(ctx context.Context, f func(ctx context.Context, o *operator) error) error {
	return tool(ctx, func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error {
		err := equip(ctx, pool, store, f)
		var sql *pgconn.PgError
		if errors.As(err, &sql) && (sql.Code == "42P01" || sql.Code == "42703" || sql.Code == "3F000") { // table, column or schema missing
			return fmt.Errorf("%w; the database has an older schema; run `cloudbot migrate` first", err)
		}
		return err
	})
}

// equip opens what f needs.
func equip(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store, f func(ctx context.Context, o *operator) error) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	_, vault, err := openVault(ctx, cfg, pool, nil)
	if err != nil {
		return err
	}
	log := logger(cfg)
	reader, _ := newReader(pool, vault)
	o := &operator{
		cfg: cfg, log: log, pool: pool, vault: vault, reader: reader,
		events:  requirePlans(cfg, newLog(store, nil, newFleet(cfg, pool, log))),
		catchUp: func(ctx context.Context) error { return projections.CatchUp(ctx, pool, store, log) },
	}
	if err := o.catchUp(ctx); err != nil {
		return err
	}
	return f(ctx, o)
}

// account returns the ID of the account with this ID or e-mail address.
func (o *operator) account(ctx context.Context, name string) (string, error) {
	if !strings.Contains(name, "@") {
		a, err := o.reader.Account(ctx, strings.ToUpper(name))
		return a.ID, err
	}
	email, err := commands.NormalEmail(name)
	if err != nil {
		return "", err
	}
	id, err := (&commands.Accounts{Log: o.events, Blind: o.vault.Blind}).Owner(ctx, email)
	if err == nil && id == "" {
		err = fmt.Errorf("there is no account with the address %s", email)
	}
	return id, err
}

// open decrypts what an operator may read. It returns "" for what can no longer be decrypted.
func (o *operator) open(ctx context.Context, account, label string, sealed []byte) (string, error) {
	if sealed == nil {
		return "", nil
	}
	plain, err := o.vault.Open(ctx, account, label, sealed)
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	return string(plain), nil
}

// eachRow calls do for each row of a list that is read page by page. key returns a row's ID, behind which the next
// page begins, and its account. The data keys of a page's accounts are loaded in one query.
func eachRow[T any](
	ctx context.Context, vault *secrets.Vault, page func(after string, limit int) ([]T, error), key func(T) (id, account string), do func(T) error,
) error {
	const limit = 500
	for after := ""; ; {
		rows, err := page(after, limit)
		if err != nil {
			return err
		}
		accounts := make([]string, len(rows))
		for i, row := range rows {
			after, accounts[i] = key(row)
		}
		slices.Sort(accounts)
		if err := vault.Preload(ctx, slices.Compact(accounts)...); err != nil {
			return err
		}
		for _, row := range rows {
			if err := do(row); err != nil {
				return err
			}
		}
		if len(rows) < limit {
			return nil
		}
	}
}

// publicURL returns where browsers reach the server, as far as that is known without asking it.
func (o *operator) publicURL() string {
	beside := ""
	if r, ok := readRunning(o.cfg); ok {
		beside = r.URL
	}
	return cmp.Or(o.cfg.PublicURL, beside, "http://127.0.0.1:"+o.cfg.Port)
}
