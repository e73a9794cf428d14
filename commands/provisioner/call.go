package provisioner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
)

// callTimeout bounds one call to the cloud. After it the outcome is unknown; repeating the call finds it out.
const callTimeout = time.Minute

// call makes one call to the cloud and returns the command that records its outcome.
func (s *Saga) call(ctx context.Context, id string, state instance.State, step provisioning.Step) (instance.Command, error) {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s.at("call", step, "before")
	machine, err := s.send(callCtx, id, state, step.Call)
	s.at("call", step, "after")
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		s.Logger.WarnContext(ctx, "cloud call failed", "instance", id, "call", step.Call, "try", state.Tries+1, "err", err)
		return s.refusal(state, step.Call, err), nil
	case step.Call == instance.CallLaunch:
		return instance.Launched{Attempt: state.Attempts, Machine: machine, At: s.Now()}, nil
	}
	return instance.Accept{Call: step.Call, At: s.Now()}, nil
}

func (s *Saga) send(ctx context.Context, id string, state instance.State, call instance.Call) (machine string, err error) {
	if !inRegion(s.Cloud, state) {
		// This region does not know the machine. Without this check the one in the other region would be forgotten.
		return "", &machines.CallError{
			Verdict: instance.Again, Code: "other_region", Reason: "The service's cloud configuration is wrong; the operator must correct it.",
			Err: fmt.Errorf("launched in region %s, but this server is in %s", state.Spec.Region, s.Cloud.Region()),
		}
	}
	switch call {
	case instance.CallLaunch:
		return s.launch(ctx, id, state)
	case instance.CallStart:
		return "", s.Cloud.Start(ctx, state.Machine)
	case instance.CallStop:
		return "", s.Cloud.Stop(ctx, state.Machine)
	}
	if err := s.mayTerminate(ctx, state); err != nil {
		return "", err
	}
	return "", s.Cloud.Terminate(ctx, state.Machine)
}

// inRegion reports whether the instance was launched in the cloud's region.
func inRegion(c machines.Cloud, state instance.State) bool {
	return state.Spec.Region == "" || state.Spec.Region == c.Region()
}

func (s *Saga) refusal(state instance.State, call instance.Call, err error) instance.Refuse {
	refused := &machines.CallError{Verdict: instance.Again, Code: "no_answer", Reason: "The cloud did not answer; retrying.", Unsure: true}
	errors.As(err, &refused)
	verdict, reason, wait := refused.Verdict, refused.Reason, s.backOff(state.Tries)
	if state.Tries >= lastingAfter { // days of refusals must not fill the log
		wait = s.jittered(10 * time.Minute)
	}
	switch {
	case verdict != instance.Again && (call == instance.CallStop || call == instance.CallTerminate):
		// Giving up here would forget a machine that costs money.
		verdict, wait = instance.Again, max(wait, time.Minute)
	case call == instance.CallStart && verdict != instance.Never:
		// A machine that exists cannot start elsewhere, and its owner can try later.
		verdict = instance.Again
		if tries := state.Tries + 1; tries >= s.Policy.WithDefaults().Tries {
			verdict = instance.Never
			reason = fmt.Sprintf("The start was refused %d times in a row. The last answer was: %s", tries, final(reason))
		}
	case verdict == instance.Another:
		wait = min(wait, time.Second)
	}
	return instance.Refuse{
		Call: call, Attempt: attemptOf(call, state), Verdict: verdict,
		Code: refused.Code, Reason: reason, RetryAt: s.Now().Add(max(wait, refused.RetryAfter)), At: s.Now(), Unsure: refused.Unsure,
	}
}

// final returns the reason of a call that is given up. It was written for a call that is retried.
func final(reason string) string {
	if what, retried := strings.CutSuffix(reason, "; retrying."); retried {
		return what + "."
	}
	return reason
}

// lastingAfter is how many refusals in a row, about twenty minutes of them, count as a lasting refusal.
const lastingAfter = 25

func attemptOf(call instance.Call, state instance.State) int {
	if call == instance.CallLaunch {
		return state.Attempts
	}
	return 0
}

// backOff returns 0.5 s, 1 s, 2 s … up to a minute, each ± half.
func (s *Saga) backOff(tries int) time.Duration {
	return s.jittered(min(500*time.Millisecond<<min(tries, 10), time.Minute))
}

func (s *Saga) jittered(d time.Duration) time.Duration {
	if s.Jitter != nil {
		return d/2 + s.Jitter(d)
	}
	return d/2 + rand.N(d)
}
