package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/adapters/secrets"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
	"github.com/cloudbot-ai/control-plane/projections"
)

// operator is what the operator's commands about accounts and instances have in their hands.
type operator struct {
	cfg    config
	log    *slog.Logger
	pool   *pgxpool.Pool
	events commands.Log
	vault  *secrets.Vault
	reader *projections.Reader

	catchUp func(context.Context) error // brings the read models to the head of the log
}

// operate runs f with read models that are up to date, beside a running server or without one.
func operate(ctx context.Context, f func(ctx context.Context, o *operator) error) error {
	return tool(ctx, func(ctx context.Context, pool *pgxpool.Pool, store *postgres.Store) error {
		err := equip(ctx, pool, store, f)
		var sql *pgconn.PgError
		if errors.As(err, &sql) && (sql.Code == "42P01" || sql.Code == "42703" || sql.Code == "3F000") { // table, column or schema missing
			return fmt.Errorf("%w; the database has an older schema: run `cloudbot migrate` first", err)
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
		events:  newLog(store, nil, newFleet(cfg, pool, log)),
		catchUp: func(ctx context.Context) error { return projections.CatchUp(ctx, pool, store, log) },
	}
	if err := o.catchUp(ctx); err != nil {
		return err
	}
	return f(ctx, o)
}

// account returns the id of an account that was named by its id or its e-mail address.
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

// open unseals what an operator may read, or returns "" for what cannot be opened any more.
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

// preload brings the data keys of a page's accounts in one query.
func preload[T any](ctx context.Context, vault *secrets.Vault, page []T, account func(T) string) error {
	ids := make([]string, len(page))
	for i, row := range page {
		ids[i] = account(row)
	}
	slices.Sort(ids)
	return vault.Preload(ctx, slices.Compact(ids)...)
}

// plural is a number of things.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printJSON prints v for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows for people, the first as a heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if cell == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// clip cuts text to n characters. Control characters, which could repaint a terminal, become blanks.
func clip(text string, n int) string {
	r := []rune(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return ' '
		}
		return r
	}, text))
	if len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return string(r)
}

// ago says how long ago in a few characters: 45s, 12m, 7h, 90d.
func ago(t time.Time) string {
	switch d := time.Since(t); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 72*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
