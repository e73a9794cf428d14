package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

const (
	// Oldest is the oldest major version of PostgreSQL that the schema works with.
	Oldest = 15
	// Fewest is the smallest number of connections that a server works with: one appends, one listens, one
	// holds leases, requests and read models share two, and one is for the operator's tools.
	Fewest = 6
)

// Database is what Check found.
type Database struct {
	Server  string // version of PostgreSQL
	Version int64  // of the schema; 0: no schema yet
	Known   int64  // the newest version in this program; Version is above it after a newer program ran
	Lowest  int64  // the oldest version that this program's queries work on
	Oldest  int64  // the schema supports programs that know this version; 0: all
	Pending int    // migrations that Up would apply
}

// checkPatience bounds Check, and Up's wait for each connection. A pooler without a free connection lets its
// clients wait; where the server has none left, patiently waits.
const checkPatience = 20 * time.Second

// Check checks whether a database can be migrated and used, and leaves nothing behind. Its error says in one
// sentence what is wrong and what to do. oldest is the oldest major version of PostgreSQL to accept; 0:
// Oldest.
func Check(ctx context.Context, databaseURL string, oldest int) (Database, error) {
	return ours.check(ctx, databaseURL, oldest)
}

func (s set) check(ctx context.Context, databaseURL string, oldest int) (Database, error) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	var found Database
	config, err := parse(databaseURL)
	if err != nil {
		return found, err
	}
	conn, err := connect(ctx, config)
	if err != nil && strings.Contains(err.Error(), "read only connection") { // target_session_attrs asked for another
		return found, errReadOnly
	}
	if err != nil {
		return found, fmt.Errorf("DATABASE_URL does not answer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if found.Server, err = serverVersion(ctx, conn, max(oldest, Oldest)); err != nil {
		return found, err
	}
	for _, look := range []func(context.Context, *pgx.Conn) error{enoughConnections, oneSession, writable} {
		if err := look(ctx, conn); err != nil {
			return found, err
		}
	}
	if err := s.schema(ctx, conn, &found); err != nil {
		return found, err
	}
	switch {
	case found.Oldest > found.Known:
		return found, found.Fits()
	case found.Pending > 0:
		return found, mayMigrate(ctx, conn)
	}
	return found, nil
}

// parse reads a URL as the pool does: it may have parameters that only a pool knows.
func parse(databaseURL string) (*pgx.ConnConfig, error) {
	pool, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not of the form postgres://user:password@host:5432/database") // err quotes it
	}
	return pool.ConnConfig, nil
}

// connect waits for a connection, until ctx ends, while the server, the database or the role has none left:
// other replicas may have them all.
func connect(ctx context.Context, config *pgx.ConnConfig) (conn *pgx.Conn, err error) {
	err = patiently(ctx, func() error {
		conn, err = pgx.ConnectConfig(ctx, config)
		return err
	})
	return conn, err
}

// patiently calls do again as long as there is no connection left, until ctx ends.
func patiently(ctx context.Context, do func() error) error {
	var none error // the last "too many connections": it says more than ctx's own error
	for {
		err := do()
		switch full := (*pgconn.PgError)(nil); {
		case errors.As(err, &full) && full.Code == "53300":
			none = err
		case err != nil && none != nil && ctx.Err() != nil:
			return none
		default:
			return err
		}
		if retry.Sleep(ctx, 100*time.Millisecond) != nil {
			return none
		}
	}
}

// A pooler hands each statement to another server session, which prepared statements do not survive.
const simple = pgx.QueryExecModeSimpleProtocol

func serverVersion(ctx context.Context, conn *pgx.Conn, oldest int) (string, error) {
	var name string
	var number int
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int`, simple).Scan(&name, &number)
	if err == nil && number/10000 < oldest {
		err = fmt.Errorf("PostgreSQL %s is too old: use version %d or newer", name, oldest)
	}
	return name, err
}

// enoughConnections refuses a role or a database that allows too few connections.
func enoughConnections(ctx context.Context, conn *pgx.Conn) error {
	var role, database string
	var ofRole, ofDatabase int
	if err := conn.QueryRow(ctx, `
		SELECT rolname, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END, datname, CASE WHEN rolsuper THEN -1 ELSE datconnlimit END
		FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database()`, simple).
		Scan(&role, &ofRole, &database, &ofDatabase); err != nil {
		return err
	}
	switch {
	case ofRole >= 0 && ofRole < Fewest:
		return fmt.Errorf("role %s may open only %d connections and the server needs %d: ALTER ROLE %s CONNECTION LIMIT 30",
			role, ofRole, Fewest, pgx.Identifier{role}.Sanitize())
	case ofDatabase >= 0 && ofDatabase < Fewest:
		return fmt.Errorf("database %s allows only %d connections and the server needs %d: ALTER DATABASE %s CONNECTION LIMIT 30",
			database, ofDatabase, Fewest, pgx.Identifier{database}.Sanitize())
	}
	return nil
}

// oneSession refuses a pooler that assigns server sessions to transactions or statements instead of to
// connections: locks, LISTEN and prepared statements would end up with other clients.
//
// A connection with a session of its own keeps one server process, and no other connection uses that
// process. Behind such a pooler, two connections that take turns either meet in one process or see their
// process change, whichever session the pooler picks: the latest used, the oldest or the only one.
func oneSession(ctx context.Context, conn *pgx.Conn) error {
	second, err := connect(ctx, conn.Config())
	if err != nil {
		return fmt.Errorf("DATABASE_URL allows no second connection: %w", err)
	}
	defer second.Close(context.WithoutCancel(ctx))
	owner := map[uint32]*pgx.Conn{}
	for _, c := range []*pgx.Conn{conn, conn, second, second, conn, second, conn, conn, second} {
		var process uint32
		err := c.QueryRow(ctx, `SELECT pg_backend_pid()`, simple).Scan(&process)
		if err != nil && c == second {
			return fmt.Errorf("DATABASE_URL allows no second connection: %w", err)
		}
		if err != nil {
			return err
		}
		if first, seen := owner[process]; seen && first != c {
			return errPooler
		}
		owner[process] = c
	}
	if len(owner) > 2 {
		return errPooler
	}
	return nil
}

var errPooler = errors.New("DATABASE_URL leads to a pooler in transaction or statement mode, which mixes the sessions of its clients: use a direct connection, or a pool in session mode")

func writable(ctx context.Context, conn *pgx.Conn) error {
	var standby, readOnly bool
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'`, simple).Scan(&standby, &readOnly); err != nil {
		return err
	}
	switch {
	case standby:
		return errors.New("DATABASE_URL leads to a standby, which is read-only: use the primary")
	case readOnly:
		return errReadOnly
	}
	return nil
}

var errReadOnly = errors.New("the database is read-only: use the primary; if this is the primary, default_transaction_read_only is on for the database, the role or the server")

// mayMigrate tries what migrations do: create schemas, and change the existing ones, which only their owner
// may.
func mayMigrate(ctx context.Context, conn *pgx.Conn) error {
	var role, database string
	if err := conn.QueryRow(ctx, `SELECT current_user, current_database()`, simple).Scan(&role, &database); err != nil {
		return err
	}
	var schema, owner string
	err := conn.QueryRow(ctx, `
		SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace WHERE `+hasLog+`
		AND nspname IN ('log', 'read', 'ops', 'relay', 'vault') AND NOT pg_has_role(nspowner, 'USAGE') LIMIT 1`, simple).Scan(&schema, &owner)
	if err == nil {
		return fmt.Errorf("schema %s belongs to role %s, so %s cannot migrate it: run `cloudbot migrate` as %s", schema, owner, role, owner)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	_, err = tx.Exec(ctx, `CREATE SCHEMA cloudbot_check`, simple)
	if denied := (*pgconn.PgError)(nil); errors.As(err, &denied) && denied.Code == "42501" {
		return fmt.Errorf("role %s may not create schemas in database %s: GRANT CREATE ON DATABASE %s TO %s", role, database,
			pgx.Identifier{database}.Sanitize(), pgx.Identifier{role}.Sanitize())
	}
	return err
}
