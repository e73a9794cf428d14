// Package migrations holds the database's schema as embedded SQL and applies it to a database. The numbered
// files are the schema's history: an applied file is never edited; a change is a new file. Each room owns a
// schema of its own: log, read, ops, vault, relay.
package migrations

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/stdlib" // database/sql, which goose needs
	"github.com/pressly/goose/v3"
)

//go:embed *.sql
var files embed.FS

// lockID is the session advisory lock under which replicas migrate one after the other.
const lockID = 4801402171

// Up applies the missing files, in order, each in its own transaction. Replicas that start together wait for
// one another; the later ones find nothing to do. Up refuses every database that Check refuses.
func Up(ctx context.Context, databaseURL string, log *slog.Logger) error {
	if _, err := Check(ctx, databaseURL, 0); err != nil {
		return err
	}
	config, err := parse(databaseURL)
	if err != nil {
		return err
	}
	db := sql.OpenDB(patient{stdlib.GetConnector(*config)})
	defer db.Close()
	db.SetMaxOpenConns(2) // for the lock and for the migrations: a role may have few
	lock, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	// Closing db ends the session and with it the lock.
	defer lock.Close()
	if _, err := lock.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, lockID); err != nil {
		return fmt.Errorf("migrate: lock: %w", err)
	}
	if err := ownTable(ctx, lock); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName(table), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	applied, err := p.Up(ctx)
	for _, a := range applied {
		log.Info("migration applied", "file", a.Source.Path, "took", a.Duration.Round(time.Millisecond))
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// patient is a Connector that waits while the server has no connection left.
type patient struct{ driver.Connector }

// Connect implements driver.Connector.
func (p patient) Connect(ctx context.Context) (conn driver.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	err = patiently(ctx, func() error {
		conn, err = p.Connector.Connect(ctx)
		return err
	})
	return conn, err
}
