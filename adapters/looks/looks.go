// Package looks keeps in Postgres until when machines ran, for the next process that runs the saga.
package looks

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB lists the methods of a connection pool that a Store uses.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Store is a provisioner.LookStore.
type Store struct{ DB DB } // its database must have been migrated

// Load returns the latest text, nil if there is none.
func (s Store) Load(ctx context.Context) (text []byte, err error) {
	err = s.DB.QueryRow(ctx, `SELECT text FROM ops.looks`).Scan(&text)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the kept looks: %w", err)
	}
	return text, nil
}

// Save replaces the text. Its commit does not wait for the disk: if a crash of Postgres loses it, the text before it stays,
// and the charges of a few runs end at an earlier time.
func (s Store) Save(ctx context.Context, text []byte) error {
	_, err := s.DB.Exec(ctx, `INSERT INTO ops.looks (text) VALUES ($1) ON CONFLICT (one) DO UPDATE SET text = excluded.text
		RETURNING set_config('synchronous_commit', 'off', true)`, text)
	if err != nil {
		return fmt.Errorf("keep the looks: %w", err)
	}
	return nil
}
