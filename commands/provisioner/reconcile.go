package provisioner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/restore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Reconciler compares the cloud's machines with the log, and corrects the differences. It covers what the saga cannot
// see: a launch that took effect after its attempt was given up, or a machine whose launch call got no answer.
//
// It lists the cloud first and reads the log second, so the log already has the attempt of every machine on the list.
// It never touches a machine that the log does not know.
type Reconciler struct {
	commands.Log
	Cloud machines.Inventory
	// Live returns the ids of the instances that are not final.
	Live func(ctx context.Context) (ids []string, position int64, err error)
	// Connected is as in Saga. Nil: a missing machine is only reported, unless BelieveMissing is set.
	Connected func(ctx context.Context, instance string) (bool, error)
	Looks     *Looks // of the saga of this process; nil: its own
	Logger    *slog.Logger

	Every          time.Duration // between two checks of Run [5 min]
	Grace          time.Duration // a machine younger than this is not terminated [2 min]
	DryRun         bool          // only report
	BelieveMissing bool          // an operator confirms that machines the cloud does not list are gone, however many
	ForgetRegion   string        // an operator confirms that the machines of this other region are gone
}

// Run reconciles periodically until ctx ends.
func (r *Reconciler) Run(ctx context.Context) error {
	if r.Looks == nil {
		r.Looks = &Looks{}
	}
	r.Looks.recall(ctx, r.Logger) // the saga may not have done so yet, and the first comparison saves
	for {
		report, err := r.Reconcile(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.Logger.WarnContext(ctx, "reconciliation failed, will retry", "err", err)
		default:
			for _, f := range report.Findings {
				r.Logger.WarnContext(ctx, "difference between cloud and log found", "kind", f.Kind, "machine", f.Machine, "instance", f.Instance, "why", f.Why, "done", f.Done, "err", f.Error)
			}
		}
		if retry.Sleep(ctx, cmp.Or(r.Every, 5*time.Minute)) != nil {
			return nil
		}
	}
}

// Reconcile compares once. A finding that could not be corrected has its error; the next comparison finds it again.
func (r *Reconciler) Reconcile(ctx context.Context) (Report, error) {
	if r.Looks == nil {
		r.Looks = &Looks{}
	}
	report := Report{At: r.Now(), DryRun: r.DryRun, Findings: []Finding{}}
	listed, err := r.Cloud.List(ctx)
	if err != nil {
		return report, fmt.Errorf("list the cloud: %w", err)
	}
	slices.SortFunc(listed, func(a, b machines.Tagged) int { return cmp.Compare(a.ID, b.ID) })
	report.Machines = len(listed)
	restores, err := r.Restores(ctx)
	if err != nil {
		return report, fmt.Errorf("read the log's restores: %w", err)
	}
	seen := map[string]bool{}
	for _, m := range listed {
		seen[m.ID] = true
		if err := r.machine(ctx, &report, m, restores); err != nil {
			return report, err
		}
	}
	return report, errors.Join(r.missing(ctx, &report, seen), r.Looks.save(ctx, r.Now()))
}

// machine compares one machine with the log.
func (r *Reconciler) machine(ctx context.Context, report *Report, m machines.Tagged, restores restore.State) error {
	f := Finding{Machine: m.ID, Instance: m.Instance, Account: m.Account, Attempt: m.Attempt, State: m.Seen}
	if !m.Launched.IsZero() {
		f.Age = max(0, report.At.Sub(m.Launched)).Round(time.Second)
	}
	stranger := func(why string) error {
		f.Kind, f.Why = Stranger, why
		return report.add(f, m.Seen != instance.SeenGone, nil)
	}
	switch {
	case m.Instance == "" || m.Attempt == 0:
		return stranger("it has the tag of this environment, but no tag that names its instance")
	case m.Token != machines.ClientToken(m.Instance, m.Attempt):
		return stranger("its tags are right, but the control plane did not launch it; is it a copy of another machine?")
	}
	s, err := r.Instance(ctx, m.Instance)
	if err != nil {
		return report.unreadable(f, err)
	}
	f.Status = s.Status
	switch {
	case !s.Exists() || m.Attempt > s.Attempts && !s.Forced:
		return stranger("the log has no record of its launch; was the log restored from a backup?")
	case s.Machine == m.ID:
		return r.drift(ctx, report, f, s, m)
	case s.Open && m.Attempt == s.Attempts:
		f.Kind, f.Why = Adopt, "its launch call got no answer"
		return report.add(f, true, r.unless(func() error {
			_, err := r.ExecuteInstance(ctx, m.Instance, instance.Launched{Attempt: m.Attempt, Machine: m.ID, At: r.Now()})
			return err
		}))
	case m.Seen == instance.SeenGone:
		return nil
	case s.Lost == m.ID:
		f.Kind, f.Why = Returned, "its instance was given up while the cloud did not list it; the owner's files may still be on it"
		return report.add(f, true, nil)
	case restores.Within(m.Launched):
		return stranger("it was launched after the backup that the log was restored from; the log says that its instance has ended or has another machine, and may have lost why it exists")
	case f.Age < cmp.Or(r.Grace, 2*time.Minute):
		f.Kind, f.Why = Young, "it does not belong to its instance, but is too young to terminate"
		return report.add(f, true, nil)
	}
	f.Kind, f.Why = Terminate, "its launch was given up, and the instance has another machine"
	if s.Final() {
		f.Why = "its instance has ended"
	} else if s.Machine == "" {
		f.Why = "its launch was given up"
	}
	return report.add(f, true, r.unless(func() error { return r.Cloud.Terminate(ctx, m.ID) }))
}

// drift records the machine's state in its instance if the two differ.
func (r *Reconciler) drift(ctx context.Context, report *Report, f Finding, s instance.State, m machines.Tagged) error {
	seen := r.Looks.observed(m.ID, m.Machine, r.Now())
	events, err := instance.Decide(s, seen)
	if err != nil || len(events) == 0 {
		if err == nil {
			r.Looks.note(m.ID, m.Seen, report.At)
		}
		return err
	}
	f.Kind, f.Why = Repair, fmt.Sprintf("the log says %s, the cloud says %s", s.Status, m.Seen)
	switch {
	case !s.Missed.IsZero():
		f.Why = "the cloud lists it again"
	case m.Seen == instance.SeenRunning && s.Running:
		f.Why = "its address has changed"
		if _, began := events[0].(instance.MachineRunning); began {
			f.Why = "it was stopped and started again"
		}
	}
	return report.add(f, true, r.unless(func() error {
		_, err := r.ExecuteInstance(ctx, m.Instance, seen)
		if err == nil {
			r.Looks.note(m.ID, m.Seen, report.At)
		}
		return err
	}))
}

// missing handles the machines of the log that are not on the list. Their tags may have been removed, so it asks the
// cloud again, by id.
func (r *Reconciler) missing(ctx context.Context, report *Report, listed map[string]bool) error {
	ids, _, err := r.Live(ctx)
	if err != nil {
		return fmt.Errorf("list the instances: %w", err)
	}
	var lost []string
	states := map[string]instance.State{}
	owners := map[string]string{}
	for _, id := range ids {
		s, err := r.Instance(ctx, id)
		if err != nil {
			if err := report.unreadable(Finding{Instance: id}, err); err != nil {
				return err
			}
			continue
		}
		if s.Final() {
			continue
		}
		report.Instances++
		switch {
		case s.Machine == "" || listed[s.Machine]:
		case !inRegion(r.Cloud, s):
			if err := r.elsewhere(ctx, report, id, s); err != nil {
				return err
			}
		default:
			lost = append(lost, s.Machine)
			owners[s.Machine], states[s.Machine] = id, s
		}
	}
	if len(lost) == 0 {
		return nil
	}
	found, err := r.Cloud.Describe(ctx, lost)
	if err != nil {
		return fmt.Errorf("describe machines missing from the list: %w", err)
	}
	for _, m := range found {
		s := states[m.ID]
		delete(states, m.ID)
		f := Finding{Machine: m.ID, Instance: owners[m.ID], Status: s.Status, State: m.Seen}
		if err := r.drift(ctx, report, f, s, machines.Tagged{Machine: m, Instance: owners[m.ID]}); err != nil {
			return err
		}
	}
	tooMany := tooManyMissing(len(states), len(listed)+len(lost)) && !r.BelieveMissing
	for _, id := range lost {
		if s, still := states[id]; still {
			if err := r.unknown(ctx, report, owners[id], s, tooMany); err != nil {
				return err
			}
		}
	}
	return nil
}

// unknown records that the cloud does not list an instance's machine. With tooMany it only reports that.
func (r *Reconciler) unknown(ctx context.Context, report *Report, owner string, s instance.State, tooMany bool) error {
	if report.At.Sub(s.LaunchedAt) < instance.MissingGrace {
		return nil
	}
	f := Finding{Kind: Missing, Machine: s.Machine, Instance: owner, Status: s.Status, State: instance.SeenMissing}
	observed := r.Looks.observed(s.Machine, machines.Machine{Seen: instance.SeenMissing}, r.Now())
	observed.Sure = r.BelieveMissing
	events, err := instance.Decide(s, observed)
	if err != nil {
		return err
	}
	do := r.unless(func() error { _, err := r.ExecuteInstance(ctx, owner, observed); return err })
	seenAs, doubt := judgeMissing(ctx, r.Connected, owner)
	switch {
	case seenAs == instance.SeenPending && !s.Missed.IsZero():
		f.Why = "the cloud does not list it; " + doubt.Error()
		observed.Seen = seenAs
	case doubt != nil:
		f.Why, do = "the cloud does not list it; "+doubt.Error(), nil
	case r.Connected == nil && !r.BelieveMissing:
		f.Why, do = "the cloud does not list it; a running server checks whether its guest is connected, and --believe-missing skips that check", nil
	case tooMany:
		f.Why, do = "the cloud does not list most of the machines: are the account and region right?", nil
	case len(events) > 1: // the machine is given up
		f.Why = "the cloud does not list it"
	case len(events) == 1:
		f.Why = fmt.Sprintf("the cloud does not list it; it is given up after %v without interruption, or with --believe-missing", instance.MissingFor)
	default:
		f.Why, do = fmt.Sprintf("the cloud has not listed it since %s; it is given up after %v without interruption, or with --believe-missing", s.Missed.UTC().Format(time.RFC3339), instance.MissingFor), nil
	}
	return report.add(f, true, do)
}

// elsewhere reports a machine in a region that this server is no longer in. Nothing manages that machine.
func (r *Reconciler) elsewhere(ctx context.Context, report *Report, owner string, s instance.State) error {
	f := Finding{Kind: Elsewhere, Machine: s.Machine, Instance: owner, Attempt: s.Attempts, State: instance.SeenMissing, Status: s.Status}
	f.Why = fmt.Sprintf("it was launched in %s, and this server is in %s: run a server there, or terminate the machine by hand and use --forget-region %s", s.Spec.Region, r.Cloud.Region(), s.Spec.Region)
	if r.ForgetRegion != s.Spec.Region {
		return report.add(f, true, nil)
	}
	observed := instance.Observe{Machine: s.Machine, Seen: instance.SeenMissing, At: r.Now(), Sure: true}
	return report.add(f, true, r.unless(func() error { _, err := r.ExecuteInstance(ctx, owner, observed); return err }))
}

// unless returns do, or nil in a dry run.
func (r *Reconciler) unless(do func() error) func() error {
	if r.DryRun {
		return nil
	}
	return do
}
