package backup

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"
)

// Config is what Make needs.
type Config struct {
	Conn        *pgx.Conn // a connection of its own: one transaction lasts as long as the backup
	To          Target
	Schema      int64 // version of the database's schema
	CloudBot    string
	Environment string
	// Progress is called after each part, with the rows of its table so far. Nil: no effect.
	Progress func(table string, rows, bytes int64)

	partBytes int // 0: the default
}

// settings make COPY's text the same everywhere, and keep a role's timeouts away from a long transaction.
const settings = `
	SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC';
	SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL client_encoding = 'UTF8';
	SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = '30s'`

// Make writes a backup of one snapshot and returns its manifest, which is written last. Appends continue meanwhile;
// only a migration waits for it.
func Make(ctx context.Context, c Config) (Manifest, error) {
	if c.Schema < oldestSchema {
		return Manifest{}, fmt.Errorf("the database has schema %d, and this program restores backups from %d on: run `cloudbot migrate` first", c.Schema, oldestSchema)
	}
	tx, err := c.Conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return Manifest{}, fmt.Errorf("back up: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := c.Conn.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return Manifest{}, fmt.Errorf("back up: %w", err)
	}
	if err := lock(ctx, tx); err != nil {
		return Manifest{}, fmt.Errorf("back up: %w", err)
	}
	m := Manifest{Format: Format, ID: ulid.Make().String(), CloudBot: c.CloudBot, Schema: c.Schema, Environment: c.Environment, Tables: []Table{}}
	// The first query takes the snapshot, after the locks: a migration that was waited for is in it.
	if err := tx.QueryRow(ctx, `
		SELECT now(), current_setting('server_version'), (SELECT max(epoch) FROM relay.epochs),
		       (SELECT coalesce(max(position), 0) FROM log.entries), (SELECT count(position) FROM log.entries)`).
		Scan(&m.MadeAt, &m.PostgreSQL, &m.Epoch, &m.Head, &m.Positions); err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	m.MadeAt = m.MadeAt.UTC()
	if m.Keys, err = keysOf(ctx, tx); err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	for _, t := range kept {
		done, err := c.copyTable(ctx, tx, t)
		if err != nil {
			return m, fmt.Errorf("back up %s: %w", t.name, err)
		}
		m.Tables = append(m.Tables, done)
	}
	text, err := m.seal()
	if err != nil {
		return m, err
	}
	if err := c.To.Put(ctx, manifestName, text); err != nil {
		return m, fmt.Errorf("back up: %w", err)
	}
	return m, nil
}

// lock keeps migrations from changing the kept tables. It conflicts with no append, and takes no snapshot.
func lock(ctx context.Context, tx pgx.Tx) error {
	names := make([]string, len(kept))
	for i, t := range kept {
		names[i] = t.name
	}
	_, err := tx.Exec(ctx, `LOCK TABLE `+strings.Join(names, ", ")+` IN ACCESS SHARE MODE`)
	return err
}

// keysOf returns the ids of the keys that wrapped the vault's keys.
func keysOf(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT wrapped_by FROM vault.data_keys UNION SELECT wrapped_by FROM vault.named_keys ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (c Config) copyTable(ctx context.Context, tx pgx.Tx, t table) (Table, error) {
	columns, err := columnsOf(ctx, tx, t.name)
	if err != nil {
		return Table{}, err
	}
	var rows, bytes int64
	out := newParts(ctx, c.To, t.name, columns, cmp.Or(c.partBytes, partBytes), func(p Part) {
		rows, bytes = rows+p.Rows, bytes+p.Bytes
		if c.Progress != nil {
			c.Progress(t.name, rows, bytes)
		}
	})
	if _, err := tx.Conn().PgConn().CopyTo(ctx, out, copyOut(t, columns)); err != nil {
		return Table{}, err
	}
	return out.end()
}

// copyOut returns the statement that yields a table's rows, in an order that depends only on the rows.
func copyOut(t table, columns []string) string {
	return `COPY (SELECT ` + quoted(columns) + ` FROM ` + t.name + ` ORDER BY ` + t.order + `) TO STDOUT`
}

func quoted(columns []string) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = pgx.Identifier{c}.Sanitize()
	}
	return strings.Join(list, ", ")
}

// columnsOf returns the names of a table's columns, in order.
func columnsOf(ctx context.Context, tx pgx.Tx, name string) ([]string, error) {
	rows, err := tx.Query(ctx, `
		SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
		ORDER BY attnum`, name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
