package migrations

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// The table of applied migrations is in a schema of our own, because a role may lack the right to create
// tables in public. Earlier programs kept it where the role's search_path begins, usually in public. That table
// is copied and left in place, so that an earlier program still starts after a rollback.
const (
	table       = "ops.schema_migrations"
	formerTable = "schema_migrations"
)

// Queries of the catalogue, because to_regclass needs the right to use the schema.
const (
	hasLog   = `EXISTS (SELECT FROM pg_tables WHERE schemaname = 'log' AND tablename = 'entries')`
	hasTable = `EXISTS (SELECT FROM pg_tables WHERE schemaname = 'ops' AND tablename = 'schema_migrations')`
	// hasFormer recognizes our table among other programs': by its columns, and by the log beside it.
	hasFormer = hasLog + ` AND (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('` + formerTable + `')
		AND attname IN ('version_id', 'is_applied', 'tstamp') AND NOT attisdropped) = 3`
)

// tableIn returns the table that holds the schema's version, "" if there is none.
func tableIn(ctx context.Context, conn *pgx.Conn) (name string, err error) {
	err = conn.QueryRow(ctx, `SELECT CASE WHEN `+hasTable+` THEN '`+table+`' WHEN `+hasFormer+` THEN '`+formerTable+`' ELSE '' END`, simple).Scan(&name)
	return name, err
}

// ownTable creates the schema of the table, and the table itself from a former one. The caller holds the
// migrations' lock.
func ownTable(ctx context.Context, conn *sql.Conn) error {
	var there, schema, former bool
	if err := conn.QueryRowContext(ctx, `SELECT `+hasTable+`, EXISTS (SELECT FROM pg_namespace WHERE nspname = 'ops'), `+hasFormer).
		Scan(&there, &schema, &former); err != nil {
		return err
	}
	if there {
		return nil
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if !schema {
		// Not IF NOT EXISTS: that needs the right to create even where it does nothing.
		if _, err := tx.ExecContext(ctx, `CREATE SCHEMA ops`); err != nil {
			return fmt.Errorf("make the schema of %s: %w", table, err)
		}
	}
	if former {
		for _, step := range []string{
			`CREATE TABLE ` + table + ` (LIKE ` + formerTable + ` INCLUDING ALL)`,
			`INSERT INTO ` + table + ` SELECT * FROM ` + formerTable,
			`SELECT setval(pg_get_serial_sequence('` + table + `', 'id'), greatest((SELECT max(id) FROM ` + table + `), 1))`,
		} {
			if _, err := tx.ExecContext(ctx, step); err != nil {
				return fmt.Errorf("copy %s to %s: %w", formerTable, table, err)
			}
		}
	}
	return tx.Commit()
}
