package httpapi

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/projections"
)

// instanceView is an instance as the API shows it; a field without a value yet is null.
type instanceView struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Status       instance.Status   `json:"status"`
	Phase        instance.Phase    `json:"phase"`
	PhaseDetail  *string           `json:"phase_detail"`
	PhaseSince   time.Time         `json:"phase_since"`
	Progress     int               `json:"progress"`
	Ready        bool              `json:"ready"`
	StatusReason *string           `json:"status_reason"`
	Type         string            `json:"instance_type"`
	Region       string            `json:"region"`
	PublicIP     *string           `json:"public_ip"`
	Machine      *string           `json:"ec2_instance_id"`
	VNCPort      int               `json:"vnc_port"`
	CloudbotPort int               `json:"cloudbot_port"`
	CreatedAt    time.Time         `json:"created_at"`
	UpdatedAt    time.Time         `json:"updated_at"`
	Versions     map[string]string `json:"versions"`
	AgentState   *agentState       `json:"agent_state"`
	Cost         *costView         `json:"cost"` // null if it is not known
	Idle         *idleView         `json:"idle"` // null if it is not known
}

// agentState is what an agent needs from its user, what it does, and who sees the screen.
type agentState struct {
	Approvals int        `json:"approvals"`
	Questions int        `json:"questions"`
	Until     *time.Time `json:"until"`
	Held      bool       `json:"held"`
	Runs      int        `json:"runs"`
	Viewers   int        `json:"viewers"`
}

// shownState returns null for the zero State: the agent needs and does nothing and at most one viewer is there, or that is not known.
func shownState(now wire.State) *agentState {
	if now == (wire.State{}) {
		return nil
	}
	v := &agentState{Approvals: now.Approvals, Questions: now.Questions, Held: now.Held, Runs: now.Runs, Viewers: now.Viewers}
	if !now.Until.IsZero() {
		v.Until = &now.Until
	}
	return v
}

// Ports on the machine's loopback. Only the bridges reach them, never a client from outside.
const (
	vncPort   = 5900
	agentPort = 18789
)

// localAddress is the public_ip of a running local desktop, which has no other address. The original's clients show
// only desktops that have one.
const localAddress = "127.0.0.1"

func view(i projections.Instance) instanceView {
	if i.Versions == nil {
		i.Versions = map[string]string{}
	}
	if i.Region == machines.Local {
		i.Type = machines.Local // older local desktops have the name of an EC2 type, which says nothing about them
		if i.Status == instance.Running {
			i.Address = localAddress
		}
	}
	return instanceView{
		ID: i.ID, Name: i.Name, Status: i.Status,
		Phase: i.Phase, PhaseDetail: orNull(i.Detail), PhaseSince: i.PhaseSince.UTC(),
		Progress: i.Percent(), Ready: i.Ready(), StatusReason: orNull(i.Reason),
		Type: i.Type, Region: i.Region, PublicIP: orNull(i.Address), Machine: orNull(i.Machine),
		VNCPort: vncPort, CloudbotPort: agentPort,
		CreatedAt: i.CreatedAt.UTC(), UpdatedAt: i.UpdatedAt.UTC(), Versions: i.Versions,
	}
}

// silentWithin is how long a query may take to find out which machines respond. After that, the read model counts.
const silentWithin = 500 * time.Millisecond

// seen is what an account's instances are shown by, beside their rows.
type seen struct {
	account string
	now     time.Time
	month   projections.Period // until now
	queue   []func(*pgx.Batch) // to be sent with the query for the instances
	used    func(context.Context) (map[string]commands.Activity, time.Time, error)
}

func (s *Server) seen(account string, now time.Time) seen {
	of := seen{account: account, now: now, month: projections.Period{From: usage.Month(now), To: now}}
	of.used = func(context.Context) (map[string]commands.Activity, time.Time, error) { return nil, now, nil }
	if s.cfg.Activities != nil {
		queue, read := s.cfg.Activities.Beside(account)
		of.queue, of.used = []func(*pgx.Batch){queue}, read
	}
	return of
}

// show returns an account's instances in their current state: one whose machine does not respond is not ready, whatever
// the read model says. live is nil if an error kept it, costs or idle stops from being known: such an answer is not kept.
func (s *Server) show(ctx context.Context, of seen, l projections.Listed) (views []instanceView, live []live) {
	list := l.Instances
	costs, idles := s.costs(ctx, of, l), s.idles(ctx, of, l)
	ctx, cancel := context.WithTimeout(ctx, silentWithin)
	defer cancel()
	live, err := s.alive(ctx, list)
	views = make([]instanceView, len(list))
	for n := range list {
		v := view(list[n])
		v.AgentState = shownState(live[n].agent)
		if costs != nil {
			v.Cost = &costs[n]
		}
		if idles != nil {
			v.Idle = &idles[n]
		}
		if live[n].silent {
			v.Ready, v.StatusReason = false, orNull("The desktop has not responded since "+live[n].since.UTC().Format(time.RFC3339)+". If it does not recover, stop and start it.")
		}
		views[n] = v
	}
	if err != nil || len(list) > 0 && (costs == nil || idles == nil) {
		return views, nil
	}
	return views, live
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// defaultName is the name that commands.Instances.Create gives an instance without a name.
const defaultName = "My desktop"

// created returns the instance right after its request. It is made only from the command's answer and the
// request, so a replay of the request gets the same bytes.
func created(a commands.Created, name string) instanceView {
	return view(projections.Instance{
		ID: a.ID, Name: cmp.Or(strings.TrimSpace(name), defaultName), Status: instance.Launching, Phase: instance.PhaseRequested,
		Type: a.Type, Region: a.Region, CreatedAt: a.CreatedAt, UpdatedAt: a.CreatedAt, PhaseSince: a.CreatedAt,
	})
}

// find reads one of the account's instances, as seen.
func (s *Server) find(ctx context.Context, of seen, id string) (projections.Listed, error) {
	return awaited(ctx, s, of.account, id, func() (projections.Listed, error) {
		return s.cfg.Queries.Desktop(ctx, of.account, id, of.month, of.queue...)
	})
}

// awaited returns what read returns of one of the account's instances. If the log has the instance and the read model does not
// have it yet, awaited waits, so that a user's new instance is never answered with 404.
func awaited[T any](ctx context.Context, s *Server, account, id string, read func() (T, error)) (i T, err error) {
	if !isULID(id) {
		return i, instance.ErrNotFound
	}
	if i, err = read(); !errors.Is(err, instance.ErrNotFound) {
		return i, err
	}
	if _, err := s.cfg.Instances.Find(ctx, account, id); err != nil {
		return i, err
	}
	wait, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for {
		_, changed := s.cfg.Progress.Changed()
		if i, err = read(); !errors.Is(err, instance.ErrNotFound) {
			return i, err
		}
		select {
		case <-changed:
		case <-wait.Done():
			return i, errBehind
		}
	}
}
