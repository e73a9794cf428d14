package provisioner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/provisioning"
)

// observe records what the cloud reports about the machines, and returns the instances that changed. An error means
// that the cloud did not answer, or that the log could not be read or written.
func (s *Saga) observe(ctx context.Context, targets []target) (changed []string, err error) {
	ids := make([]string, len(targets))
	for i, t := range targets {
		ids[i] = t.machine
	}
	looked := s.Now()
	present, err := s.Cloud.Describe(ctx, ids)
	if err != nil {
		return nil, err
	}
	known := make(map[string]machines.Machine, len(present))
	for _, m := range present {
		known[m.ID] = m
	}
	var failed error
	defer func() {
		if err := s.Looks.save(ctx, s.Now()); err != nil && ctx.Err() == nil {
			s.Logger.WarnContext(ctx, "keeping the looks failed, will retry", "err", err)
		}
	}()
	apply := func(t target, m machines.Machine) {
		res, err := s.ExecuteInstance(ctx, t.instance, s.Looks.observed(t.machine, m, s.Now()))
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("record the state of instance %s: %w", t.instance, err))
			return // one unreadable instance must not block the others
		}
		s.Looks.note(t.machine, m.Seen, looked)
		if res.Last > 0 {
			changed = append(changed, t.instance)
		}
	}
	var missing []target
	for _, t := range targets {
		if m, ok := known[t.machine]; ok {
			apply(t, m)
		} else if s.Now().Sub(t.launched) >= instance.MissingGrace {
			missing = append(missing, t)
		}
	}
	if tooManyMissing(len(missing), len(targets)) {
		s.Logger.WarnContext(ctx, "most machines missing: are the account and region right? If they really are gone, run `cloudbot reconcile --believe-missing`",
			"missing", len(missing), "asked", len(targets))
		return changed, failed
	}
	for _, t := range missing {
		seen, why := judgeMissing(ctx, s.Connected, t.instance)
		if why != nil {
			s.Logger.WarnContext(ctx, "machine missing", "instance", t.instance, "machine", t.machine, "doubt", why)
		}
		if seen != "" {
			apply(t, machines.Machine{Seen: seen})
		}
	}
	return changed, failed
}

var errConnected = errors.New("its guest is connected, so the machine exists: are the account and region right?")

// judgeMissing returns what to record of a machine that the cloud does not list. It is missing, unless its guest is
// connected: then it exists, and the error says why. If that cannot be found out, it returns "" and the error.
func judgeMissing(ctx context.Context, connected func(context.Context, string) (bool, error), id string) (instance.Seen, error) {
	if connected == nil {
		return instance.SeenMissing, nil
	}
	switch is, err := connected(ctx, id); {
	case err != nil:
		return "", err
	case is:
		return instance.SeenPending, errConnected // it ends the time that the machine was missing, and changes nothing else
	}
	return instance.SeenMissing, nil
}

// tooManyMissing reports whether so many machines are missing that only an operator may confirm it. A wrong account or
// region looks the same, and each of the machines would be forgotten.
func tooManyMissing(missing, asked int) bool { return missing >= 5 && 2*missing > asked }

// target is a machine to check.
type target struct {
	instance string
	machine  string
	launched time.Time
}

// changing reports whether the cloud should soon report another state of the machine.
func changing(s instance.State, step provisioning.Step) bool {
	return s.Machine != "" && step.Do == provisioning.Watch && s.Status != instance.Stopped &&
		(s.Status != instance.Running || !s.Running)
}
