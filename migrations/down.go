package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// undo is what undoing a migration takes besides its Down section.
type undo struct {
	counts string // query: how much would be lost that exists nowhere else; "": nothing
	lost   string // what that is
	first  string // what to do before
	also   string // SQL that has the read models rebuilt which the migration changed
}

// undoable lists the migrations that Down undoes. Whatever is not here it refuses: 0001 holds the events and
// receipts, 0003 the data keys, and 0005 the epochs, without which a number could be used for two events.
var undoable = map[int64]undo{
	14: {also: again("billing", "")},
	13: {also: again("usage", "") + again("budgets", "") + again("idle", "") + again("accounts", "read.accounts")},
	12: {counts: `SELECT count(*) FROM ops.schema_contracts`, lost: "records of what later migrations took away", first: "undo those migrations first"},
	11: {counts: `SELECT count(*) FROM vault.chats`, lost: "saved chats", first: "run the servers with KEEP_CHATS=false until they have deleted them"},
	10: {},
	9:  {},
	8:  {also: again("accounts", "")},
	7:  {},
	6:  {also: again("boots", "") + again("instances", "read.instances")},
}

// again has a read model start from the first event when its tables are there again.
func again(projection, table string) string {
	sql := fmt.Sprintf("DELETE FROM read.checkpoints WHERE projection = '%[1]s'; DELETE FROM read.parked WHERE projection = '%[1]s';", projection)
	if table != "" {
		sql += "DELETE FROM " + table + ";"
	}
	return sql
}

// instead is what to do where Down refuses.
const instead = "an older version of the program also runs on this schema, if the schema supports it; to go back in time, restore a backup into a new database"

// Down undoes the newest migration and returns its number and name. It refuses, and changes nothing, if that
// would lose an event, a receipt, a key or anything else that exists nowhere else, or if a connected server needs
// the migration.
func Down(ctx context.Context, databaseURL string) (version int64, name string, err error) {
	return ours.down(ctx, databaseURL)
}

func (s set) down(ctx context.Context, databaseURL string) (int64, string, error) {
	if _, err := s.check(ctx, databaseURL, 0); err != nil {
		return 0, "", err
	}
	conn, err := s.session(ctx, databaseURL)
	if err != nil {
		return 0, "", fmt.Errorf("DATABASE_URL does not answer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, "", err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, lockID); err != nil {
		return 0, "", fmt.Errorf("lock: %w", err)
	}
	m, before, err := s.newest(ctx, tx)
	if err != nil {
		return 0, "", err
	}
	if err := s.mayUndo(ctx, tx, m, before); err != nil {
		return 0, "", err
	}
	if err := s.undo(ctx, tx, m); err != nil {
		return 0, "", err
	}
	return m.version, m.name, tx.Commit(ctx)
}

// newest returns the migration that was applied last, and the version before it.
func (s set) newest(ctx context.Context, tx pgx.Tx) (m migration, before int64, err error) {
	name, err := tableIn(ctx, tx)
	if err != nil {
		return m, 0, err
	}
	if name != table {
		return m, 0, errors.New("there is no migration to undo: `cloudbot migrate status` lists the applied ones")
	}
	done, _, err := applied(ctx, tx)
	if err != nil {
		return m, 0, err
	}
	versions := []int64{0, 0}
	for v := range done {
		versions = append(versions, v)
	}
	slices.Sort(versions)
	last := versions[len(versions)-1]
	if last == 0 {
		return m, 0, errors.New("there is no migration to undo: `cloudbot migrate status` lists the applied ones")
	}
	all, err := s.read()
	if err != nil {
		return m, 0, err
	}
	i := slices.IndexFunc(all, func(m migration) bool { return m.version == last })
	if i < 0 {
		return m, 0, fmt.Errorf("migration %d belongs to a newer version of this program: run `cloudbot migrate down` of that version", last)
	}
	return all[i], versions[len(versions)-2], nil
}

// mayUndo refuses what would lose something, or end a connected server.
func (s set) mayUndo(ctx context.Context, tx pgx.Tx, m migration, before int64) error {
	how, ok := s.undoable[m.version]
	if !ok {
		return fmt.Errorf("%v is never undone, because what it made cannot be made again: %s", m, instead)
	}
	var needed, newest int64
	if err := tx.QueryRow(ctx, holders).Scan(&needed, &newest); err != nil {
		return err
	}
	if needed > before {
		return fmt.Errorf("%v is in use: a connected server needs schema %d, and %d would be left; stop the servers and tools of this version first", m, needed, before)
	}
	var silent bool
	if err := tx.QueryRow(ctx, silentServers).Scan(&silent); err != nil {
		return err
	}
	if silent && needed == 0 && before < lockless {
		return fmt.Errorf("%v is in use: a server or tool of an earlier version is connected, and does not say which schema it needs; stop it first", m)
	}
	if how.counts == "" {
		return nil
	}
	var n int64
	if err := tx.QueryRow(ctx, how.counts).Scan(&n); err != nil {
		return fmt.Errorf("count what undoing %v would lose: %w", m, err)
	}
	if n > 0 {
		return fmt.Errorf("undoing %v would lose %d %s: %s; or leave it, because %s", m, n, how.lost, how.first, instead)
	}
	return nil
}

// undo executes the Down section and compares what must never be lost with before.
func (s set) undo(ctx context.Context, tx pgx.Tx, m migration) error {
	before, err := kept(ctx, tx)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, m.down+"\n;"+s.undoable[m.version].also, simple); err != nil {
		return fmt.Errorf("undo %v: %w", m, err)
	}
	after, err := kept(ctx, tx)
	if err != nil {
		return err
	}
	for name, was := range before {
		is, there := after[name]
		switch {
		case !there && was.rows == 0 && !slices.Contains(always, name):
		case !there:
			return fmt.Errorf("%v cannot be undone, because that would remove the table %s: %s", m, name, instead)
		case is.oid != was.oid || is.file != was.file || is.rows < was.rows || slices.ContainsFunc(was.columns, func(c string) bool { return !slices.Contains(is.columns, c) }):
			return fmt.Errorf("%v cannot be undone, because that would remove rows or columns of %s: %s", m, name, instead)
		}
	}
	_, err = tx.Exec(ctx, `DELETE FROM `+table+` WHERE version_id = $1`, m.version)
	return err
}

// always are the tables that stay even if they are empty.
var always = []string{"log.entries", "vault.data_keys", "vault.named_keys", "relay.epochs"}

// relation identifies a table and what it holds.
type relation struct {
	oid, file uint32 // a truncated table has another file
	columns   []string
	rows      int64
}

// kept returns the tables of the schemas that cannot be rebuilt.
func kept(ctx context.Context, tx pgx.Tx) (map[string]relation, error) {
	rows, err := tx.Query(ctx, `
		SELECT n.nspname || '.' || c.relname, c.oid, c.relfilenode, array_agg(a.attname::text)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE n.nspname IN ('log', 'vault', 'relay') AND c.relkind IN ('r', 'p') GROUP BY 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	list := map[string]relation{}
	var name string
	var r relation
	if _, err := pgx.ForEachRow(rows, []any{&name, &r.oid, &r.file, &r.columns}, func() error {
		list[name] = r
		r.columns = nil
		return nil
	}); err != nil {
		return nil, err
	}
	for name, r := range list {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier(strings.Split(name, ".")).Sanitize()).Scan(&r.rows); err != nil {
			return nil, fmt.Errorf("count the rows of %s: %w", name, err)
		}
		list[name] = r
	}
	return list, nil
}
