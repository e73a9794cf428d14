package commands

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// MaxChats bounds an instance's saved chats, in bytes of plain text.
const MaxChats = 2 << 20

// Refusals.
var (
	ErrNoChats   = &domain.Error{Kind: domain.NotFound, Code: "no_saved_chat", Msg: "No chat of this desktop is saved."}
	ErrChatsFull = &domain.Error{Kind: domain.Exhausted, Code: "saved_chats_full", Msg: "The account's saved chats take all the space that they may."}
)

// ChatStore keeps sealed chats, one for each instance.
type ChatStore interface {
	// PutChats keeps an instance's chats, unless newer ones are kept. It returns ErrChatsFull if the account has too many,
	// and an error of kind NotFound if the account was erased.
	PutChats(ctx context.Context, account, instanceID string, at time.Time, sealed []byte) error
	// GetChats returns an instance's chats; nil if there are none.
	GetChats(ctx context.Context, account, instanceID string) (sealed []byte, at time.Time, err error)
	DropChats(ctx context.Context, instanceID string) error
}

// Chats keeps the newest chats of machines, for their owners to read while the machines are stopped. They are not in the log.
type Chats struct {
	Log
	Vault Vault
	Store ChatStore
}

// chatsLabel binds saved chats to their instance and their time.
func chatsLabel(instanceID string, at time.Time) string {
	return "chats|" + instanceID + "|" + at.UTC().Format(time.RFC3339Nano)
}

// Save keeps the chats that an instance's machine sent at a time. Those of an instance that is being terminated are refused.
func (c *Chats) Save(ctx context.Context, account, id string, at time.Time, chats []byte) error {
	if err := c.wanted(ctx, account, id); err != nil {
		return err
	}
	var short bytes.Buffer
	w := gzip.NewWriter(&short)
	if _, err := w.Write(chats); err != nil {
		return fmt.Errorf("compress chats: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress chats: %w", err)
	}
	at = at.UTC().Truncate(time.Millisecond) // as the store returns it
	sealed, err := c.Vault.Seal(ctx, account, chatsLabel(id, at), short.Bytes())
	if err != nil {
		return fmt.Errorf("seal chats: %w", err)
	}
	if err := c.Store.PutChats(ctx, account, id, at, sealed); err != nil {
		return fmt.Errorf("save chats: %w", err)
	}
	// A termination meanwhile may have dropped them before they were there.
	if err := c.wanted(ctx, account, id); err != nil {
		var refused *domain.Error
		if errors.As(err, &refused) {
			err = errors.Join(err, c.Store.DropChats(context.WithoutCancel(ctx), id))
		}
		return err
	}
	return nil
}

func (c *Chats) wanted(ctx context.Context, account, id string) error {
	s, err := instances.Fold(ctx, c.Log.Store, id)
	switch {
	case err != nil:
		return err
	case !s.Exists() || s.Account != account:
		return instance.ErrNotFound
	case s.Final() || s.Status == instance.Terminating:
		return instance.ErrGone
	}
	return nil
}

// Read returns the newest chats of the account's own instance, and when they were saved. Those of an instance that ended
// otherwise than by a termination can still be read.
func (c *Chats) Read(ctx context.Context, account, id string) (chats []byte, at time.Time, err error) {
	s, err := instances.Fold(ctx, c.Log.Store, id)
	switch {
	case err != nil:
		return nil, at, err
	case !s.Exists() || s.Account != account:
		return nil, at, instance.ErrNotFound
	case s.Status == instance.Terminating || s.Status == instance.StatusTerminated:
		return nil, at, ErrNoChats
	}
	sealed, at, err := c.Store.GetChats(ctx, account, id)
	if err != nil {
		return nil, at, fmt.Errorf("read saved chats: %w", err)
	}
	if sealed == nil {
		return nil, at, ErrNoChats
	}
	short, err := c.Vault.Open(ctx, account, chatsLabel(id, at), sealed)
	if err != nil {
		return nil, at, fmt.Errorf("open saved chats: %w", err)
	}
	r, err := gzip.NewReader(bytes.NewReader(short))
	if err != nil {
		return nil, at, fmt.Errorf("expand saved chats: %w", err)
	}
	if chats, err = io.ReadAll(io.LimitReader(r, MaxChats)); err != nil {
		return nil, at, fmt.Errorf("expand saved chats: %w", err)
	}
	return chats, at.UTC(), nil
}
