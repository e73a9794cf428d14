package provisioner

import (
	"context"
	"errors"
	"fmt"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
)

// notLate returns the observation that replaces an overdue launch's end, or nil. While the control plane was down, or
// before the log was restored from a backup, the machine may have started long ago without the log's knowledge.
func (s *Saga) notLate(ctx context.Context, state instance.State, step provisioning.Step) (instance.Command, error) {
	if step.Why != "launch_timeout" || state.Machine == "" || !inRegion(s.Cloud, state) {
		return nil, nil
	}
	m, err := s.look(ctx, state.Machine)
	if err != nil {
		return nil, err
	}
	switch m.Seen {
	case instance.SeenRunning, instance.SeenStopped, instance.SeenGone:
		return s.Looks.observed(m.ID, m, s.Now()), nil
	}
	restores, err := s.Restores(ctx)
	if err == nil && s.Now().Before(restores.Latest().Add(s.Policy.WithDefaults().LaunchTime)) {
		err = fmt.Errorf("machine %s changes its state shortly after the log was restored; it may have run before, so its launch is not given up yet", state.Machine)
	}
	return nil, err
}

// codeUnknownPast is the code of a termination that waits for an operator.
const codeUnknownPast = "unknown_past"

// mayTerminate refuses to terminate a machine for a launch that was given up, if the machine was launched in a time that
// a restored log has lost: its owner may have worked on it. An operator decides.
func (s *Saga) mayTerminate(ctx context.Context, state instance.State) error {
	if state.Abandoned == nil {
		return nil // its owner requested it
	}
	restores, err := s.Restores(ctx)
	if err != nil || len(restores.Lost) == 0 {
		return err
	}
	m, err := s.look(ctx, state.Machine)
	if err != nil || !restores.Within(m.Launched) {
		return err
	}
	return &machines.CallError{
		Verdict: instance.Again, Code: codeUnknownPast, Reason: "The service was restored from a backup, and its operator must decide about this machine.",
		Err: errors.New("the machine was launched after the backup that the log was restored from; run `cloudbot instances terminate --force` if it is not needed"),
	}
}

// look returns a machine as the cloud reports it; the zero value if the cloud does not list it.
func (s *Saga) look(ctx context.Context, machine string) (machines.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	found, err := s.Cloud.Describe(ctx, []string{machine})
	if err != nil {
		return machines.Machine{}, fmt.Errorf("look at machine %s: %w", machine, err)
	}
	for _, m := range found {
		if m.ID == machine {
			return m, nil
		}
	}
	return machines.Machine{}, nil
}

// superseded terminates a machine whose launch was superseded. It does nothing if the log has no such attempt: then the
// log was replaced by an older one, and the machine is a stranger.
func (s *Saga) superseded(ctx context.Context, id string, l instance.Launched) error {
	state, err := s.Instance(ctx, id)
	if err != nil || l.Attempt > state.Attempts {
		return err
	}
	return s.discard(ctx, l.Machine)
}
