// Package original reads the database of the original control plane, for an import. Start with Open.
//
// The one thing to know: everything is read in one read-only transaction, so the database is never changed, and all rows
// are of one moment.
package original

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Database is the original's database. It is not safe for concurrent use.
type Database struct {
	conn *pgx.Conn
	tx   pgx.Tx
	key  []byte
}

// Account is a row of users with all that belongs to it.
type Account struct {
	ID            string
	Email         string
	Hash          string    // bcrypt
	CreatedAt     time.Time // zero if unknown
	Keys          []Key
	Instances     []Instance
	Subscriptions int
}

// Key is a row of user_api_keys.
type Key struct {
	ID       string
	Provider string
	Plain    string
	Err      error // why it cannot be read
}

// Instance is a row of instances.
type Instance struct {
	ID        string
	Name      string
	Machine   string // ec2_instance_id
	Status    string
	CreatedAt time.Time // zero if unknown
}

// page is how many accounts are in memory at a time.
const page = 500

// errURL stands for the parser's error, which can quote a part of the password.
var errURL = errors.New("the URL of the original's database cannot be read; use postgres://user:password@host:5432/database, and write special characters of the password as %XX: @ is %40")

// Open connects to the database and begins its transaction. encryptionKey is the original's setting ENCRYPTION_KEY. Errors
// do not contain the URL's password.
func Open(ctx context.Context, databaseURL, encryptionKey string) (*Database, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		return nil, errURL
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open the original's database: %w", err)
	}
	d := &Database{conn: conn, key: key(encryptionKey)}
	d.tx, err = conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		// The original's times have no zone and are UTC.
		_, err = d.tx.Exec(ctx, `SET LOCAL TIME ZONE 'UTC'; SET LOCAL statement_timeout = '60s'`)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the original's database: %w", err), d.Close())
	}
	return d, nil
}

// Close ends the transaction and the connection.
func (d *Database) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return d.conn.Close(ctx)
}

// ErrKey says that the encryption key is not the original's.
var ErrKey = errors.New("none of the API keys opens with the given encryption key")

// CheckKey returns ErrKey if there are API keys and none of the newest opens.
func (d *Database) CheckKey(ctx context.Context) error {
	rows, err := d.tx.Query(ctx, `SELECT coalesce(encrypted_key, '') FROM user_api_keys ORDER BY created_at DESC NULLS LAST LIMIT 50`)
	if err != nil {
		return explained("API keys", err)
	}
	tokens, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return explained("API keys", err)
	}
	for _, token := range tokens {
		if _, err := open(d.key, token); err == nil {
			return nil
		}
	}
	if len(tokens) == 0 {
		return nil
	}
	return ErrKey
}

// Each calls f for each account, the oldest first. It may be called once.
func (d *Database) Each(ctx context.Context, f func(Account) error) error {
	_, err := d.tx.Exec(ctx, `DECLARE accounts NO SCROLL CURSOR FOR
		SELECT id::text, coalesce(email, ''), coalesce(password_hash, ''), coalesce(created_at::timestamptz, 'epoch') FROM users
		ORDER BY created_at NULLS FIRST, id`)
	if err != nil {
		return explained("accounts", err)
	}
	for {
		rows, err := d.tx.Query(ctx, fmt.Sprintf(`FETCH %d FROM accounts`, page))
		if err != nil {
			return explained("accounts", err)
		}
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Account, err error) {
			err = row.Scan(&a.ID, &a.Email, &a.Hash, &a.CreatedAt)
			a.CreatedAt = known(a.CreatedAt)
			return a, err
		})
		if err != nil {
			return explained("accounts", err)
		}
		if err := d.belongings(ctx, list); err != nil {
			return err
		}
		for _, a := range list {
			if err := f(a); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// belongings reads what belongs to the accounts.
func (d *Database) belongings(ctx context.Context, list []Account) error {
	ids, byID := make([]string, len(list)), make(map[string]*Account, len(list))
	for i := range list {
		ids[i] = list[i].ID
		byID[list[i].ID] = &list[i]
	}
	var owner, token string
	var k Key
	err := d.each(ctx, "API keys", `SELECT user_id::text, id::text, coalesce(provider, ''), coalesce(encrypted_key, '') FROM user_api_keys
		WHERE user_id::text = ANY ($1) ORDER BY created_at, id`, ids, []any{&owner, &k.ID, &k.Provider, &token}, func() {
		plain, err := open(d.key, token)
		byID[owner].Keys = append(byID[owner].Keys, Key{k.ID, k.Provider, string(plain), err})
	})
	if err != nil {
		return err
	}
	var i Instance
	err = d.each(ctx, "instances", `SELECT user_id::text, id::text, coalesce(name, ''), coalesce(ec2_instance_id, ''),
			coalesce(status::text, ''), coalesce(created_at::timestamptz, 'epoch') FROM instances
		WHERE user_id::text = ANY ($1) ORDER BY created_at, id`, ids, []any{&owner, &i.ID, &i.Name, &i.Machine, &i.Status, &i.CreatedAt}, func() {
		i.CreatedAt = known(i.CreatedAt)
		byID[owner].Instances = append(byID[owner].Instances, i)
	})
	if err != nil {
		return err
	}
	var n int
	return d.each(ctx, "subscriptions", `SELECT user_id::text, count(*)::int FROM subscriptions WHERE user_id::text = ANY ($1) GROUP BY 1`,
		ids, []any{&owner, &n}, func() { byID[owner].Subscriptions = n })
}

func (d *Database) each(ctx context.Context, what, query string, ids []string, into []any, f func()) error {
	rows, err := d.tx.Query(ctx, query, ids)
	if err == nil {
		_, err = pgx.ForEachRow(rows, into, func() error { f(); return nil })
	}
	if err != nil {
		return explained(what, err)
	}
	return nil
}

func known(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t.UTC()
}

// explained says what was read, and what a missing table means.
func explained(what string, err error) error {
	var sql *pgconn.PgError
	if errors.As(err, &sql) && (sql.Code == "42P01" || sql.Code == "42703") { // table or column missing
		return fmt.Errorf("read the original's %s: %s; is this the original's database?", what, sql.Message)
	}
	return fmt.Errorf("read the original's %s: %w", what, err)
}
