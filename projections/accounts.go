package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// applyAccounts keeps read.accounts: one row per account.
func applyAccounts(e eventstore.Event) ([]Statement, error) {
	if e.Stream.Aggregate != account.Codec.Aggregate() {
		return nil, nil
	}
	ev, err := decode(e)
	if err != nil {
		return nil, err
	}
	switch ev := ev.(type) {
	case account.SignedUp:
		return sql(`INSERT INTO accounts (id, email, created_at, position) VALUES ($1, $2, $3, $4)`, e.Stream.ID, ev.Email, ev.At, e.Position), nil
	case account.Suspended:
		return sql(`UPDATE accounts SET suspended_at = $2, reason = $3, position = $4 WHERE id = $1`, e.Stream.ID, e.Time, ev.Reason, e.Position), nil
	case account.Resumed:
		return sql(`UPDATE accounts SET suspended_at = NULL, reason = '', position = $2 WHERE id = $1`, e.Stream.ID, e.Position), nil
	case account.IdlePolicySet:
		return sql(`UPDATE accounts SET idle_policy = $2 WHERE id = $1`, e.Stream.ID, ev.Policy), nil // position is the suspension's
	}
	return nil, nil
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
