package commands

import (
	"context"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Activity is what is known of a desktop's use. Times are by the log's clock; zero: never, or not known.
type Activity struct {
	Instance, Account string

	Input, Chat, Agent, Question, Shell time.Time

	Since    time.Time // when the database first knew this run, or lost what it knew of it
	Known    time.Time // since when its guest reports without a gap
	Reported time.Time // the latest report
	Blind    bool      // the latest report could not say whether the agent works
	NextJob  time.Time // when the next job of the agent's schedule is due
}

// Activities reads what is known of desktops' use.
type Activities interface {
	// Activity returns what is known of a desktop, and the time by the same clock. If nothing is known, the activity is zero.
	Activity(ctx context.Context, instanceID string) (Activity, time.Time, error)
	// ActivitiesOf returns what is known of an account's desktops, by their ids, and the time by the same clock.
	ActivitiesOf(ctx context.Context, account string) (map[string]Activity, time.Time, error)
}

// EffectivePolicy returns the policy that applies to a desktop: its own, else its account's, else the default. The default
// never stops a machine on the server's own computer, which costs nothing while it is idle. Of the state it reads the type,
// the region and the policy.
func EffectivePolicy(s instance.State, ofAccount *idle.Policy) idle.Policy {
	switch {
	case s.Idle != nil:
		return *s.Idle
	case ofAccount != nil:
		return *ofAccount
	}
	p := idle.Default()
	if s.Type == machines.Local || s.Region == machines.Local { // older local machines have the name of an EC2 type
		p.After, p.Warn, p.Ceiling = 0, 0, 0
	}
	return p
}

// UseOf joins what the log and the database know of a desktop's use. Of the state it reads what belongs to its idle stop.
func UseOf(s instance.State, a Activity, now time.Time) idle.Use {
	u := idle.Use{
		Now: now, Running: s.Status == instance.Running, Guest: !s.Guestless(),
		Began: s.RunAt, Since: a.Since, Extended: s.Asked, Until: s.Extended,
		Input: a.Input, Chat: a.Chat, Shell: a.Shell, Agent: a.Agent, Question: a.Question,
		Known: a.Known, Reported: a.Reported, Blind: a.Blind, NextJob: a.NextJob,
	}
	if s.Warned != nil {
		u.Warned = &idle.Warning{StopAt: s.Warned.StopAt, Cause: idle.Cause(s.Warned.Cause)}
	}
	return u
}

// Idle is the users' commands about when their desktops stop by themselves.
type Idle struct {
	Log
	Shortest time.Duration // the least idle limit and ceiling that a user may set
}

// SetPolicy sets the policy of the account's own desktop. Nil: the account's applies again.
func (c *Idle) SetPolicy(ctx context.Context, o Origin, id string, p *idle.Policy) (Outcome[Changed], error) {
	if p != nil {
		if err := p.Check(c.Shortest, c.Now()); err != nil {
			return Outcome[Changed]{}, err
		}
	}
	return c.changeInstance(ctx, o, []any{"set idle policy", id, p}, id, instance.SetIdlePolicy{Policy: p})
}

// Extend keeps the account's own desktop running for at least d, from now.
func (c *Idle) Extend(ctx context.Context, o Origin, id string, d time.Duration) (Outcome[Changed], error) {
	now := c.Now()
	return c.changeInstance(ctx, o, []any{"extend", id, d}, id, instance.Extend{At: now, Until: now.Add(d)})
}

// PolicySet is the answer of SetAccountPolicy.
type PolicySet struct {
	Policy *idle.Policy `json:"policy"`
}

// SetAccountPolicy sets the policy of the account's desktops that have none of their own. Nil: the default applies again.
func (c *Idle) SetAccountPolicy(ctx context.Context, o Origin, p *idle.Policy) (Outcome[PolicySet], error) {
	if p != nil {
		if err := p.Check(c.Shortest, c.Now()); err != nil {
			return Outcome[PolicySet]{}, err
		}
	}
	return once(ctx, c.Log, o, []any{"set account idle policy", p}, func(u *eventstore.Unit) (PolicySet, error) {
		_, err := accounts.Execute(ctx, u, o.Account, account.SetIdlePolicy{Policy: p})
		return PolicySet{p}, err
	})
}

// AccountPolicy returns the account's own policy; nil: it has set none.
func (c *Idle) AccountPolicy(ctx context.Context, id string) (*idle.Policy, error) {
	s, err := accounts.Fold(ctx, c.Store, id)
	if err == nil && !s.Exists() {
		err = account.ErrNotFound
	}
	return s.Idle, err
}

// keepWithin is how long what was read of a desktop's use counts. A process that was paused in between reads it again.
const keepWithin = 5 * time.Second

// current reads a desktop's use until that took less than keepWithin.
func current(ctx context.Context, id string, use func(context.Context, string) (Activity, time.Time, error)) (a Activity, now time.Time, err error) {
	for {
		begun := time.Now()
		if a, now, err = use(ctx, id); err != nil || time.Since(begun) < keepWithin {
			return a, now, err
		}
	}
}

// KeepIdle decides about a running desktop and records the verdict: a warning, its withdrawal or a stop. It reads the
// desktop's stream, its account's policy and then its use, immediately before it appends, and again after a conflict.
func (l Log) KeepIdle(ctx context.Context, id string, use func(context.Context, string) (Activity, time.Time, error)) (verdict idle.Verdict, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*keepWithin) // a decision that could not be written by then is made again
	defer cancel()
	_, err = eventstore.Run(ctx, l.Store, l.stamp(Origin{CorrelationID: id}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		verdict = idle.Verdict{Do: idle.Keep}
		s, err := instances.Load(ctx, u, id)
		if err != nil || s.Status != instance.Running {
			return nil, err
		}
		acc, err := accounts.Load(ctx, u, s.Account)
		if err != nil {
			return nil, err
		}
		a, now, err := current(ctx, id, use)
		if err != nil {
			return nil, err
		}
		verdict = idle.Decide(EffectivePolicy(s, acc.Idle), UseOf(s, a, now))
		if cmd := l.obey(verdict); cmd != nil {
			_, err = l.executeInstance(ctx, u, id, s, cmd)
		}
		return nil, err
	})
	return verdict, err
}

// obey returns the command that a verdict asks for; nil: none.
func (l Log) obey(v idle.Verdict) instance.Command {
	switch v.Do {
	case idle.Warn:
		return instance.Warn{At: l.Now(), StopAt: v.StopAt, Cause: instance.Cause(v.Cause), Why: v.Why}
	case idle.Withdraw:
		return instance.Withdraw{At: l.Now()}
	case idle.Stop:
		return instance.StopBecause{At: l.Now(), Cause: instance.Cause(v.Cause), Why: v.Why, WakeAt: v.WakeAt, Jobs: v.Jobs, NextJob: v.NextJob}
	}
	return nil
}

// StartForJob starts a stopped desktop whose start for a job was planned at a time, and reports whether it did. A suspended
// account's desktop stays stopped, and so does one that was started or stopped again since, or whose policy is now to sleep.
func (l Log) StartForJob(ctx context.Context, id string, planned time.Time) (bool, error) {
	res, err := eventstore.Run(ctx, l.Store, l.stamp(Origin{CorrelationID: id}), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := instances.Load(ctx, u, id)
		if err != nil || s.Status != instance.Stopped || !s.WakeAt.Equal(planned) {
			return nil, err
		}
		acc, err := accounts.Load(ctx, u, s.Account)
		if err != nil || acc.Suspended || EffectivePolicy(s, acc.Idle).Jobs != idle.Wake {
			return nil, err
		}
		now := l.Now()
		due := s.WakeAt.Add(idle.WakeLead)
		why := "A job of the agent's schedule is due at " + idle.Clock(due, now) + " (UTC)."
		if due.Before(now) {
			why = "A job of the agent's schedule was due at " + idle.Clock(due, now) + " (UTC)."
		}
		_, err = l.executeInstance(ctx, u, id, s, instance.StartBecause{At: now, Cause: instance.CauseJob, Why: why})
		return nil, err
	})
	return res.Last > 0, err
}
