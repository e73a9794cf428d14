// Package tickets stores the tickets that open WebSockets in Postgres: any replica issues a ticket, and any
// replica redeems it, once. Tickets do not depend on NATS, so desktops open while NATS is unavailable.
package tickets

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// ErrInvalid refuses a ticket that is unknown, has been used or has expired; it does not say which.
var ErrInvalid = &domain.Error{Kind: domain.Unauthenticated, Code: "ticket_invalid", Msg: "This ticket is not valid; request a new one."}

// Life is how long a ticket is valid, by the database's clock, which all replicas share.
const Life = 30 * time.Second

// tokenBytes is the length of a token before its encoding: 256 bits cannot be guessed in Life.
const tokenBytes = 32

// Tickets issues tickets that any replica can redeem, once.
type Tickets struct{ Pool DB }

// DB is what Tickets need of a connection pool.
type DB interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Issue returns a new ticket's token and when it expires. Only a hash of the token is stored. The commit does not wait for
// the disk: a ticket that a crash of Postgres loses is refused, and its owner requests another one.
func (t Tickets) Issue(ctx context.Context, k access.Ticket) (token string, expires time.Time, err error) {
	raw := make([]byte, tokenBytes)
	_, _ = rand.Read(raw) // never fails
	token = base64.RawURLEncoding.EncodeToString(raw)
	// Each new ticket removes two expired ones, so the table stays as small as the set of valid tickets.
	err = t.Pool.QueryRow(ctx, `
		WITH old AS (SELECT hash FROM ops.tickets WHERE expires_at < now() ORDER BY expires_at LIMIT 2 FOR UPDATE SKIP LOCKED),
		     gone AS (DELETE FROM ops.tickets USING old WHERE tickets.hash = old.hash)
		INSERT INTO ops.tickets (hash, account, session, instance, kind, mode, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval) RETURNING expires_at, set_config('synchronous_commit', 'off', true)`,
		hashed(raw), k.Account, k.Session, k.Instance, k.Kind, k.Mode, Life).Scan(&expires, nil)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue ticket: %w", err)
	}
	return token, expires.UTC(), nil
}

const (
	columns = `account, session, instance, kind, mode`
	// good also refuses a ticket that expires later than any ticket can: the clock was set back.
	good = `hash = $1 AND expires_at > now() AND expires_at <= now() + $2::interval`
)

// Redeem uses a ticket up. Exactly one call with a token succeeds, over all replicas; the others get
// ErrInvalid. The commit waits for the disk: otherwise a ticket could be used again after a crash of Postgres.
func (t Tickets) Redeem(ctx context.Context, token string) (access.Ticket, error) {
	// Of concurrent deletions, Postgres gives the row to one.
	return t.find(ctx, "redeem ticket", `DELETE FROM ops.tickets WHERE `+good+` RETURNING `+columns, token)
}

// Peek returns what a ticket permits, or ErrInvalid. The ticket remains valid.
func (t Tickets) Peek(ctx context.Context, token string) (access.Ticket, error) {
	return t.find(ctx, "look at ticket", `SELECT `+columns+` FROM ops.tickets WHERE `+good, token)
}

func (t Tickets) find(ctx context.Context, doing, sql, token string) (access.Ticket, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) != tokenBytes {
		return access.Ticket{}, ErrInvalid
	}
	var k access.Ticket
	err = t.Pool.QueryRow(ctx, sql, hashed(raw), Life).Scan(&k.Account, &k.Session, &k.Instance, &k.Kind, &k.Mode)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return access.Ticket{}, ErrInvalid
	case err != nil:
		return access.Ticket{}, fmt.Errorf("%s: %w", doing, err)
	}
	return k, nil
}

// Probe reports whether tickets can be issued and redeemed. It leaves nothing behind.
func (t Tickets) Probe(ctx context.Context) error {
	var mayIssue bool
	err := t.Pool.QueryRow(ctx, `
		WITH used AS (DELETE FROM ops.tickets WHERE hash = '' RETURNING hash)
		SELECT has_table_privilege('ops.tickets', 'INSERT') AND NOT EXISTS (SELECT FROM used)`).Scan(&mayIssue)
	switch {
	case err != nil:
		return fmt.Errorf("redeem no ticket: %w", err)
	case !mayIssue:
		return errors.New("the database's role may not insert into ops.tickets: grant it INSERT")
	}
	return nil
}

func hashed(raw []byte) []byte {
	sum := sha256.Sum256(raw)
	return sum[:]
}
