package activity_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/keeper"
	accountdom "github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/memory"
)

// account owns all desktops of a schedule; it is the first id that commandstest makes.
const account = "01TEST00000000000000000001"

// sim is one schedule.
type sim struct {
	ctx   context.Context
	seed  uint64
	r     *rand.Rand
	plant string // the fault that the keeper has; "": none
	tally *tally

	log     commands.Log
	users   *commands.Idle
	world   *commandstest.World
	taps    *taps
	table   *model
	down    atomic.Bool // the database does not answer
	behind  atomic.Bool // the read models are behind
	owner   commands.Origin
	account string
	ids     []string
	desks   []*desk
	nodes   []*replica
	keeper  *keeping
	// keeping is since when a keeper works without a break; stepped is when the database's clock was last set.
	keeping, stepped, wiped, brought time.Time
	violations                       []string
}

// replica is what a replica keeps of reports.
type replica struct {
	reports *activity.Reports
	dead    atomic.Bool
	cancel  context.CancelFunc
}

// taps records what is appended to the log, with the time, and folds it.
type taps struct {
	eventstore.Store
	mu     sync.Mutex
	news   []appended
	states map[string]instance.State
	policy *idle.Policy // of the account
}

func (t *taps) state(id string) (instance.State, *idle.Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.states[id], t.policy
}

type appended struct {
	id string
	at time.Time
	ev instance.Event
}

func (t *taps) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	res, err := t.Store.Append(ctx, a)
	if err != nil {
		return res, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range a.Writes {
		for _, e := range w.Events {
			switch w.Stream.Aggregate {
			case "instance":
				ev, err := instance.Codec.Decode(e.Type, e.Schema, e.Data)
				if err != nil {
					panic(err)
				}
				t.news = append(t.news, appended{w.Stream.ID, time.Now(), ev})
				t.states[w.Stream.ID] = instance.Evolve(t.states[w.Stream.ID], ev)
			case "account":
				ev, err := accountdom.Codec.Decode(e.Type, e.Schema, e.Data)
				if err != nil {
					panic(err)
				}
				if set, ok := ev.(accountdom.IdlePolicySet); ok {
					t.policy = set.Policy
				}
			}
		}
	}
	return res, nil
}

func (t *taps) take() []appended {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.news
	t.news = nil
	return news
}

// play plays a schedule and returns what went wrong.
func play(t *testing.T, seed uint64, plant string, counts *tally) (violations []string) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &sim{ctx: ctx, seed: seed, r: rand.New(rand.NewPCG(seed, 14)), plant: plant, tally: counts, table: newModel(), taps: &taps{Store: memory.New(), states: map[string]instance.State{}}}
		s.world = commandstest.NewWorldOn(s.taps, 9)
		skew := time.Duration(s.r.IntN(4000)-2000) * time.Millisecond // of the replicas' clocks
		s.log = s.world.Log
		s.log.Now = func() time.Time { return time.Now().UTC().Add(skew) }
		s.table.here = s.log.Now
		s.world.Accounts.Log, s.world.Instances.Log = s.log, s.log
		s.users = &commands.Idle{Log: s.log, Shortest: time.Minute}
		s.owner, _ = s.world.SignUp(t, "ada@example.org")
		s.account = s.owner.Account
		if s.account != account {
			t.Fatalf("got account %s, want %s", s.account, account)
		}
		for range 2 {
			s.nodes = append(s.nodes, s.newReplica())
		}
		s.setPolicy(t)
		for range 2 + s.r.IntN(3) {
			s.launch(t)
		}
		s.keep(0)
		for end := time.Now().Add(150 * time.Minute); time.Now().Before(end) && len(s.violations) == 0; {
			time.Sleep(step)
			synctest.Wait()
			s.pass(t)
		}
		cancel()
		for _, n := range s.nodes {
			n.cancel()
		}
		time.Sleep(time.Hour) // a paused keeper ends, too
		synctest.Wait()
		violations = s.violations
	})
	return violations
}

func (s *sim) newReplica() *replica {
	n := &replica{}
	ctx, cancel := context.WithCancel(s.ctx)
	n.cancel = cancel
	n.reports = &activity.Reports{Put: func(_ context.Context, list []activity.Report) error {
		if n.dead.Load() || s.down.Load() {
			return errDown
		}
		s.table.put(list)
		return nil
	}}
	go n.reports.Run(ctx)
	return n
}

// keeping is a keeper that runs.
type keeping struct {
	cancel context.CancelFunc
	pause  atomic.Int64 // how long its process is paused while it decides next about a desktop
}

// keep starts a keeper after a time.
func (s *sim) keep(after time.Duration) {
	ctx, cancel := context.WithCancel(s.ctx)
	mine := &keeping{cancel: cancel}
	s.keeper, s.keeping = mine, latest(time.Now().Add(after), s.brought)
	d := &desks{s: s, pause: func() {
		if left := mine.pause.Swap(0); left > 0 {
			s.tally.add("keepers paused in a decision")
			s.trace("paused for %s", time.Duration(left))
			time.Sleep(time.Duration(left))
		}
	}}
	k := &keeper.Keeper{Log: s.log, Desks: d, Logger: slog.New(slog.DiscardHandler)}
	go func() {
		time.Sleep(after)
		_ = k.Run(ctx)
	}()
}

func (s *sim) launch(t *testing.T) {
	out, err := s.world.Instances.Create(s.ctx, s.owner, "", "")
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{id: out.Answer.ID}
	for _, x := range []struct {
		of           *span
		every, lasts time.Duration
	}{{&d.user, 25 * time.Minute, 6 * time.Minute}, {&d.agent, 40 * time.Minute, 20 * time.Minute}, {&d.question, 0, 8 * time.Minute},
		{&d.shell, 90 * time.Minute, 8 * time.Minute}, {&d.blind, 100 * time.Minute, 8 * time.Minute}} {
		x.of.every, x.of.lasts = x.every, x.lasts
	}
	if s.r.IntN(3) == 0 {
		d.cron = time.Duration(15+s.r.IntN(40)) * time.Minute
		d.nextJob = time.Now().Add(spread(s.r, d.cron))
	}
	d.silent = s.r.IntN(8) == 0
	now := s.log.Now()
	s.execute(t, d.id, instance.Attempt{At: now, Spec: instance.Spec{ClientToken: d.id, TokenKey: "k1"}})
	s.execute(t, d.id, instance.Launched{Attempt: 1, Machine: "m", At: now})
	s.ids, s.desks = append(s.ids, d.id), append(s.desks, d)
	s.seen(t, d, instance.SeenRunning)
}

// seen has the saga see the machine in a state.
func (s *sim) seen(t *testing.T, d *desk, what instance.Seen) {
	s.execute(t, d.id, instance.Observe{Machine: "m", Seen: what, At: s.log.Now()})
	if d.due = (time.Time{}); what == instance.SeenRunning {
		d.boot(s.r, time.Now())
	} else {
		d.halt(time.Now())
	}
}

func (s *sim) execute(t *testing.T, id string, c instance.Command) {
	if _, err := s.log.ExecuteInstance(s.ctx, id, c); err != nil {
		t.Fatal(err)
	}
}

// state returns a desktop's state and the policy that applies to it.
func (s *sim) state(d *desk) (instance.State, idle.Policy) {
	st, ofAccount := s.taps.state(d.id)
	return st, commands.EffectivePolicy(st, ofAccount)
}

// pass lets the world pass a step: first it looks at what was decided since the last one.
func (s *sim) pass(t *testing.T) {
	now := time.Now()
	for _, e := range s.taps.take() {
		i := slices.Index(s.ids, e.id)
		if i >= 0 {
			s.trace("%s %s %T %+v", e.at.UTC().Format("15:04:05"), e.id[20:], e.ev, e.ev)
			s.decided(s.desks[i], e)
		}
	}
	for _, d := range s.desks {
		st, p := s.state(d)
		d.status = st.Status
		if s.check(d, st, p, now); len(s.violations) > 0 {
			return
		}
		switch {
		case st.Status == instance.Stopping && d.up && d.due.IsZero(), st.Status == instance.Starting && !d.up && d.due.IsZero():
			d.due = now.Add(time.Duration(20+s.r.IntN(60)) * time.Second)
		case d.due.IsZero() || now.Before(d.due):
		case d.up:
			s.seen(t, d, instance.SeenStopped)
		default:
			s.seen(t, d, instance.SeenRunning)
		}
		if !d.up {
			continue
		}
		if d.tunnel == nil && !now.Before(d.back) {
			d.tunnel, d.joined, d.loose, d.sent = s.nodes[s.r.IntN(len(s.nodes))], now, now, time.Time{}
		}
		d.live(s.r, now)
		d.report(now)
	}
	s.fault(t, now)
}

var errUnexpected = errors.New("unexpected")

// user has a user do something.
func (s *sim) must(t *testing.T, err error) {
	if err != nil {
		t.Fatal(fmt.Errorf("%w: %w", errUnexpected, err))
	}
}

func (s *sim) broken(d *desk, format string, args ...any) {
	s.violations = append(s.violations, fmt.Sprintf("seed %d, %s at %s, desktop …%s: ", s.seed, s.plant, time.Now().UTC().Format("15:04:05"), strings.TrimLeft(d.id, "01TES"))+fmt.Sprintf(format, args...))
}
