package httpapi

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	domainaccount "github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
	"github.com/cloudbot-ai/control-plane/projections"
)

// readModel answers queries by folding the whole log each time. It is small and never behind.
type readModel struct {
	store               *memory.Store
	now                 func() time.Time
	*commandstest.Books // for usage
}

type folded struct {
	instances map[string]projections.Instance
	states    map[string]instance.State
	sessions  map[string]projections.Session
	ended     map[string]time.Time
	owner     map[string]string // of sessions and instances
	keys      map[string]map[string]projections.APIKey
	entries   map[string][]projections.Entry
}

func (m readModel) fold(ctx context.Context) (*folded, error) {
	f := &folded{
		map[string]projections.Instance{}, map[string]instance.State{}, map[string]projections.Session{}, map[string]time.Time{},
		map[string]string{}, map[string]map[string]projections.APIKey{}, map[string][]projections.Entry{},
	}
	for e, err := range m.store.ReadAll(ctx, 0) {
		if err != nil {
			return nil, err
		}
		var account string
		switch id := e.Stream.ID; e.Stream.Aggregate {
		case "instance":
			account = f.instance(e, id)
		case "session":
			account = f.session(e, id)
		case "apikey":
			account = f.key(e)
		case "account", "audit", "budget":
			account = id
		}
		if account != "" {
			f.entries[account] = append(f.entries[account], projections.Entry{
				Position: e.Position, EventID: e.ID, Time: e.Time, Type: e.Type, Subject: e.Stream.String(),
				Actor: e.Meta.Actor, Sentence: "Something happened.", Data: json.RawMessage(`{"n":1}`),
			})
		}
	}
	return f, nil
}

func (f *folded) instance(e eventstore.Event, id string) string {
	ev, _ := instance.Codec.Decode(e.Type, e.Schema, e.Data)
	s := instance.Evolve(f.states[id], ev)
	f.states[id] = s
	i := f.instances[id]
	switch ev := ev.(type) {
	case instance.Requested:
		name, _ := fakeVault{}.Open(context.Background(), s.Account, commands.NameLabel(id), ev.Name)
		i = projections.Instance{ID: id, Name: string(name), CreatedAt: e.Time, PhaseSince: e.Time}
	case instance.Renamed:
		name, _ := fakeVault{}.Open(context.Background(), s.Account, commands.NameLabel(id), ev.Name)
		i.Name = string(name)
	}
	i.Status, i.Phase, i.Type, i.Region, i.Address, i.Machine = s.Status, s.Phase, s.Type, s.Region, s.Address, s.Machine
	i.Versions, i.Idle.State = s.Versions, s
	switch ev := ev.(type) {
	case instance.StopRequested:
		i.Idle.Cause, i.Idle.Why, i.Idle.Jobs, i.Idle.NextJob = ev.Cause, ev.Why, ev.Jobs, ev.NextJob
	case instance.StartRequested, instance.MachineRunning:
		i.Idle.Cause, i.Idle.Why, i.Idle.Jobs, i.Idle.NextJob = "", "", "", time.Time{}
	}
	i.UpdatedAt, i.Position = e.Time, e.Position
	f.instances[id], f.owner[id] = i, s.Account
	return s.Account
}

func (f *folded) session(e eventstore.Event, id string) string {
	ev, _ := session.Codec.Decode(e.Type, e.Schema, e.Data)
	switch ev := ev.(type) {
	case session.Started:
		f.owner[id] = ev.Account
		f.sessions[id] = projections.Session{ID: id, Agent: ev.Agent, ClientAddr: e.Meta.ClientAddr, StartedAt: e.Time, SeenAt: e.Time, ExpiresAt: ev.Leaf.ExpiresAt}
	case session.Ended:
		f.ended[id] = e.Time
	}
	return f.owner[id]
}

func (f *folded) key(e eventstore.Event) string {
	ev, _ := apikey.Codec.Decode(e.Type, e.Schema, e.Data)
	switch ev := ev.(type) {
	case apikey.Stored:
		if f.keys[ev.Account] == nil {
			f.keys[ev.Account] = map[string]projections.APIKey{}
		}
		f.keys[ev.Account][ev.Provider] = projections.APIKey{Provider: ev.Provider, Last4: ev.Last4, UpdatedAt: e.Time}
		return ev.Account
	case apikey.Removed:
		delete(f.keys[ev.Account], ev.Provider)
		return ev.Account
	}
	return ""
}

func (m readModel) List(ctx context.Context, account string, p projections.Page, used projections.Period, _ ...func(*pgx.Batch)) (l projections.Listed, err error) {
	f, err := m.fold(ctx)
	if err != nil {
		return l, err
	}
	for id, i := range f.instances {
		if f.owner[id] != account {
			continue
		}
		if !f.states[id].Final() {
			l.Held++
		}
		if (p.Before == "" || id < p.Before) && (p.All || i.Status != instance.StatusTerminated) && (p.Only == "" || slices.Contains(strings.Fields(p.Only), id)) {
			l.Instances = append(l.Instances, i)
		}
	}
	slices.SortFunc(l.Instances, func(a, b projections.Instance) int { return strings.Compare(b.ID, a.ID) })
	if len(l.Instances) > p.Limit {
		l.Instances = l.Instances[:p.Limit]
		l.Next = l.Instances[p.Limit-1].ID
	}
	return m.beside(ctx, l, account, used)
}

// beside adds what List returns beside instances.
func (m readModel) beside(ctx context.Context, l projections.Listed, account string, used projections.Period) (projections.Listed, error) {
	l.PolicyErr = errNoObject
	for e, err := range m.store.ReadAll(ctx, 0) {
		if err != nil {
			return l, err
		}
		if e.Stream.Aggregate != "account" || e.Stream.ID != account {
			continue
		}
		l.PolicyErr = nil
		if ev, _ := domainaccount.Codec.Decode(e.Type, e.Schema, e.Data); e.Type == "account.idle_policy_set" {
			l.Policy = ev.(domainaccount.IdlePolicySet).Policy
		}
	}
	l.Usage, l.UsageErr = m.Usage(ctx, account, used.From, used.To)
	return l, nil
}

func (m readModel) Desktop(ctx context.Context, account, id string, used projections.Period, _ ...func(*pgx.Batch)) (l projections.Listed, err error) {
	i, err := m.Instance(ctx, account, id)
	if err != nil {
		return l, err
	}
	l.Instances = []projections.Instance{i}
	return m.beside(ctx, l, account, used)
}

func (m readModel) Latest(ctx context.Context, accounts []string) (map[string]int64, error) {
	f, err := m.fold(ctx)
	latest := map[string]int64{}
	if err == nil {
		for _, account := range accounts {
			for _, e := range f.entries[account] {
				latest[account] = e.Position
			}
		}
	}
	return latest, err
}

func (m readModel) Instance(ctx context.Context, account, id string) (projections.Instance, error) {
	f, err := m.fold(ctx)
	if err != nil {
		return projections.Instance{}, err
	}
	if i, ok := f.instances[id]; ok && f.owner[id] == account {
		return i, nil
	}
	return projections.Instance{}, instance.ErrNotFound
}

func (m readModel) InstancesOf(ctx context.Context, account string, ids []string) (list []projections.Instance, err error) {
	f, err := m.fold(ctx)
	for _, id := range ids {
		if i, ok := f.instances[id]; ok && f.owner[id] == account {
			list = append(list, i)
		}
	}
	return list, err
}

func (m readModel) History(ctx context.Context, account, id string, after int64, limit int) ([]projections.Entry, error) {
	return m.entries(ctx, account, "instance/"+id, after, limit)
}

func (m readModel) HistoryBefore(ctx context.Context, account, id string, before int64, limit int) ([]projections.Entry, error) {
	all, err := m.entries(ctx, account, "instance/"+id, 0, math.MaxInt)
	return newestBefore(all, before, limit), err
}

func (m readModel) AccountHistory(ctx context.Context, account string, after int64, limit int) ([]projections.Entry, error) {
	list, err := m.entries(ctx, account, "", after, math.MaxInt)
	list = slices.DeleteFunc(list, func(e projections.Entry) bool { return strings.HasPrefix(e.Subject, "instance/") })
	return list[:min(limit, len(list))], err
}

func (m readModel) AccountHistoryBefore(ctx context.Context, account string, before int64, limit int) ([]projections.Entry, error) {
	all, err := m.AccountHistory(ctx, account, 0, math.MaxInt)
	return newestBefore(all, before, limit), err
}

func newestBefore(all []projections.Entry, before int64, limit int) (list []projections.Entry) {
	slices.Reverse(all)
	for _, e := range all {
		if e.Position < before && len(list) < limit {
			list = append(list, e)
		}
	}
	return list
}

func (m readModel) Since(ctx context.Context, account string, after int64, limit int) ([]projections.Entry, error) {
	return m.entries(ctx, account, "", after, limit)
}

func (m readModel) entries(ctx context.Context, account, subject string, after int64, limit int) (list []projections.Entry, err error) {
	f, err := m.fold(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range f.entries[account] {
		if e.Position > after && (subject == "" || e.Subject == subject) && len(list) < limit {
			list = append(list, e)
		}
	}
	return list, nil
}

func (m readModel) Sessions(ctx context.Context, account string) (list []projections.Session, err error) {
	f, err := m.fold(ctx)
	if err != nil {
		return nil, err
	}
	for id, s := range f.sessions {
		if _, over := f.ended[id]; f.owner[id] == account && !over {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b projections.Session) int { return b.SeenAt.Compare(a.SeenAt) })
	return list, nil
}

func (m readModel) Suspended(ctx context.Context) (map[string]int64, error) {
	list := map[string]int64{}
	for e, err := range m.store.ReadAll(ctx, 0) {
		if err != nil {
			return nil, err
		}
		switch e.Type {
		case "account.suspended":
			list[e.Stream.ID] = e.Position
		case "account.resumed":
			delete(list, e.Stream.ID)
		}
	}
	return list, nil
}

func (m readModel) EndedSince(ctx context.Context, t time.Time) (ids []string, err error) {
	f, err := m.fold(ctx)
	if err != nil {
		return nil, err
	}
	for id, at := range f.ended {
		if at.After(t) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (m readModel) APIKeys(ctx context.Context, account string) (list []projections.APIKey, err error) {
	f, err := m.fold(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range f.keys[account] {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b projections.APIKey) int { return strings.Compare(a.Provider, b.Provider) })
	return list, nil
}

// BootTimes are made up: nine launches of t3.large, and too few starts for a time.
func (m readModel) BootTimes(_ context.Context, machineType string) (map[string]projections.BootTimes, error) {
	if machineType != "" && machineType != "t3.large" {
		return nil, nil
	}
	return map[string]projections.BootTimes{projections.BootStart: {Samples: 2}, projections.BootLaunch: {Samples: 9, Phases: []projections.PhaseTime{
		{Phase: instance.PhaseBooting, Spread: projections.Spread{P50: 1000, P95: 2000}},
		{Phase: instance.PhaseReady, Spread: projections.Spread{P50: 60_000, P95: 90_000}},
	}}}, nil
}
