// Package webfiles stores the dashboard's files of earlier builds in Postgres, so that a page that was opened
// before a deploy can still load its parts, from any replica.
package webfiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/web"
)

// Keep is how long a build's files are kept after a replica last started with them.
const Keep = 30 * 24 * time.Hour

// Store implements web.EarlierFiles.
type Store struct{ Pool DB }

// DB is what a Store needs of a connection pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Get returns a file's content, or fs.ErrNotExist if the file is not stored.
func (s Store) Get(ctx context.Context, name string) ([]byte, error) {
	var data []byte
	err := s.Pool.QueryRow(ctx, `SELECT data FROM ops.web_files WHERE name = $1`, name).Scan(&data)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fs.ErrNotExist
	}
	return data, err
}

// Put stores this build's hashed files and deletes those that no replica has started with for Keep.
func (s Store) Put(ctx context.Context, files fs.FS) error {
	batch := &pgx.Batch{}
	err := web.Walk(files, func(name string, data []byte) error {
		if web.Hashed(name) {
			// The name contains a hash of the content: a stored file of this name is the same.
			batch.Queue(`INSERT INTO ops.web_files (name, data) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET used_at = now()`, name, data)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the dashboard's files: %w", err)
	}
	batch.Queue(`DELETE FROM ops.web_files WHERE used_at < now() - $1::interval`, Keep)
	if err := pgx.BeginFunc(ctx, s.Pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, batch).Close() }); err != nil {
		return fmt.Errorf("store the dashboard's files: %w", err)
	}
	return nil
}
