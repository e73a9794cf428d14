package projections

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// DB is what the read models need of a connection pool.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	Begin(ctx context.Context) (pgx.Tx, error)
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Reader answers queries from the read models; each query is in the file of its read model. A query names the
// account it is for and sees no other account's rows; those over all accounts say so.
type Reader struct {
	Pool DB
	// Open unseals an account's data; see commands.Vault.
	Open func(ctx context.Context, account, label string, sealed []byte) ([]byte, error)
	// Unlock adds to a batch what a later call of Open for an account needs, so that Open asks for nothing. nil: Open asks itself.
	Unlock func(b *pgx.Batch, account string)
	// NameLabel returns the label that an instance's name was sealed with.
	NameLabel func(instanceID string) string
	// AddressLabel returns the label that a session's client address was sealed with.
	AddressLabel func(sessionID string) string
	// Progress holds how far the read models are.
	Progress *Progress
}
