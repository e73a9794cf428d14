package secrets

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cloudbot-ai/control-plane/commands"
)

// Limits and times of saved chats.
const (
	maxAccountChats = 64 << 20            // bytes of an account's sealed chats
	keepFailed      = 30 * 24 * time.Hour // those of an instance that failed
)

// Chats is the store of migrations/0011_chats.sql; it implements commands.ChatStore. It sees only sealed chats. Dropping an
// account's data key drops its rows, too.
type Chats struct{ Pool DB }

// PutChats implements commands.ChatStore. A saved time that lies in the future, by a wrong clock, does not count as newer.
func (c Chats) PutChats(ctx context.Context, account, instanceID string, at time.Time, sealed []byte) error {
	var room bool
	err := c.Pool.QueryRow(ctx, `
		WITH others AS (SELECT coalesce(sum(octet_length(sealed)), 0) + octet_length($4::bytea) <= $5 AS room
			FROM vault.chats WHERE account_id = $1 AND instance_id <> $2),
		put AS (INSERT INTO vault.chats AS c (account_id, instance_id, saved_at, sealed) SELECT $1, $2, $3::timestamptz, $4::bytea FROM others WHERE room
			ON CONFLICT (instance_id) DO UPDATE SET saved_at = excluded.saved_at, sealed = excluded.sealed
			WHERE c.account_id = excluded.account_id AND (c.saved_at <= excluded.saved_at OR c.saved_at > now() + interval '1 minute'))
		SELECT room FROM others`, account, instanceID, at, sealed, maxAccountChats).Scan(&room)
	if broken := (*pgconn.PgError)(nil); errors.As(err, &broken) && broken.Code == "23503" { // there is no such data key
		return ErrErased
	}
	if err == nil && !room {
		return commands.ErrChatsFull
	}
	return err
}

// GetChats implements commands.ChatStore.
func (c Chats) GetChats(ctx context.Context, account, instanceID string) (sealed []byte, at time.Time, err error) {
	err = c.Pool.QueryRow(ctx, `SELECT sealed, saved_at FROM vault.chats WHERE instance_id = $1 AND account_id = $2`, instanceID, account).
		Scan(&sealed, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, at, nil
	}
	return sealed, at, err
}

// DropChats implements commands.ChatStore.
func (c Chats) DropChats(ctx context.Context, instanceID string) error {
	_, err := c.Pool.Exec(ctx, `DELETE FROM vault.chats WHERE instance_id = $1`, instanceID)
	return err
}

// DropEnded drops the chats of instances that the read models show as terminated, and of those that failed 30 days ago. It
// waits for no row: an erasure that deletes the same rows in another order would wait for it in turn.
func (c Chats) DropEnded(ctx context.Context) error {
	_, err := c.Pool.Exec(ctx, `
		DELETE FROM vault.chats WHERE instance_id IN (
			SELECT c.instance_id FROM vault.chats c JOIN read.instances i ON i.id = c.instance_id
			WHERE i.status IN ('terminating', 'terminated') OR i.status = 'failed' AND i.updated_at < now() - $1::interval
			FOR UPDATE OF c SKIP LOCKED)`, keepFailed)
	return err
}

// DropAll drops all saved chats. Like DropEnded, it waits for no row.
func (c Chats) DropAll(ctx context.Context) error {
	_, err := c.Pool.Exec(ctx, `DELETE FROM vault.chats WHERE instance_id IN (SELECT instance_id FROM vault.chats FOR UPDATE SKIP LOCKED)`)
	return err
}
