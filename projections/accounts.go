package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

// accountRow is a row of read.accounts: one per account.
type accountRow struct {
	id        string
	email     []byte // sealed
	createdAt time.Time
	suspended *time.Time
	reason    string
	policy    *idle.Policy
	position  int64 // of the suspension
}

func foldAccounts() *Fold {
	return &Fold{Aggregate: account.Codec.Aggregate(), Load: loadAccounts, Evolve: evolveAccount, Save: saveAccounts}
}

// errSignedUpBefore parks a second event that opens the stream of an account.
var errSignedUpBefore = errors.New("the account signed up before")

func evolveAccount(row any, e *Event) (any, error) {
	ev, err := says[account.Event](e)
	if err != nil {
		return nil, err
	}
	r, exists := row.(accountRow)
	if up, ok := ev.(account.SignedUp); ok {
		if exists {
			return nil, errSignedUpBefore
		}
		r = accountRow{id: e.Stream.ID, email: up.Email, createdAt: up.At, position: e.Position}
	} else if !exists { // the event that opens the stream is parked
		return nil, nil
	}
	switch ev := ev.(type) {
	case account.Suspended:
		r.suspended, r.reason, r.position = e.at(), ev.Reason, e.Position
	case account.Resumed:
		r.suspended, r.reason, r.position = nil, "", e.Position
	case account.IdlePolicySet:
		r.policy = ev.Policy
	}
	if r.email == nil || e.mayHoldZero() && (strings.IndexByte(r.id+r.reason, 0) >= 0 || strings.Contains(*policyJSON(r.policy), `\u0000`)) {
		return nil, errNotStorable
	}
	return r, nil
}

// policyJSON returns the text of the column idle_policy.
func policyJSON(p *idle.Policy) *string {
	text, _ := json.Marshal(p) // a struct of texts and numbers always marshals
	s := string(text)
	return &s
}

func loadAccounts(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT id, email, created_at, suspended_at, reason, idle_policy, position FROM accounts WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]any, len(ids))
	var r accountRow
	_, err = pgx.ForEachRow(rows, []any{&r.id, &r.email, &r.createdAt, &r.suspended, &r.reason, &r.policy, &r.position}, func() error {
		byID[r.id] = r
		r = accountRow{}
		return nil
	})
	return byID, err
}

func saveAccounts(rows []any) Statement {
	type r = accountRow
	return Statement{`INSERT INTO accounts (id, email, created_at, suspended_at, reason, idle_policy, position)
		SELECT * FROM unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::jsonb[], $7::bigint[])
		ON CONFLICT (id) DO UPDATE SET suspended_at = excluded.suspended_at, reason = excluded.reason, idle_policy = excluded.idle_policy,
			position = excluded.position`,
		[]any{
			column(rows, func(r r) string { return r.id }),
			column(rows, func(r r) []byte { return r.email }),
			column(rows, func(r r) time.Time { return r.createdAt }),
			column(rows, func(r r) *time.Time { return r.suspended }),
			column(rows, func(r r) string { return r.reason }),
			column(rows, func(r r) *string {
				if r.policy == nil {
					return nil
				}
				return policyJSON(r.policy)
			}),
			column(rows, func(r r) int64 { return r.position }),
		}}
}

// Account is an account as an operator sees it.
type Account struct {
	ID        string
	Email     []byte // sealed
	CreatedAt time.Time
	Suspended time.Time // since when; zero: not suspended
	Reason    string    // of the suspension
	Instances int       // that are neither terminated nor failed
}

const accountColumns = `a.id, a.email, a.created_at, a.suspended_at, a.reason,
	(SELECT count(*) FROM read.instances i WHERE i.account = a.id AND i.status NOT IN ('terminated', 'failed'))`

// Accounts returns the accounts with an id above after, oldest first.
func (r *Reader) Accounts(ctx context.Context, after string, limit int) ([]Account, error) {
	rows, err := r.Pool.Query(ctx, `SELECT `+accountColumns+` FROM read.accounts a WHERE a.id > $1 ORDER BY a.id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanAccount)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return list, nil
}

// Account returns one account, or account.ErrNotFound.
func (r *Reader) Account(ctx context.Context, id string) (Account, error) {
	rows, err := r.Pool.Query(ctx, `SELECT `+accountColumns+` FROM read.accounts a WHERE a.id = $1`, id)
	if err != nil {
		return Account{}, fmt.Errorf("find account: %w", err)
	}
	a, err := pgx.CollectExactlyOneRow(rows, scanAccount)
	if errors.Is(err, pgx.ErrNoRows) {
		return a, account.ErrNotFound
	}
	if err != nil {
		return a, fmt.Errorf("find account: %w", err)
	}
	return a, nil
}

func scanAccount(row pgx.CollectableRow) (a Account, err error) {
	var since *time.Time
	err = row.Scan(&a.ID, &a.Email, &a.CreatedAt, &since, &a.Reason, &a.Instances)
	if since != nil {
		a.Suspended = *since
	}
	return a, err
}

// Suspended returns the suspended accounts, each with the position of its suspension.
func (r *Reader) Suspended(ctx context.Context) (map[string]int64, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id, position FROM read.accounts WHERE suspended_at IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("list suspended accounts: %w", err)
	}
	list, id, position := map[string]int64{}, "", int64(0)
	if _, err := pgx.ForEachRow(rows, []any{&id, &position}, func() error { list[id] = position; return nil }); err != nil {
		return nil, fmt.Errorf("list suspended accounts: %w", err)
	}
	return list, nil
}

// EveryAccountID is AccountIDs, also with accounts without a row, because the event that opens their stream is parked.
func (r *Reader) EveryAccountID(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `(SELECT id FROM read.accounts WHERE id > $1 ORDER BY id LIMIT $2)
		UNION SELECT substr(stream, 9) FROM read.parked WHERE projection = 'accounts' AND stream LIKE 'account/%' AND substr(stream, 9) > $1
		ORDER BY 1 LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list all accounts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list all accounts: %w", err)
	}
	return ids, nil
}

// Leftover is what a suspended account still has: the id of a session, or of a running instance.
type Leftover struct{ Account, Session, Instance string }

// Leftovers returns what suspended accounts still have, of one account or, with "", of all.
func (r *Reader) Leftovers(ctx context.Context, account string) ([]Leftover, error) {
	rows, err := r.Pool.Query(ctx, `SELECT s.account, s.id, '' FROM read.accounts a JOIN read.sessions s ON s.account = a.id
			WHERE a.suspended_at IS NOT NULL AND ($1 = '' OR a.id = $1) AND s.ended = '' AND s.expires_at > now()
		UNION ALL SELECT i.account, '', i.id FROM read.accounts a JOIN read.instances i ON i.account = a.id
			WHERE a.suspended_at IS NOT NULL AND ($1 = '' OR a.id = $1) AND i.status = 'running'
		LIMIT 1000`, account)
	if err != nil {
		return nil, fmt.Errorf("list what suspended accounts have: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Leftover])
	if err != nil {
		return nil, fmt.Errorf("list what suspended accounts have: %w", err)
	}
	return list, nil
}
