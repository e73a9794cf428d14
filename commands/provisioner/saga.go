// Package provisioner launches, starts, stops and terminates machines. The saga makes the calls to the cloud that
// provisioning.Next asks for. The reconciler compares the cloud's machines with the log.
package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/crash"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Feed delivers every event with a position above after, in order and in batches, until ctx ends or fn returns an
// error.
type Feed interface {
	Follow(ctx context.Context, after int64, fn func(ctx context.Context, events []eventstore.Event) error) error
}

// Saga carries out what provisioning.Next asks for. It makes the calls to the cloud, and records their outcomes and
// the cloud's reports in the instances' streams.
//
// It stores nothing. Its timers follow from the events, so a new saga continues where the log ends. One saga should
// run at a time. A second one, or one whose process was paused, does no harm: the streams' versions refuse
// its writes.
type Saga struct {
	commands.Log
	Cloud  machines.Cloud
	Tokens machines.Enrolment
	Policy provisioning.Policy
	// Live returns the ids of the instances that are not final, and the log position of that list.
	Live func(ctx context.Context) (ids []string, position int64, err error)
	Feed Feed
	// Connected reports whether an instance's guest is connected. If it is, its machine exists, whatever the cloud
	// says. Nil: never known.
	Connected func(ctx context.Context, instance string) (bool, error)
	Looks     *Looks // nil: its own
	Logger    *slog.Logger

	PollEvery  time.Duration // between checks of machines that should be changing [1 s]
	SweepEvery time.Duration // between checks of all machines [1 min]
	Workers    int           // instances advanced at the same time [8]
	// Jitter returns a duration below its argument. Nil: a random one.
	Jitter func(time.Duration) time.Duration
	// At, if set, is called before and after every effect outside the log. Tests crash the saga there.
	At func(point string)
}

// Run runs the saga until ctx ends or the feed fails.
func (s *Saga) Run(ctx context.Context) error {
	err := s.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (s *Saga) run(ctx context.Context) error {
	ids, position, err := s.Live(ctx)
	if err != nil {
		return err
	}
	if s.Looks == nil {
		s.Looks = &Looks{}
	}
	s.Looks.recall(ctx, s.Logger)
	schedule := newSchedule(s)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(crash.Guard(func() error { return schedule.run(ctx, ids) }))
	g.Go(crash.Guard(func() error {
		return s.Feed.Follow(ctx, position, func(ctx context.Context, events []eventstore.Event) error {
			for _, e := range events {
				if e.Stream.Aggregate != instance.Codec.Aggregate() {
					continue
				}
				if err := schedule.wake(ctx, e.Stream.ID); err != nil {
					return err
				}
			}
			return nil
		})
	}))
	for range cmp.Or(s.Workers, 8) {
		g.Go(crash.Guard(func() error { return schedule.work(ctx) }))
	}
	return g.Wait()
}

// maxSteps bounds the steps taken for one instance in a row.
const maxSteps = 20

// advance takes the steps that are due for an instance, and returns the first one that is not due yet.
//
// own holds, by instance, the attempt that this run of the saga began or resumed. For any other open attempt, another
// saga's call may still be under way. Such an attempt is marked unsure in the log before the launch call is repeated.
func (s *Saga) advance(ctx context.Context, id string, own *sync.Map) (instance.State, provisioning.Step, error) {
	for range maxSteps {
		state, err := s.Instance(ctx, id)
		if err != nil {
			return state, provisioning.Step{}, err
		}
		now := s.Now()
		step := provisioning.Next(state, s.Policy, now)
		if step.Do == provisioning.Nothing || step.Do == provisioning.Watch || step.At.After(now) {
			return state, step, nil
		}
		var cmd instance.Command
		switch called, _ := own.Load(id); {
		case step.Call == instance.CallLaunch && called != state.Attempts:
			cmd = instance.Resume{Attempt: state.Attempts, At: now}
		case step.Call == instance.CallLaunch && state.Status == instance.Terminating && state.Unsure.IsZero():
			cmd = cancelled(state, now)
		default:
			cmd, err = s.execute(ctx, id, state, step)
		}
		if err != nil {
			return state, step, fmt.Errorf("%s %s of instance %s: %w", step.Do, step.Call, id, err)
		}
		if ctx.Err() != nil {
			return state, step, ctx.Err() // the lease is lost: the next saga finds out the outcome
		}
		s.at("append", step, "before")
		res, err := s.ExecuteInstance(ctx, id, cmd)
		if err != nil {
			own.Delete(id) // the outcome of a call may be recorded nowhere
			if l, ok := cmd.(instance.Launched); ok && errors.Is(err, instance.ErrSuperseded) {
				err = errors.Join(err, s.superseded(ctx, id, l))
			}
			return state, step, fmt.Errorf("record %s %s of instance %s: %w", step.Do, step.Call, id, err)
		}
		s.at("append", step, "after")
		switch c := cmd.(type) {
		case instance.Attempt:
			if res.Last > 0 {
				own.Store(id, c.Number)
			}
		case instance.Resume:
			own.Store(id, c.Attempt)
		}
	}
	return instance.State{}, provisioning.Step{}, fmt.Errorf("advance instance %s: still not finished after %d steps", id, maxSteps)
}

// execute carries out the step outside the log, and returns the command that records its outcome.
func (s *Saga) execute(ctx context.Context, id string, state instance.State, step provisioning.Step) (instance.Command, error) {
	switch step.Do {
	case provisioning.Attempt:
		return s.freeze(id, state)
	case provisioning.Call:
		return s.call(ctx, id, state, step)
	case provisioning.Abandon:
		if seen, err := s.notLate(ctx, state, step); seen != nil || err != nil {
			return seen, err
		}
		return instance.Abandon{Code: step.Why, Reason: abandonReason(step.Why, state)}, nil
	case provisioning.Stall:
		return instance.Stall{Reason: fmt.Sprintf("The machine is running, but its %q phase is taking longer than expected. Still trying. Check the log, or stop and start the desktop.", state.Phase)}, nil
	case provisioning.Conclude:
		return instance.Conclude{}, nil
	}
	return nil, fmt.Errorf("unknown step")
}

func (s *Saga) at(what string, step provisioning.Step, when string) {
	if s.At != nil {
		point := what + "." + string(step.Do)
		if step.Call != "" {
			point += "." + string(step.Call)
		}
		s.At(point + "." + when)
	}
}
