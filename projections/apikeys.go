package projections

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/apikey"
)

// apiKeyRow is a row of read.api_keys: which keys exist, never the keys themselves.
type apiKeyRow struct {
	account, provider string
	last4             string
	updatedAt         time.Time
	removed           bool
}

func foldAPIKeys() *Fold {
	return &Fold{Aggregate: apikey.Codec.Aggregate(), Key: apiKeyOf, Evolve: evolveAPIKey, Save: saveAPIKeys}
}

// apiKeyOf returns what identifies the row of an event: the latest event says all that is in it.
func apiKeyOf(e *Event) string {
	switch ev, _ := e.Says(); ev := ev.(type) {
	case apikey.Stored:
		return ev.Account + "/" + ev.Provider
	case apikey.Removed:
		return ev.Account + "/" + ev.Provider
	}
	return e.Stream.ID
}

func evolveAPIKey(_ any, e *Event) (any, error) {
	ev, err := says[apikey.Event](e)
	if err != nil {
		return nil, err
	}
	var r apiKeyRow
	switch ev := ev.(type) {
	case apikey.Stored:
		r = apiKeyRow{ev.Account, ev.Provider, ev.Last4, e.Time, false}
	case apikey.Removed:
		r = apiKeyRow{account: ev.Account, provider: ev.Provider, updatedAt: e.Time, removed: true}
	default:
		return nil, nil
	}
	if e.mayHoldZero() && strings.IndexByte(r.account+r.provider+r.last4, 0) >= 0 {
		return nil, errNotStorable
	}
	return r, nil
}

// saveAPIKeys writes the stored keys and deletes the removed ones, by one statement.
func saveAPIKeys(rows []any) Statement {
	type r = apiKeyRow
	return Statement{`WITH keys AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::boolean[])
			AS k (account, provider, last4, updated_at, removed)),
		gone AS (DELETE FROM api_keys a USING keys k WHERE k.removed AND a.account = k.account AND a.provider = k.provider)
		INSERT INTO api_keys (account, provider, last4, updated_at) SELECT account, provider, last4, updated_at FROM keys WHERE NOT removed
		ON CONFLICT (account, provider) DO UPDATE SET last4 = excluded.last4, updated_at = excluded.updated_at`,
		[]any{
			column(rows, func(r r) string { return r.account }),
			column(rows, func(r r) string { return r.provider }),
			column(rows, func(r r) string { return r.last4 }),
			column(rows, func(r r) time.Time { return r.updatedAt }),
			column(rows, func(r r) bool { return r.removed }),
		}}
}

// APIKey is a stored key as its owner sees it.
type APIKey struct {
	Provider  string
	Last4     string
	UpdatedAt time.Time
}

// APIKeys returns the account's stored keys by provider.
func (r *Reader) APIKeys(ctx context.Context, account string) ([]APIKey, error) {
	rows, err := r.Pool.Query(ctx, `SELECT provider, last4, updated_at FROM read.api_keys WHERE account = $1 ORDER BY provider`, account)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[APIKey])
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	return list, nil
}
