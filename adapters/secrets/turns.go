package secrets

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
)

// Refusals of a hash that would wait too long. ctx names the fair.Visitor that the work is for.
var (
	ErrTooManyTurns = &domain.Error{Kind: domain.Exhausted, Code: "too_many_sign_ins", Msg: "Too many sign-ins from your network are waiting; try again in a few seconds."}
	ErrNoTurn       = &domain.Error{Kind: domain.Unavailable, Code: "sign_in_busy", Msg: "Many sign-ins are waiting; try again in a few seconds."}
)

// newQueue returns the queue for run hashes at a time. One processor makes four hashes a second; at that rate
// a full queue of many networks is served within its patience.
func newQueue(run int) *fair.Queue {
	return fair.NewQueue(fair.QueueConfig{
		Run:  run,
		Wait: 64,                       // unknown visitors: with more, the last would wait longer than people do
		One:  8, Site: 12, Network: 16, // a family, an office, a crowd with a /48
		WaitKnown: 64, EachKnown: 4, // an account's devices: a person opens few at once
		Patience: 10 * time.Second,
	})
}

// enter waits for a turn to hash; leave ends it.
func (p *Passwords) enter(ctx context.Context) error {
	switch verdict := p.queue.Enter(ctx, fair.VisitorOf(ctx)); {
	case verdict == fair.Taken:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case verdict == fair.ShareFull:
		return ErrTooManyTurns
	}
	return ErrNoTurn
}

func (p *Passwords) leave() { p.queue.Leave() }
