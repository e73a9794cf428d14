package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// applyAPIKeys keeps read.api_keys: which keys exist, never the keys themselves.
func applyAPIKeys(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != apikey.Codec.Aggregate() {
		return nil, nil
	}
	ev, err := decode(e)
	if err != nil {
		return nil, err
	}
	switch ev := ev.(type) {
	case apikey.Stored:
		return sql(`INSERT INTO api_keys (account, provider, last4, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (account, provider) DO UPDATE SET last4 = excluded.last4, updated_at = excluded.updated_at`,
			ev.Account, ev.Provider, ev.Last4, e.Time), nil
	case apikey.Removed:
		return sql(`DELETE FROM api_keys WHERE account = $1 AND provider = $2`, ev.Account, ev.Provider), nil
	}
	return nil, nil
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
