package secrets

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// postgresKeys is the keyStore of migrations/0003_secrets.sql.
type postgresKeys struct{ pool DB }

// DB lists the methods of a connection pool that the vault uses.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
}

func (p postgresKeys) add(ctx context.Context, r row) error {
	_, err := p.pool.Exec(ctx, `
		INSERT INTO vault.data_keys (account_id, key_id, wrapped_by, wrapped) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account_id) DO NOTHING`, r.name, r.id, r.by, r.wrapped)
	return err
}

func (p postgresKeys) get(ctx context.Context, account string) (*row, error) {
	return scanKey(account, p.pool.QueryRow(ctx, oneKey, account))
}

const oneKey = `SELECT key_id, wrapped_by, wrapped FROM vault.data_keys WHERE account_id = $1`

func scanKey(account string, one pgx.Row) (*row, error) {
	r := row{name: account}
	return found(&r, one.Scan(&r.id, &r.by, &r.wrapped))
}

func (p postgresKeys) getAll(ctx context.Context, accounts []string) ([]row, error) {
	rows, err := p.pool.Query(ctx, `SELECT account_id, key_id, wrapped_by, wrapped FROM vault.data_keys WHERE account_id = ANY ($1)`, accounts)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRow)
}

func scanRow(r pgx.CollectableRow) (k row, err error) {
	err = r.Scan(&k.name, &k.id, &k.by, &k.wrapped)
	return k, err
}

func (p postgresKeys) drop(ctx context.Context, account string) error {
	_, err := p.pool.Exec(ctx, `DELETE FROM vault.data_keys WHERE account_id = $1`, account)
	return err
}

func (p postgresKeys) addNamed(ctx context.Context, r row) error {
	_, err := p.pool.Exec(ctx, `
		INSERT INTO vault.named_keys (name, wrapped_by, wrapped) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO NOTHING`, r.name, r.by, r.wrapped)
	return err
}

func (p postgresKeys) getNamed(ctx context.Context, name string) (*row, error) {
	r := row{name: name}
	err := p.pool.QueryRow(ctx, `SELECT wrapped_by, wrapped FROM vault.named_keys WHERE name = $1`, name).Scan(&r.by, &r.wrapped)
	return found(&r, err)
}

func found(r *row, err error) (*row, error) {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// rewrap changes a few hundred rows in each transaction. It skips rows that another Rewrap has locked, and not those that a
// new row of vault.chats refers to.
func (p postgresKeys) rewrap(ctx context.Context, by []string, change func(bool, row) (row, error)) (int, error) {
	total := 0
	for _, table := range []struct {
		named          bool
		choose, update string
	}{
		{false, `SELECT account_id, key_id, wrapped_by, wrapped FROM vault.data_keys WHERE wrapped_by = ANY ($1)
				ORDER BY account_id LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED`,
			`UPDATE vault.data_keys SET wrapped_by = $2, wrapped = $3 WHERE account_id = $1`},
		{true, `SELECT name, ''::bytea, wrapped_by, wrapped FROM vault.named_keys WHERE wrapped_by = ANY ($1)
				ORDER BY name LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED`,
			`UPDATE vault.named_keys SET wrapped_by = $2, wrapped = $3 WHERE name = $1`},
	} {
		err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, table.choose, by)
			if err != nil {
				return err
			}
			old, err := pgx.CollectRows(rows, scanRow)
			if err != nil {
				return err
			}
			batch := &pgx.Batch{}
			for _, r := range old {
				r, err := change(table.named, r)
				if err != nil {
					return err
				}
				batch.Queue(table.update, r.name, r.by, r.wrapped)
			}
			total += len(old)
			return tx.SendBatch(ctx, batch).Close()
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

func (p postgresKeys) wrappedByOthers(ctx context.Context, by []string) (int, error) {
	var n int
	err := p.pool.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM vault.data_keys WHERE wrapped_by <> ALL ($1))
		     + (SELECT count(*) FROM vault.named_keys WHERE wrapped_by <> ALL ($1))`, by).Scan(&n)
	return n, err
}
