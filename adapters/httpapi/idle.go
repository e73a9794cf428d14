package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/internal/access"
	"github.com/cloudbot-ai/control-plane/projections"
)

// idleView is when an instance stops by itself, and why.
type idleView struct {
	Policy        idle.Policy  `json:"policy"`
	OwnPolicy     bool         `json:"own_policy"`
	State         idle.State   `json:"state"`
	LastUsedAt    *time.Time   `json:"last_used_at"`
	LastAgentAt   *time.Time   `json:"last_agent_at"`
	WarnAt        *time.Time   `json:"warn_at"`
	StopAt        *time.Time   `json:"stop_at"`
	Cause         *idle.Cause  `json:"cause"`
	Warning       *warningView `json:"warning"`
	ExtendedUntil *time.Time   `json:"extended_until"`
	NextJobAt     *time.Time   `json:"next_job_at"`
	WakeAt        *time.Time   `json:"wake_at"`
	StoppedWhy    *string      `json:"stopped_why"`
}

type warningView struct {
	StopAt time.Time      `json:"stop_at"`
	Cause  instance.Cause `json:"cause"`
	Why    string         `json:"why"`
}

// idles returns when a list's instances stop by themselves; nothing if their account's policy or their use could not be read.
func (s *Server) idles(ctx context.Context, of seen, l projections.Listed) []idleView {
	if len(l.Instances) == 0 {
		return nil
	}
	if l.PolicyErr != nil {
		s.cfg.Logger.WarnContext(ctx, "idle stops not shown, reading the account's policy failed", "err", l.PolicyErr)
		return nil
	}
	known, now, err := of.used(ctx)
	if err != nil {
		s.cfg.Logger.WarnContext(ctx, "idle stops not shown, reading the desktops' use failed", "err", err)
		return nil
	}
	views := make([]idleView, len(l.Instances))
	for n := range l.Instances {
		i := &l.Instances[n]
		views[n] = viewIdle(i, l.Policy, known[i.ID], now)
	}
	return views
}

// viewIdle returns when an instance stops by itself. now is by the clock of its activity.
func viewIdle(i *projections.Instance, ofAccount *idle.Policy, a commands.Activity, now time.Time) idleView {
	state := i.Idle.State
	state.Type, state.Region = cmp.Or(state.Type, i.Type), i.Region
	policy := commands.EffectivePolicy(state, ofAccount)
	next := idle.Decide(policy, commands.UseOf(state, a, now))
	v := idleView{
		Policy: policy, OwnPolicy: state.Idle != nil, State: next.State, WarnAt: orNever(next.WarnAt), StopAt: orNever(next.StopAt),
		LastUsedAt: latest(now, a.Input, a.Chat, a.Shell), LastAgentAt: latest(now, a.Agent, a.Question),
	}
	if next.Cause != "" {
		v.Cause = &next.Cause
	}
	switch state.Status {
	case instance.Running:
		if w := state.Warned; w != nil {
			v.Warning = &warningView{w.StopAt.UTC(), w.Cause, w.Why}
		}
		if state.Extended.After(now) {
			v.ExtendedUntil = orNever(state.Extended)
		}
		if a.NextJob.After(now) {
			v.NextJobAt = orNever(a.NextJob)
		}
	case instance.Stopping, instance.Stopped:
		if i.Idle.NextJob.After(now) {
			v.NextJobAt = orNever(i.Idle.NextJob)
		}
		if v.StoppedWhy = orNull(i.Idle.Why); policy.Jobs == idle.Wake { // it may have been set since
			v.WakeAt = orNever(state.WakeAt)
		}
	}
	return v
}

// latest returns the latest of some times that have come, null for none.
func latest(now time.Time, times ...time.Time) *time.Time {
	var last time.Time
	for _, t := range times {
		if t.After(last) && !t.After(now) {
			last = t
		}
	}
	return orNever(last)
}

func orNever(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// readPolicy reads a body with a policy; nil: it is null.
func readPolicy(c echo.Context) (*idle.Policy, error) {
	var p idle.Policy
	var keep, jobs string
	none := false
	err := readBody(c, field{name: "policy", null: &none, object: []field{
		{name: "after_s", number: &p.After}, {name: "warn_s", number: &p.Warn}, {name: "ceiling_s", number: &p.Ceiling},
		{name: "keep_until", into: &keep, optional: true}, {name: "jobs", into: &jobs},
	}})
	if err != nil || none {
		return nil, err
	}
	if keep != "" {
		at, err := time.Parse(time.RFC3339, keep)
		if err != nil || at.UTC().Year() < 1 { // JSON has no years before
			return nil, &refusal{status: http.StatusUnprocessableEntity, code: "invalid_idle_policy", field: "keep_until", detail: "The time must be as in 2026-11-28T18:00:00Z."}
		}
		p.KeepUntil = at.UTC()
	}
	p.Jobs = idle.Jobs(jobs)
	return &p, nil
}

// setInstancePolicy sets or removes an instance's own policy.
func (s *Server) setInstancePolicy(c echo.Context, who access.Claims) error {
	if !isULID(c.Param("id")) {
		return instance.ErrNotFound
	}
	p, err := readPolicy(c)
	if err != nil {
		return err
	}
	out, err := s.change(c, who, func(ctx context.Context, o commands.Origin, id string) (commands.Outcome[commands.Changed], error) {
		return s.cfg.Idle.SetPolicy(ctx, o, id, p)
	})
	if err != nil {
		return err
	}
	return s.changed(c, who, out, func(i *projections.Instance) { i.Idle.State.Idle = p })
}

// longestExtension is the greatest number of minutes of one request to extend.
const longestExtension = int64(instance.LongestExtension / time.Minute)

// extend keeps an instance from stopping by itself for some time.
func (s *Server) extend(c echo.Context, who access.Claims) error {
	if !isULID(c.Param("id")) {
		return instance.ErrNotFound
	}
	var minutes int64
	if err := readBody(c, field{name: "minutes", number: &minutes}); err != nil {
		return err
	}
	if minutes < 1 || minutes > longestExtension {
		return &refusal{status: http.StatusUnprocessableEntity, code: "invalid_extension", field: "minutes", detail: "A desktop can be kept running for 1 to 1440 minutes at a time."}
	}
	extension := time.Duration(minutes) * time.Minute
	out, err := s.change(c, who, func(ctx context.Context, o commands.Origin, id string) (commands.Outcome[commands.Changed], error) {
		return s.cfg.Idle.Extend(ctx, o, id, extension)
	})
	if err != nil {
		return err
	}
	return s.changed(c, who, out, func(i *projections.Instance) {
		i.Idle.State.Warned, i.Idle.State.Extended = nil, s.cfg.Now().Add(extension)
	})
}

type accountPolicyView struct {
	Policy   idle.Policy `json:"policy"`
	Own      bool        `json:"own_policy"`
	Shortest int64       `json:"shortest_s"`
}

func (s *Server) accountPolicy(c echo.Context, who access.Claims) error {
	own, err := s.cfg.Idle.AccountPolicy(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return s.showPolicy(c, own)
}

func (s *Server) showPolicy(c echo.Context, own *idle.Policy) error {
	kind := ""
	if s.cfg.Instances.Cloud.Region() == machines.Local {
		kind = machines.Local
	}
	return c.JSON(http.StatusOK, accountPolicyView{
		Policy: commands.EffectivePolicy(instance.State{Type: kind}, own), Own: own != nil, Shortest: int64(s.cfg.Idle.Shortest / time.Second),
	})
}

// setAccountPolicy sets or removes the policy of the account's instances that have none of their own.
func (s *Server) setAccountPolicy(c echo.Context, who access.Claims) error {
	p, err := readPolicy(c)
	if err != nil {
		return err
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	out, err := s.cfg.Idle.SetAccountPolicy(c.Request().Context(), o, p)
	if err != nil {
		return err
	}
	s.accepted(c, out.Position, out.Replayed)
	return s.showPolicy(c, out.Answer.Policy)
}
