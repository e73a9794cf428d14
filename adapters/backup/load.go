package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Restored begins the reason of the epoch that a restore begins. The backup's id follows, if there is one. No relay
// begins one for this reason.
const Restored = "the log was restored from a backup"

// migrationsLock is the lock that migrations hold: a server that starts waits until the load has ended.
const migrationsLock = 4801402171

// Loaded is what Load did.
type Loaded struct {
	Epoch  int    // begun by the restore
	Head   int64  // last position of the restored log
	Backup string // its id; "": the database was restored by other means
}

// InUse says that a database is not empty.
type InUse struct {
	Events int64 // in its log
	Keys   int64 // in its vault
}

func (e *InUse) Error() string {
	return fmt.Sprintf("the database is in use: its log has %d events and its vault %d keys", e.Events, e.Keys)
}

// Load loads a backup into a migrated, empty database, in one transaction: after any failure the database is still
// empty. Before it commits, it reads every table back and compares it with the manifest, and checks the log's
// positions, triggers and indexes. It begins a new epoch in the same transaction. Call Verify first.
func Load(ctx context.Context, conn *pgx.Conn, from Source, m Manifest, progress func(table string, rows int64)) (Loaded, error) {
	var done Loaded
	tx, err := conn.Begin(ctx)
	if err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	if _, err := conn.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, migrationsLock); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	if err := empty(ctx, tx); err != nil {
		return done, err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM relay.epochs`); err != nil { // the migration's own row
		return done, fmt.Errorf("restore: %w", err)
	}
	for _, t := range kept {
		i := slices.IndexFunc(m.Tables, func(have Table) bool { return have.Name == t.name })
		if i < 0 {
			return done, damaged(from, manifestName+" does not list "+t.name)
		}
		if err := loadTable(ctx, tx, from, m.Tables[i]); err != nil {
			return done, err
		}
		if err := compare(ctx, tx, t, m.Tables[i]); err != nil {
			return done, err
		}
		if progress != nil {
			progress(t.name, m.Tables[i].Rows)
		}
	}
	if err := whole(ctx, tx, m); err != nil {
		return done, err
	}
	done.Head, done.Backup = m.Head, m.ID
	if done.Epoch, err = begin(ctx, tx, done); err != nil {
		return done, err
	}
	if err := tx.Commit(ctx); err != nil {
		return done, fmt.Errorf("restore: %w", err)
	}
	_, err = conn.Exec(ctx, `ANALYZE log.entries, vault.data_keys`)
	if err != nil {
		return done, fmt.Errorf("restore: the data is loaded, but not analysed: %w", err)
	}
	return done, nil
}

// Used returns an *InUse if a database has events. It does not need to be migrated.
func Used(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'log' AND tablename = 'entries')`).Scan(&there); err != nil || !there {
		return err
	}
	var e InUse
	if err := conn.QueryRow(ctx, `
		SELECT (SELECT coalesce(max(position), 0) FROM log.entries),
		       (SELECT count(*) FROM vault.data_keys) + (SELECT count(*) FROM vault.named_keys)`).Scan(&e.Events, &e.Keys); err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	if e.Events > 0 || e.Keys > 0 {
		return &e
	}
	return nil
}

// empty refuses a database with events or keys. It takes the lock of appends first.
func empty(ctx context.Context, tx pgx.Tx) error {
	var e InUse
	if err := tx.QueryRow(ctx, `SELECT log.begin_append()`).Scan(&e.Events); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM vault.data_keys) + (SELECT count(*) FROM vault.named_keys)`).Scan(&e.Keys); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if e.Events > 0 || e.Keys > 0 {
		return &e
	}
	return nil
}

func loadTable(ctx context.Context, tx pgx.Tx, from Source, t Table) error {
	columns, err := columnsOf(ctx, tx, t.Name)
	if err != nil {
		return fmt.Errorf("restore %s: %w", t.Name, err)
	}
	for _, c := range t.Columns {
		if !slices.Contains(columns, c) {
			return fmt.Errorf("restore %s: the database's table has no column %s: restore into a new, empty database, so that its schema is made to fit", t.Name, c)
		}
	}
	rows := &remembering{Reader: newReader(ctx, from, t)}
	tag, err := tx.Conn().PgConn().CopyFrom(ctx, rows, `COPY `+t.Name+` (`+quoted(t.Columns)+`) FROM STDIN`)
	switch {
	case rows.err != nil:
		return rows.err // the server reports only that the copy was broken off
	case err != nil:
		return fmt.Errorf("restore %s: %w", t.Name, err)
	case tag.RowsAffected() != t.Rows:
		return fmt.Errorf("restore %s: the database took %d rows of %d", t.Name, tag.RowsAffected(), t.Rows)
	}
	return nil
}

// remembering remembers the error of its reader.
type remembering struct {
	io.Reader
	err error
}

func (k *remembering) Read(b []byte) (int, error) {
	n, err := k.Reader.Read(b)
	if err != nil && err != io.EOF {
		k.err = err
	}
	return n, err
}

// compare reads a table back as Make read it. It finds what another version of PostgreSQL would store differently.
func compare(ctx context.Context, tx pgx.Tx, t table, want Table) error {
	sum := sha256.New()
	if _, err := tx.Conn().PgConn().CopyTo(ctx, sum, copyOut(t, want.Columns)); err != nil {
		return fmt.Errorf("check %s: %w", t.name, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("check %s: the database returns other rows than the backup has; nothing was restored", t.name)
	}
	return nil
}

// whole checks the log's positions and what protects it.
func whole(ctx context.Context, tx pgx.Tx, m Manifest) error {
	var head, positions, triggers, broken int64
	if err := tx.QueryRow(ctx, `
		SELECT (SELECT coalesce(max(position), 0) FROM log.entries), (SELECT count(position) FROM log.entries),
		       (SELECT count(*) FROM pg_trigger WHERE tgrelid = 'log.entries'::regclass AND tgname IN ('only_append', 'never_change') AND tgenabled IN ('O', 'A')),
		       (SELECT 3 - count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = 'log.entries'::regclass
		          AND relname IN ('entries_position', 'entries_version', 'entries_receipt') AND indisvalid AND indisunique)`).
		Scan(&head, &positions, &triggers, &broken); err != nil {
		return fmt.Errorf("check the log: %w", err)
	}
	switch {
	case head != m.Head || positions != m.Positions:
		return fmt.Errorf("check the log: it has %d events up to position %d, and the manifest says %d up to %d; nothing was restored", positions, head, m.Positions, m.Head)
	case triggers != 2 || broken != 0:
		return errors.New("check the log: the triggers or indexes of log.entries are missing; nothing was restored. Restore into a new, empty database")
	}
	return nil
}

// Mark is for a database that was restored by other means, for example to a point in time: it begins a new epoch, and
// ends the tickets. It is safe to call it again before the restore is finished.
func Mark(ctx context.Context, conn *pgx.Conn) (done Loaded, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT log.begin_append()`).Scan(&done.Head); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM ops.tickets`); err != nil {
			return err
		}
		done.Epoch, err = begin(ctx, tx, done)
		return err
	})
	if err != nil {
		err = fmt.Errorf("mark the database as restored: %w", err)
	}
	return done, err
}

// begin begins the next epoch: the positions after head may stand for other events than before the restore.
func begin(ctx context.Context, tx pgx.Tx, done Loaded) (epoch int, err error) {
	reason := Restored
	if done.Backup != "" {
		reason += ": " + done.Backup
	}
	err = tx.QueryRow(ctx, `
		INSERT INTO relay.epochs (epoch, reason, at_position)
		SELECT coalesce(max(epoch), 0) + 1, $1, $2 FROM relay.epochs RETURNING epoch`, reason, done.Head).Scan(&epoch)
	if err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	return epoch, nil
}

// LastEvent returns the time of the event at a position; the zero time if there is none.
func LastEvent(ctx context.Context, db Querier, position int64) (at time.Time, err error) {
	err = db.QueryRow(ctx, `SELECT time FROM log.entries WHERE position = $1`, position).Scan(&at)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return at, fmt.Errorf("look for the last event: %w", err)
	}
	return at, nil
}

// Querier is a connection or a pool.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Begun returns the latest restore into a database, finished or not; the zero value if there was none.
func Begun(ctx context.Context, db Querier) (begun Loaded, err error) {
	err = db.QueryRow(ctx, `
		SELECT epoch, at_position, ltrim(substr(reason, length($1) + 1), ': ') FROM relay.epochs WHERE starts_with(reason, $1)
		ORDER BY epoch DESC LIMIT 1`, Restored).Scan(&begun.Epoch, &begun.Head, &begun.Backup)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return begun, fmt.Errorf("look for an unfinished restore: %w", err)
	}
	return begun, nil
}

// Servers returns the names of this program's other connections to the database: a server or a tool runs on it.
func Servers(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, err := conn.Query(ctx, `
		SELECT DISTINCT application_name || ' from ' || coalesce(host(client_addr), 'this computer') FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'cloudbot%' ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("look for running servers: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
