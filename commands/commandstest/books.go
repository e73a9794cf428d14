package commandstest

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// PriceList has one type, "small" in the region "test", at a dollar an hour. Disks and addresses cost nothing.
const PriceList = `{"source":"a test","date":"2026-11-01","disk_gib":40,"versions":[{"from":"2020-01-01","regions":{
	"test":{"hourly_micros":{"small":1000000},"disk_gib_month_micros":0,"address_hourly_micros":0}}}]}`

// Books are read models that follow the log when they are asked.
type Books struct {
	Store  eventstore.Store
	Behind atomic.Int64 // how many of the latest events they have not seen

	mu sync.Mutex
	at *booked
}

// booked is what the log says up to a position.
type booked struct {
	position int64
	accounts []string
	desktops map[string]instance.State
	used     map[string]*used
	budgets  map[string]budget.State
}

type used struct {
	fold      usage.Desktop
	intervals map[int]usage.Interval
	models    []usage.ModelDay
}

// look calls read with what the log says.
func (b *Books) look(ctx context.Context, read func(*booked)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	head, err := b.Store.Head(ctx)
	if err != nil {
		return err
	}
	seen := max(0, head-b.Behind.Load())
	if b.at == nil || b.at.position > seen {
		b.at = &booked{desktops: map[string]instance.State{}, used: map[string]*used{}, budgets: map[string]budget.State{}}
	}
	for e, err := range b.Store.ReadAll(ctx, b.at.position) {
		if err != nil {
			return err
		}
		if e.Position > seen {
			break
		}
		_ = b.at.apply(e) // what cannot be read is set aside
		b.at.position = e.Position
	}
	read(b.at)
	return nil
}

// Position returns how far they are.
func (b *Books) Position() (position int64) {
	_ = b.look(context.Background(), func(f *booked) { position = f.position })
	return position
}

func (f *booked) apply(e eventstore.Event) error {
	id := e.Stream.ID
	switch e.Stream.Aggregate {
	case "account":
		if e.Version == 1 {
			f.accounts = append(f.accounts, id)
		}
	case "budget":
		ev, err := budget.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return err
		}
		f.budgets[id] = budget.Evolve(f.budgets[id], ev)
	case "instance":
		ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
		if err != nil {
			return err
		}
		f.desktops[id] = instance.Evolve(f.desktops[id], ev)
		u := f.used[id]
		if u == nil {
			u = &used{fold: usage.Desktop{Instance: id}, intervals: map[int]usage.Interval{}}
			f.used[id] = u
		}
		next, changes := u.fold.Apply(ev, e.Time)
		u.fold = next
		for _, i := range changes.Intervals {
			u.intervals[i.N] = i
		}
		u.models = append(u.models, changes.Models...)
	}
	return nil
}

// Usage returns what an account used in a period.
func (b *Books) Usage(ctx context.Context, account string, from, to time.Time) (u usage.Usage, err error) {
	u, err = b.Spent(ctx, from, account)
	u.Intervals = slices.DeleteFunc(u.Intervals, func(i usage.Interval) bool { return !i.From.Before(to) })
	u.Models = slices.DeleteFunc(u.Models, func(m usage.ModelDay) bool { return !m.Day.Before(to) })
	return u, err
}

// Spent returns what accounts used since a time.
func (b *Books) Spent(ctx context.Context, since time.Time, accounts ...string) (u usage.Usage, err error) {
	err = b.look(ctx, func(f *booked) {
		for _, used := range f.used {
			for _, i := range used.intervals {
				if slices.Contains(accounts, i.Account) && (i.End == usage.Open || i.To.After(since.Add(-usage.Minimum))) {
					u.Intervals = append(u.Intervals, i)
				}
			}
			for _, m := range used.models {
				if slices.Contains(accounts, m.Account) && !m.Day.Before(usage.Day(since)) {
					u.Models = append(u.Models, m)
				}
			}
		}
	})
	return u, err
}

// Budgeted returns a page of the accounts with a limit.
func (b *Books) Budgeted(ctx context.Context, after string, limit int) (list []commands.Budgeted, err error) {
	err = b.look(ctx, func(f *booked) {
		for id, s := range f.budgets {
			if id > after && id != budget.InstallationStream && s.Limited() {
				list = append(list, commands.Budgeted{Account: id, State: s})
			}
		}
	})
	slices.SortFunc(list, func(a, b commands.Budgeted) int { return strings.Compare(a.Account, b.Account) })
	return list[:min(limit, len(list))], err
}

// Desktops returns the accounts' desktops that have not ended, and those of ids.
func (b *Books) Desktops(ctx context.Context, accounts, ids []string) (list []commands.Desktop, err error) {
	err = b.look(ctx, func(f *booked) {
		for id, s := range f.desktops {
			if slices.Contains(accounts, s.Account) && (!s.Final() || slices.Contains(ids, id)) {
				list = append(list, commands.Desktop{Account: s.Account, Instance: id, Status: s.Status})
			}
		}
	})
	return list, err
}

// Everyone returns a page of the accounts.
func (b *Books) Everyone(ctx context.Context, after string, limit int) (list []string, err error) {
	err = b.look(ctx, func(f *booked) {
		for _, id := range f.accounts {
			if id > after {
				list = append(list, id)
			}
		}
	})
	slices.Sort(list)
	return list[:min(limit, len(list))], err
}
