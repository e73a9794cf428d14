package jetstream

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/cloudbot-ai/control-plane/domain"
)

// ErrTicket refuses a ticket that is unknown, used or too old; which of them is not told.
var ErrTicket = &domain.Error{Kind: domain.Unauthenticated, Code: "ticket_invalid", Msg: "This ticket is not valid; ask for a new one."}

// TicketLife is how long a ticket is good.
const TicketLife = 30 * time.Second

// Ticket says what one WebSocket may be opened for.
type Ticket struct {
	Account  string `json:"account"`
	Session  string `json:"session"`
	Instance string `json:"instance"`
	Kind     string `json:"kind"` // "vnc" or "cloudbot"
	Mode     string `json:"mode"` // "control" or "view"
}

// TicketsConfig says where tickets are kept.
type TicketsConfig struct {
	Conn     *nats.Conn       // required
	Replicas int              // 0: 1
	Now      func() time.Time // nil: time.Now
}

// Tickets hands out tickets that any replica takes back, once.
type Tickets struct {
	bucket *bucket
	now    func() time.Time
}

// NewTickets makes a Tickets. It may be called while NATS is away.
func NewTickets(cfg TicketsConfig) *Tickets {
	t := &Tickets{bucket: &bucket{conn: cfg.Conn, name: "tickets", ttl: TicketLife, replicas: cfg.Replicas}, now: cfg.Now}
	if t.now == nil {
		t.now = time.Now
	}
	return t
}

type storedTicket struct {
	Ticket
	Expires time.Time `json:"expires"`
}

// Issue returns a new ticket's token, 256 random bits of which only a hash is stored, and when it ends.
func (t *Tickets) Issue(ctx context.Context, ticket Ticket) (token string, expires time.Time, err error) {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	token = base64.RawURLEncoding.EncodeToString(raw)
	expires = t.now().UTC().Add(TicketLife)
	value, err := json.Marshal(storedTicket{ticket, expires})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("issue ticket: %w", err)
	}
	if _, err := t.bucket.put(ctx, token, value); err != nil {
		return "", time.Time{}, fmt.Errorf("issue ticket: %w", err)
	}
	return token, expires, nil
}

// Redeem uses a ticket up. Of any number of calls with one token, on any replicas, one succeeds;
// the others get ErrTicket.
func (t *Tickets) Redeem(ctx context.Context, token string) (Ticket, error) {
	value, revision, err := t.find(ctx, token)
	if err != nil {
		return Ticket{}, fmt.Errorf("redeem ticket: %w", err)
	}
	// Only the removal of this very revision decides who was first.
	if err := t.bucket.remove(ctx, token, revision); errors.Is(err, errMoved) {
		return Ticket{}, ErrTicket
	} else if err != nil {
		return Ticket{}, fmt.Errorf("redeem ticket: %w", err)
	}
	return t.read(value)
}

// Peek returns what a ticket is good for, or ErrTicket; it stays good.
func (t *Tickets) Peek(ctx context.Context, token string) (Ticket, error) {
	value, _, err := t.find(ctx, token)
	if err != nil {
		return Ticket{}, fmt.Errorf("look at ticket: %w", err)
	}
	return t.read(value)
}

// find returns what is kept of a token and its revision; ErrTicket where there is nothing.
func (t *Tickets) find(ctx context.Context, token string) (value []byte, revision uint64, err error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(token); err != nil || len(raw) != 32 {
		return nil, 0, ErrTicket
	}
	if value, revision, err = t.bucket.get(ctx, token); err == nil && value == nil {
		err = ErrTicket
	}
	return value, revision, err
}

func (t *Tickets) read(value []byte) (Ticket, error) {
	s, err := parse[storedTicket](value)
	left := s.Expires.Sub(t.now())
	// The bucket forgets by itself; this is for a bucket that somebody made to last, and for clocks that jump.
	if err != nil || left <= 0 || left > 2*TicketLife || s.Account == "" || s.Session == "" || s.Instance == "" {
		return Ticket{}, ErrTicket
	}
	return s.Ticket, nil
}

// parse reads a bucket's value, which must be exactly what we write: others may have found a way
// to write there.
func parse[T any](value []byte) (T, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	err := d.Decode(&v)
	return v, err
}
