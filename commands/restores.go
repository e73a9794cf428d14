package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// restoresID is the id of the only stream of restores.
const restoresID = "log"

// Restores returns what the log remembers of its restores from backups.
func (l Log) Restores(ctx context.Context) (restore.State, error) {
	return restores.Fold(ctx, l.Store, restoresID)
}

// Restore ends what was issued before a log was restored from a backup.
type Restore struct {
	Log
	// Sessions returns the ids, in order, of sessions that have not ended and whose id is above after.
	Sessions func(ctx context.Context, after string, limit int) ([]string, error)
	// Accounts returns the ids, in order, of accounts whose id is above after.
	Accounts func(ctx context.Context, after string, limit int) ([]string, error)
	// Live returns the ids of the instances that are not final.
	Live func(ctx context.Context) (ids []string, position int64, err error)
}

// Finish ends all sessions, all API tokens and all unused enrolment tokens, and then records the restore: the log may have
// lost that one of them was revoked. Guests that the log knows keep their keys. If it is interrupted, call it again. damaged counts streams that cannot be read; nothing can use them.
func (c *Restore) Finish(ctx context.Context, f restore.Finish) (done restore.Finish, damaged int, err error) {
	before, err := c.Restores(ctx)
	if err != nil || f.Epoch <= before.Epoch {
		return f, 0, err
	}
	if f.Sessions, damaged, err = c.endSessions(ctx); err != nil {
		return f, damaged, err
	}
	var unread int
	if f.Tokens, unread, err = c.revokeTokens(ctx); err != nil {
		return f, damaged, err
	}
	damaged += unread
	ids, _, err := c.Live(ctx)
	if err != nil {
		return f, damaged, err
	}
	for _, id := range ids {
		switch res, err := c.executeFor(ctx, Origin{Account: Operator, CorrelationID: id}, id, instance.EndEnrolment{}, func(instance.State) error { return nil }); {
		case errors.Is(err, eventstore.ErrDamaged):
			damaged++
		case err != nil:
			return f, damaged, fmt.Errorf("end the enrolment of instance %s: %w", id, err)
		case res.Last > 0:
			f.Enrolments++
		}
	}
	f.RestoredAt = c.Now()
	_, err = eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		_, err := restores.Execute(ctx, u, restoresID, f)
		return nil, err
	})
	if err != nil {
		return f, damaged, fmt.Errorf("record the restore: %w", err)
	}
	return f, damaged, nil
}

// sessionsAtOnce is how many sessions one append ends.
const sessionsAtOnce = eventstore.MaxAppendEvent

func (c *Restore) endSessions(ctx context.Context) (ended, damaged int, err error) {
	for after := ""; ; {
		ids, err := c.Sessions(ctx, after, sessionsAtOnce)
		if err != nil || len(ids) == 0 {
			return ended, damaged, err
		}
		after = ids[len(ids)-1]
		switch n, err := c.end(ctx, ids); {
		case err == nil:
			ended += n
			continue
		case !errors.Is(err, eventstore.ErrDamaged):
			return ended, damaged, fmt.Errorf("end sessions: %w", err)
		}
		for _, id := range ids { // one of them cannot be read
			switch n, err := c.end(ctx, []string{id}); {
			case errors.Is(err, eventstore.ErrDamaged):
				damaged++
			case err != nil:
				return ended, damaged, fmt.Errorf("end session %s: %w", id, err)
			default:
				ended += n
			}
		}
	}
}

// accountsAtOnce is how many accounts are read at a time.
const accountsAtOnce = 500

func (c *Restore) revokeTokens(ctx context.Context) (revoked, damaged int, err error) {
	for after := ""; ; {
		ids, err := c.Accounts(ctx, after, accountsAtOnce)
		if err != nil || len(ids) == 0 {
			return revoked, damaged, err
		}
		after = ids[len(ids)-1]
		for _, id := range ids {
			res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
				_, err := tokens.Execute(ctx, u, id, token.RevokeAll{Reason: token.Restored})
				return nil, err
			})
			switch {
			case errors.Is(err, eventstore.ErrDamaged):
				damaged++
			case err != nil:
				return revoked, damaged, fmt.Errorf("revoke the API tokens of account %s: %w", id, err)
			case res.Last > 0:
				revoked += int(res.Last - res.First + 1)
			}
		}
	}
}

func (c *Restore) end(ctx context.Context, ids []string) (ended int, err error) {
	res, err := eventstore.Run(ctx, c.Store, c.stamp(Origin{Account: Operator}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		ended = 0
		for _, id := range ids {
			s, err := sessions.Load(ctx, u, id)
			if err != nil {
				return nil, err
			}
			if s.Account == "" || s.Ended != "" {
				continue
			}
			if _, err := sessions.Execute(ctx, u, id, session.End{Reason: session.Restored}); err != nil {
				return nil, err
			}
			ended++
		}
		return nil, nil
	})
	if res.Last == 0 {
		ended = 0
	}
	return ended, err
}
