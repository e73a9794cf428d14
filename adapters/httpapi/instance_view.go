package httpapi

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
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

// stateOf returns null for the zero State: the agent needs and does nothing and at most one viewer is there, or that is not known.
func (s *Server) stateOf(instanceID string) *agentState {
	if s.cfg.AgentState == nil {
		return nil
	}
	now := s.cfg.AgentState(instanceID)
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

// show returns an account's instances in their current state: one whose machine does not respond is not ready, whatever
// the read model says.
func (s *Server) show(ctx context.Context, account string, list ...projections.Instance) []instanceView {
	costs, idles := s.costs(ctx, account, list), s.idles(ctx, account, list)
	ctx, cancel := context.WithTimeout(ctx, silentWithin)
	defer cancel()
	ask := s.cfg.Silent != nil
	views := make([]instanceView, len(list))
	for n, i := range list {
		v := view(i)
		v.AgentState, v.Cost, v.Idle = s.stateOf(i.ID), costs[i.ID], idles[i.ID]
		if ask && v.Ready {
			since, silent, err := s.cfg.Silent(ctx, i.ID)
			if ask = err == nil; silent && ask {
				v.Ready, v.StatusReason = false, orNull("The desktop has not responded since "+since.UTC().Format(time.RFC3339)+". If it does not recover, stop and start it.")
			}
		}
		views[n] = v
	}
	return views
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

// find reads one of the account's instances. If the log has the instance and the read model does not have it
// yet, find waits, so that a user's new instance is never answered with 404.
func (s *Server) find(ctx context.Context, account, id string) (projections.Instance, error) {
	if !isULID(id) {
		return projections.Instance{}, instance.ErrNotFound
	}
	i, err := s.cfg.Queries.Instance(ctx, account, id)
	if !errors.Is(err, instance.ErrNotFound) {
		return i, err
	}
	if _, err := s.cfg.Instances.Find(ctx, account, id); err != nil {
		return i, err
	}
	wait, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for {
		_, changed := s.cfg.Progress.Changed()
		if i, err = s.cfg.Queries.Instance(ctx, account, id); !errors.Is(err, instance.ErrNotFound) {
			return i, err
		}
		select {
		case <-changed:
		case <-wait.Done():
			return i, errBehind
		}
	}
}
