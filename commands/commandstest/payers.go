package commandstest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Payers are the read models of plans, which follow the log when they are asked.
type Payers struct {
	Store  eventstore.Store
	Behind atomic.Int64 // how many of the latest events they have not seen

	mu       sync.Mutex
	position int64
	accounts map[string]billing.State
}

func (p *Payers) look(ctx context.Context, read func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	head, err := p.Store.Head(ctx)
	if err != nil {
		return err
	}
	seen := max(0, head-p.Behind.Load())
	if p.accounts == nil || p.position > seen {
		p.accounts, p.position = map[string]billing.State{}, 0
	}
	for e, err := range p.Store.ReadAll(ctx, p.position) {
		if err != nil {
			return err
		}
		if e.Position > seen {
			break
		}
		p.position = e.Position
		if e.Stream.Aggregate != billing.Codec.Aggregate() {
			continue
		}
		ev, err := billing.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return err
		}
		p.accounts[e.Stream.ID] = billing.Evolve(p.accounts[e.Stream.ID], ev)
	}
	read()
	return nil
}

// Position returns how far they are.
func (p *Payers) Position() (position int64) {
	_ = p.look(context.Background(), func() { position = p.position })
	return position
}

// Customer returns the account of a customer at Stripe.
func (p *Payers) Customer(ctx context.Context, customer string) (account string, err error) {
	err = p.look(ctx, func() {
		for id, s := range p.accounts {
			if customer != "" && s.Customer == customer {
				account = id
			}
		}
	})
	return account, err
}

// Billed returns a page of the accounts with a billing stream.
func (p *Payers) Billed(ctx context.Context, after string, limit int) (list []commands.Billed, err error) {
	err = p.look(ctx, func() {
		for id, s := range p.accounts {
			if id > after {
				list = append(list, commands.Billed{Account: id, State: s})
			}
		}
	})
	slices.SortFunc(list, func(a, b commands.Billed) int { return strings.Compare(a.Account, b.Account) })
	return list[:min(limit, len(list))], err
}

// CheckingOut returns a page of the accounts with a Checkout that may still be paid.
func (p *Payers) CheckingOut(ctx context.Context, after string, limit int) (list []string, err error) {
	err = p.look(ctx, func() {
		for id, s := range p.accounts {
			if id > after && s.Checkout != nil {
				list = append(list, id)
			}
		}
	})
	slices.Sort(list)
	return list[:min(limit, len(list))], err
}
