package provisioner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// freeze returns the command that records the request of the next launch attempt. The cloud is not called yet.
func (s *Saga) freeze(id string, state instance.State) (instance.Command, error) {
	n := state.Attempts + 1
	spec, err := s.Cloud.Freeze(machines.LaunchPlan{
		Instance: id, Account: state.Account, Attempt: n, Type: state.Type,
		ClientToken: machines.ClientToken(id, n), Refused: state.Code, Last: state.Spec,
	})
	var refused *machines.CallError
	if errors.As(err, &refused) && refused.Verdict == instance.Never {
		s.Logger.Error("launch given up, its request cannot be made", "instance", id, "err", err)
		return instance.Abandon{Code: refused.Code, Reason: refused.Reason}, nil
	}
	if err != nil {
		return nil, err
	}
	spec.TokenKey = s.Tokens.CurrentKey()
	return instance.Attempt{At: s.Now(), Spec: spec, Number: n}, nil
}

// launch makes the machine of the open attempt, with its enrolment token in the user-data.
func (s *Saga) launch(ctx context.Context, id string, state instance.State) (machine string, err error) {
	token, err := s.Tokens.Token(id, state.Attempts, state.Spec.TokenKey)
	if err != nil {
		return "", err
	}
	return s.Cloud.Launch(ctx, state.Spec, strings.ReplaceAll(state.Spec.UserData, machines.TokenPlaceholder, token))
}

// cancelled ends an attempt that is no longer wanted. This saga made all of its calls, if any, and each was definitely
// refused. So no machine was made, and none has to be launched only to be terminated.
func cancelled(state instance.State, now time.Time) instance.Command {
	return instance.Refuse{
		Call: instance.CallLaunch, Attempt: state.Attempts, Verdict: instance.Never, At: now,
		Code: instance.CodeCancelled, Reason: "The launch was cancelled before a machine was made.",
	}
}

// discard terminates a machine whose launch was superseded, because another saga launched one or gave up meanwhile.
// No instance knows the machine, so nothing else would terminate it.
func (s *Saga) discard(ctx context.Context, machine string) (err error) {
	s.Logger.WarnContext(ctx, "launch superseded, terminating its machine", "machine", machine)
	for try := range s.Policy.WithDefaults().Tries {
		if err = s.terminate(ctx, machine); err == nil {
			return nil
		}
		if err := retry.Sleep(ctx, s.backOff(try)); err != nil {
			return err
		}
	}
	return fmt.Errorf("terminate superseded machine %s: %w", machine, err)
}

func (s *Saga) terminate(ctx context.Context, machine string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.Cloud.Terminate(ctx, machine)
}

func abandonReason(why string, state instance.State) string {
	switch why {
	case "launch_timeout":
		return "The machine did not start in time and was terminated. Try again."
	case "no_capacity":
		return fmt.Sprintf("No machine was available after %d attempts. The last answer was: %s", state.Attempts, final(state.Refusal))
	}
	return fmt.Sprintf("The launch was refused %d times in a row. The last answer was: %s", state.Tries, final(state.Refusal))
}
