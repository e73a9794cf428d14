package activity_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/keeper"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// model is ops.activity in memory, as activity.Table has it; TestTableIsTheModel compares the two. Its clock differs from the
// real time by off.
type model struct {
	mu   sync.Mutex
	off  time.Duration
	here func() time.Time // the log's clock
	rows map[string]*modelRow
}

type modelRow struct {
	commands.Activity
	run time.Time
}

var errDown = errors.New("the database does not answer")

func newModel() *model { return &model{rows: map[string]*modelRow{}} }

func (m *model) now() time.Time { return time.Now().UTC().Add(m.off) }

// put is activity.Table's Put.
func (m *model) put(reports []activity.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	shift := func(t time.Time) time.Time { // a report's times are of the process's own clock
		if t.IsZero() {
			return t
		}
		return now.Add(-time.Since(t))
	}
	for _, r := range reports {
		row, there := m.rows[r.Instance], true
		if row == nil {
			row, there = &modelRow{Activity: commands.Activity{Instance: r.Instance, Account: r.Account, Since: now}}, false
			m.rows[r.Instance] = row
		}
		at := shift(r.At)
		if there && (row.Account != r.Account || row.Reported.After(at) && !row.Reported.After(now)) {
			continue
		}
		same := func(a, b time.Time) bool { return !a.IsZero() && a.Sub(b).Abs() < 2*time.Second }
		set := func(old *time.Time, new time.Time) {
			switch {
			case new.IsZero() && old.After(now):
				*old = time.Time{}
			case new.IsZero() || same(*old, new) && new.Before(at.Add(-2*time.Second)):
			default:
				*old = new
			}
		}
		set(&row.Input, shift(r.Input))
		set(&row.Chat, shift(r.Chat))
		set(&row.Agent, shift(r.Agent))
		set(&row.Question, shift(r.Question))
		set(&row.Shell, shift(r.Shell))
		if known := shift(r.Known); !same(row.Known, known) {
			row.Known = known
		}
		if next := shift(r.NextJob); next.IsZero() || !same(row.NextJob, next) {
			row.NextJob = next
		}
		row.Reported, row.Blind = at, r.Blind
	}
}

// step sets the clock, and forgets what was known, as activity.Table does when it notices.
func (m *model) step(by time.Duration) {
	m.wipe()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off += by
}

func (m *model) wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.rows)
}

// running notes a run, as activity.Table does before it lists the running desktops.
func (m *model) running(id, account string, run time.Time) {
	row := m.rows[id]
	if row == nil {
		row = &modelRow{Activity: commands.Activity{Instance: id, Account: account}}
		m.rows[id] = row
	}
	if !row.run.Equal(run) && !row.run.IsZero() || row.Since.IsZero() {
		row.Since = m.now()
	}
	row.run = run
}

// noted reports whether a run was noted.
func (m *model) noted(id string, run time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rows[id] != nil && m.rows[id].run.Equal(run)
}

func (m *model) get(id string) (commands.Activity, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if row := m.rows[id]; row != nil {
		return m.read(row), m.here()
	}
	return commands.Activity{}, m.here()
}

// read returns a row by the log's clock.
func (m *model) read(row *modelRow) commands.Activity {
	a, now, here := row.Activity, m.now(), m.here()
	for _, t := range []*time.Time{&a.Since, &a.Input, &a.Chat, &a.Agent, &a.Question, &a.Shell, &a.Known, &a.Reported, &a.NextJob} {
		if !t.IsZero() {
			*t = here.Add(t.Sub(now))
		}
	}
	return a
}

// desks is keeper.Desks over a model and a log.
type desks struct {
	s     *sim
	pause func()        // called between reading one desktop's use and returning it
	last  []keeper.Desk // of the previous look
}

func (d *desks) Activity(_ context.Context, id string) (commands.Activity, time.Time, error) {
	if d.s.down.Load() {
		return commands.Activity{}, time.Time{}, errDown
	}
	a, now := d.s.table.get(id)
	d.pause()
	return d.s.lie(a, now), now, nil
}

func (d *desks) ActivitiesOf(context.Context, string) (map[string]commands.Activity, time.Time, error) {
	return nil, time.Time{}, errors.New("the keeper does not ask")
}

func (d *desks) Running(context.Context) (list []keeper.Desk, now time.Time, err error) {
	if d.s.down.Load() {
		return nil, now, errDown
	}
	m := d.s.table
	for _, id := range d.s.ids {
		st, ofAccount := d.s.taps.state(id)
		if st.Status != instance.Running {
			continue
		}
		m.mu.Lock()
		m.running(id, st.Account, st.RunAt)
		list = append(list, keeper.Desk{ID: id, State: st, Account: ofAccount, Activity: d.s.lie(m.read(m.rows[id]), m.here())})
		m.mu.Unlock()
	}
	_, now = m.get("")
	stale := d.last
	d.last = slices.Clone(list)
	if d.s.behind.Load() && stale != nil {
		list = stale // the read models are behind
	}
	return list, now, nil
}

func (d *desks) Waking(context.Context) (list []keeper.Wake, err error) {
	if d.s.down.Load() {
		return nil, errDown
	}
	_, now := d.s.table.get("")
	for _, id := range d.s.ids {
		st, _ := d.s.taps.state(id)
		if st.Status == instance.Stopped && !st.WakeAt.IsZero() && !st.WakeAt.After(now) {
			list = append(list, keeper.Wake{ID: id, Account: st.Account, At: st.WakeAt})
		}
	}
	return list, nil
}

// lie returns what a keeper with a planted fault takes for known.
func (s *sim) lie(a commands.Activity, now time.Time) commands.Activity {
	switch s.plant {
	case ignoresActivity:
		a.Input, a.Chat, a.Agent, a.Question, a.Shell = time.Time{}, time.Time{}, time.Time{}, time.Time{}, time.Time{}
	case takesUnknownAsIdle:
		if a.Reported, a.Blind = now, false; a.Known.IsZero() {
			a.Known = a.Since
		}
	}
	return a
}

// The faults that are planted in a keeper.
const (
	ignoresActivity    = "activity ignored"
	takesUnknownAsIdle = "unknown taken as idle"
)
