// Package commands holds the use cases: what the front, the guests and the saga may do to the log. Each use case loads
// the streams it needs, asks their deciders, and appends the events and the command's receipt in one append.
//
// The one thing to know: an accepted command has exactly one outcome, readable by its id. The same id with the same
// request gets the first answer again; with another request it is refused.
package commands

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/claim"
	"github.com/cloudbot-ai/control-plane/domain/fleet"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/invite"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// The aggregates, tied to their streams.
var (
	accounts = eventstore.Aggregate[account.State, account.Event, account.Command]{
		Codec: account.Codec, Evolve: account.Evolve, Decide: account.Decide, Owner: ofID[account.State],
	}
	claims = eventstore.Aggregate[claim.State, claim.Event, claim.Claim]{
		Codec: claim.Codec, Evolve: claim.Evolve, Decide: claim.Decide, Owner: func(_ string, s claim.State) string { return s.Account },
	}
	sessions = eventstore.Aggregate[session.State, session.Event, session.Command]{
		Codec: session.Codec, Evolve: session.Evolve, Decide: session.Decide, Owner: func(_ string, s session.State) string { return s.Account },
	}
	apikeys = eventstore.Aggregate[apikey.State, apikey.Event, apikey.Command]{
		Codec: apikey.Codec, Evolve: apikey.Evolve, Decide: apikey.Decide, Owner: func(_ string, s apikey.State) string { return s.Account },
	}
	instances = eventstore.Aggregate[instance.State, instance.Event, instance.Command]{
		Codec: instance.Codec, Evolve: instance.Evolve, Decide: instance.Decide, Closes: instance.Closed,
		Owner: func(_ string, s instance.State) string { return s.Account },
	}
	quotas = eventstore.Aggregate[quota.State, quota.Event, quota.Command]{
		Codec: quota.Codec, Evolve: quota.Evolve, Decide: quota.Decide, Owner: ofID[quota.State],
	}
	invites = eventstore.Aggregate[invite.State, invite.Event, invite.Command]{
		Codec: invite.Codec, Evolve: invite.Evolve, Decide: invite.Decide, Owner: func(_ string, s invite.State) string { return s.Account },
	}
	audits = eventstore.Aggregate[audit.State, audit.Event, audit.Command]{
		Codec: audit.Codec, Evolve: audit.Evolve, Decide: audit.Decide, Snapshot: true,
	}
	restores = eventstore.Aggregate[restore.State, restore.Event, restore.Command]{
		Codec: restore.Codec, Evolve: restore.Evolve, Decide: restore.Decide,
	}
	budgets = eventstore.Aggregate[budget.State, budget.Event, budget.Command]{
		Codec: budget.Codec, Evolve: budget.Evolve, Decide: budget.Decide, Owner: ofID[budget.State],
	}
	billings = eventstore.Aggregate[billing.State, billing.Event, billing.Command]{
		Codec: billing.Codec, Evolve: billing.Evolve, Decide: billing.Decide, Owner: ofID[billing.State],
	}
	tokens = eventstore.Aggregate[token.State, token.Event, token.Command]{
		Codec: token.Codec, Evolve: token.Evolve, Decide: token.Decide, Owner: ofID[token.State],
	}
	fleets = eventstore.Aggregate[fleet.State, fleet.Event, fleet.Command]{
		Codec: fleet.Codec, Evolve: fleet.Evolve, Decide: fleet.Decide, Snapshot: true,
	}
)

// ofID returns the owner of a stream whose id is its account's.
func ofID[S any](id string, _ S) string { return id }

// System is the actor of commands that no user sent: those of the saga and of the guests.
const System = "system"

// Operator is the actor of commands that the server's operator sent with one of the tools.
const Operator = "operator"

// MaxCommandID bounds a client's Idempotency-Key, in bytes.
const MaxCommandID = 128

// Refusals.
var (
	ErrKeyReused = &domain.Error{Kind: domain.Invalid, Code: "idempotency_key_reused", Msg: "This Idempotency-Key was used for another request; use a new one."}
	ErrBusy      = &domain.Error{Kind: domain.Unavailable, Code: "store_unavailable", Msg: "The request could not be recorded. Send the same request again in a few seconds."}
)

// Origin identifies the sender of a command and its request.
type Origin struct {
	Account       string // "" before login
	Session       string
	CommandID     string // the client's Idempotency-Key; "": a new id
	CorrelationID string
	TraceParent   string
	ClientAddr    string
}

// Log is the event log with what every use case needs beside it.
type Log struct {
	Store eventstore.Store
	NewID func() string    // ULIDs
	Now   func() time.Time // UTC
	// DigestKey keys the digests of requests in receipts, so that a name or a key cannot be guessed from them.
	DigestKey []byte
	// Fleet limits the number of all instances. Nil: no limit.
	Fleet *Fleet
	// Ceiling is the operator's budget of a month for all accounts together, in micro-dollars. 0: none.
	Ceiling int64
	// Plans says that desktops need a plan: creates and starts are decided by it, and its limits are the quota.
	Plans bool
	// Terms are how plans end. Commands about plans and payments need them, and creates and starts with Plans.
	Terms billing.Terms
}

func (l Log) stamp(o Origin) eventstore.Stamp {
	actor := o.Account
	if actor == "" {
		actor = System
	}
	return eventstore.Stamp{NewID: l.NewID, Now: l.Now(), Meta: eventstore.Metadata{
		Actor: actor, CommandID: o.CommandID, CorrelationID: o.CorrelationID,
		TraceParent: o.TraceParent, ClientAddr: o.ClientAddr,
	}}
}

// Vault seals personal data under the account's own key.
type Vault interface {
	NewKey(ctx context.Context, account string) error
	DropKey(ctx context.Context, account string) error
	Seal(ctx context.Context, account, label string, plain []byte) ([]byte, error)
	Open(ctx context.Context, account, label string, sealed []byte) ([]byte, error)
}

// Outcome is a command's answer. Answer must not contain personal data: the receipt in the log keeps it.
type Outcome[A any] struct {
	Answer   A
	Position int64 // last position that the command wrote, for queries to wait for; 0 if it changed nothing
	Replayed bool  // this is a repeat of the first answer
}

// once runs a user's command so that it has exactly one outcome. request identifies the request.
func once[A any](ctx context.Context, l Log, o Origin, request any, decide func(*eventstore.Unit) (A, error)) (Outcome[A], error) {
	digest, err := l.digest(request)
	if err != nil {
		return Outcome[A]{}, err
	}
	asked := o.CommandID != ""
	if !asked {
		o.CommandID = l.NewID()
	}
	key := o.Account + "/" + o.CommandID
	if asked {
		if out, err := replay[A](ctx, l, key, digest); out != nil || err != nil {
			return deref(out), err
		}
	}
	var answer A
	res, err := eventstore.Run(ctx, l.Store, l.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		if answer, err = decide(u); err != nil {
			return nil, err
		}
		kept, err := json.Marshal(answer)
		return &eventstore.Receipt{Key: key, Request: digest, Response: kept}, err
	})
	var duplicate *eventstore.DuplicateError
	if errors.As(err, &duplicate) || errors.Is(err, eventstore.ErrUnavailable) {
		// Another request with this key was first, or this commit succeeded unnoticed: the receipt shows which.
		out, replayErr := replay[A](ctx, l, key, digest)
		if out != nil || errors.As(err, &duplicate) {
			return deref(out), replayErr
		}
	}
	if err != nil {
		return Outcome[A]{}, err
	}
	return Outcome[A]{Answer: answer, Position: res.Last}, nil
}

func replay[A any](ctx context.Context, l Log, key string, digest []byte) (*Outcome[A], error) {
	r, err := l.Store.Receipt(ctx, key)
	if err != nil || r == nil {
		return nil, err
	}
	if !hmac.Equal(r.Request, digest) {
		return nil, ErrKeyReused
	}
	out := Outcome[A]{Position: r.Position, Replayed: true}
	if err := json.Unmarshal(r.Response, &out.Answer); err != nil {
		return nil, fmt.Errorf("read receipt: %w: %w", eventstore.ErrDamaged, err)
	}
	return &out, nil
}

func deref[A any](out *Outcome[A]) Outcome[A] {
	if out == nil {
		return Outcome[A]{}
	}
	return *out
}

func (l Log) digest(request any) ([]byte, error) {
	text, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("digest request: %w", err)
	}
	mac := hmac.New(sha256.New, l.DigestKey)
	mac.Write(text)
	return mac.Sum(nil), nil
}
