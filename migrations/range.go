package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lowest is the oldest schema on which this program's queries work. A change that needs a later migration raises it.
const lowest = 14

// Querier is a connection or a pool.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Range returns the schema versions that this program runs on, in words.
func (d Database) Range() string {
	return fmt.Sprintf("schema %d to %d, and newer ones that still support %d", d.Lowest, d.Known, d.Known)
}

// Fits returns why this program must not run on the schema, in one sentence; nil: it may.
func (d Database) Fits() error {
	switch {
	case d.Oldest > d.Known:
		return fmt.Errorf("the schema is version %d and no longer supports programs that know less than %d, and this one knows %d: use a newer version of this program", d.Version, d.Oldest, d.Known)
	case d.Version < d.Lowest:
		return fmt.Errorf("the schema is version %d and this program needs %d or newer: run `cloudbot migrate`", d.Version, d.Lowest)
	}
	return nil
}

// Look returns the versions of a database that Check accepted before, for servers and tools that run on it.
func Look(ctx context.Context, db Querier) (Database, error) {
	found := Database{}
	err := ours.schema(ctx, db, &found)
	return found, err
}

// schema finds out which version the schema has, and which programs it supports.
func (s set) schema(ctx context.Context, db Querier, d *Database) error {
	all, err := s.read()
	if err != nil {
		return err
	}
	applied, oldest, err := applied(ctx, db)
	if err != nil {
		return err
	}
	d.Lowest, d.Oldest = s.lowest, oldest
	for v := range applied {
		d.Version = max(d.Version, v)
	}
	for _, m := range all {
		d.Known = max(d.Known, m.version)
		if _, done := applied[m.version]; !done {
			d.Pending++
		}
	}
	return nil
}

// oldestSupported is the greatest contract, 0 without any. The table is missing on schemas before 0012.
const oldestSupported = `SELECT coalesce(max(oldest), 0) FROM ops.schema_contracts`

const hasContracts = `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'ops' AND tablename = 'schema_contracts')`

// holdClass is the first key of the advisory locks that connected servers hold. The second is the range of the
// program: lowest in the upper 16 bits, the newest version that it knows in the lower ones.
const holdClass = 48014021

// Hold is what each connection of a server executes first. While it is connected, no migration takes away what the
// server needs. The lock is shared, so it waits for nothing.
func Hold() string { return ours.hold() }

func (s set) hold() string {
	all, _ := s.read()
	return fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d, %d)`, holdClass, s.lowest<<16|all[len(all)-1].version)
}

// holders is the ranges of the connected servers. Its users hold the migrations' lock.
const holders = `
	SELECT coalesce(max(objid::bigint >> 16), 0), coalesce(min(objid::bigint & 65535), 65535) FROM pg_locks
	WHERE locktype = 'advisory' AND classid = 48014021 AND objsubid = 2
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// lockless is the newest schema that programs need which hold no lock: those before 0012.
const lockless = 11

// silentServers is whether servers are connected.
const silentServers = `
	SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'cloudbot %')`

// mayContract refuses to take away what a connected server needs.
func mayContract(ctx context.Context, conn *pgx.Conn, pending []migration) error {
	var needed, newest int64
	if err := conn.QueryRow(ctx, holders, simple).Scan(&needed, &newest); err != nil {
		return err
	}
	for _, m := range pending {
		if m.oldest > newest {
			return fmt.Errorf("%v takes away what a connected server needs, which knows schema %d and not %d: first replace all servers by a version that knows schema %d, or stop them", m, newest, m.oldest, m.oldest)
		}
	}
	return nil
}
