// Package migrations holds the database's schema as embedded SQL and applies it to a database. The numbered
// files are the schema's history: an applied file is never edited; a change is a new file. Each room owns a
// schema of its own: log, read, ops, vault, relay.
//
// The one thing to know: a file's Down section is executed only by Down, and only if undoable lists the file.
package migrations

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

//go:embed *.sql
var files embed.FS

// set is numbered files, and what a program that has them says about them.
type set struct {
	files    fs.FS
	undoable map[int64]undo
	lowest   int64 // the oldest schema on which the program's queries work
}

var ours = set{files, undoable, lowest}

// lockID is the advisory lock under which replicas migrate one after the other.
const lockID = 4801402171

// Up applies the missing files, in order, each in its own transaction. Replicas that start together wait for
// one another; the later ones find nothing to do. Up refuses every database that Check refuses, and a migration
// that takes away what a connected server needs.
func Up(ctx context.Context, databaseURL string, log *slog.Logger) error {
	return ours.up(ctx, databaseURL, log)
}

func (s set) up(ctx context.Context, databaseURL string, log *slog.Logger) error {
	if _, err := s.check(ctx, databaseURL, 0); err != nil {
		return err
	}
	// Lock and migrations share a session: if it is lost, both end.
	conn, err := s.session(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) // and with it the lock
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, simple, lockID); err != nil {
		return fmt.Errorf("migrate: lock: %w", err)
	}
	if err := ownTable(ctx, conn); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	pending, err := s.pending(ctx, conn)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := mayContract(ctx, conn, pending); err != nil {
		return err
	}
	for _, m := range pending {
		began := time.Now()
		if err := apply(ctx, conn, m); err != nil {
			return fmt.Errorf("migrate: %s: %w", m.file, err)
		}
		log.Info("migration applied", "file", m.file, "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// session opens a connection whose statement ends soon after this process has died, instead of when it is done.
func (s set) session(ctx context.Context, databaseURL string) (*pgx.Conn, error) {
	config, err := parse(databaseURL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	conn, err := connect(ctx, config)
	if err != nil {
		return nil, err
	}
	_, _ = conn.Exec(ctx, `SET client_connection_check_interval = '1s'`, simple) // not every system has it
	return conn, nil
}

// pending returns the migrations that are not applied yet. The caller holds the lock.
func (s set) pending(ctx context.Context, conn *pgx.Conn) (list []migration, err error) {
	all, err := s.read()
	if err != nil {
		return nil, err
	}
	done, _, err := applied(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if _, is := done[m.version]; !is {
			list = append(list, m)
		} else if len(list) > 0 {
			return nil, fmt.Errorf("%v is applied and %v before it is not: restore the rows of %s, or a backup", m, list[0], table)
		}
	}
	return list, nil
}

// apply executes a migration and records it, in one transaction.
func apply(ctx context.Context, conn *pgx.Conn, m migration) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, m.up, simple); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO `+table+` (version_id, is_applied) VALUES ($1, true)`, simple, m.version)
		return err
	})
}
