package commands

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/quota"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// MaxName bounds an instance's name, in characters.
const MaxName = 64

// Refusals.
var (
	ErrName = &domain.Error{Kind: domain.Invalid, Code: "invalid_name", Msg: fmt.Sprintf("A name has 1 to %d characters, without control characters.", MaxName)}
)

// NameLabel returns what an instance's sealed name is bound to, in addition to its account.
func NameLabel(instanceID string) string { return "instance-name|" + instanceID }

// Instances are the users' commands about desktops.
type Instances struct {
	Log
	Vault Vault
	Cloud machines.Cloud
	Limit int // instances an account may have at a time
}

// Created is the answer of Create. It does not contain the name.
type Created struct {
	ID        string    `json:"id"`
	Type      string    `json:"instance_type"`
	Region    string    `json:"region"`
	CreatedAt time.Time `json:"created_at"`
}

// Create requests a new desktop. An empty name or type means the default.
func (c *Instances) Create(ctx context.Context, o Origin, name, machineType string) (Outcome[Created], error) {
	return c.CreateWithKeys(ctx, o, name, machineType, nil)
}

// CreateWithKeys is Create that also stores API keys as the account's keys, by the names of their providers. Both happen
// or neither.
func (c *Instances) CreateWithKeys(ctx context.Context, o Origin, name, machineType string, given map[string]string) (Outcome[Created], error) {
	asked := []any{"create", name, machineType}
	if len(given) > 0 {
		asked = append(asked, given) // JSON sorts it
	}
	keys, err := checkKeys(given)
	if err != nil {
		return Outcome[Created]{}, err
	}
	if name = strings.TrimSpace(name); name == "" {
		name = "My desktop"
	}
	if err := checkName(name); err != nil {
		return Outcome[Created]{}, err
	}
	if _, err := c.machineType(machineType); err != nil {
		return Outcome[Created]{}, err
	}
	id := c.NewID()
	sealed, err := c.Vault.Seal(ctx, o.Account, NameLabel(id), []byte(name))
	if err != nil {
		return Outcome[Created]{}, fmt.Errorf("seal name: %w", err)
	}
	answer := Created{ID: id, Region: c.Cloud.Region(), CreatedAt: c.Now()}
	done, err := c.Fleet.turn(ctx)
	if err != nil {
		return Outcome[Created]{}, err
	}
	defer done()
	log := c.Log
	log.Now = func() time.Time { return answer.CreatedAt } // the event has the same time
	return once(ctx, log, o, asked, func(u *eventstore.Unit) (Created, error) {
		kind, err := c.machineTypeOf(ctx, u, o.Account, machineType)
		if err != nil {
			return answer, err
		}
		answer.Type = kind.ID
		if _, err := quotas.Execute(ctx, u, o.Account, quota.Take{Instance: id, Limit: c.Limit, Plans: c.Plans, Type: kind.ID}); err != nil {
			return answer, err
		}
		if err := c.Fleet.add(ctx, u, id); err != nil {
			return answer, err
		}
		if err := c.admit(ctx, u, o.Account, ""); err != nil {
			return answer, err
		}
		for _, provider := range slices.Sorted(maps.Keys(keys)) {
			if err := storeKey(ctx, u, c.Vault, o.Account, provider, keys[provider], false); err != nil {
				return answer, err
			}
		}
		_, err = instances.Execute(ctx, u, id, instance.Request{
			Account: o.Account, Name: sealed, Type: kind.ID, Region: c.Cloud.Region(),
		})
		return answer, err
	})
}

func (c *Instances) machineType(id string) (machines.MachineType, error) {
	types := c.Cloud.Types()
	if id == "" {
		return types[0], nil
	}
	var known []string
	for _, t := range types {
		if t.Named(id) {
			return t, nil
		}
		known = append(known, t.ID)
	}
	return machines.MachineType{}, &domain.Error{Kind: domain.Invalid, Code: "unknown_instance_type",
		Msg: "There is no such instance type; choose one of " + strings.Join(known, ", ") + "."}
}

func checkName(name string) error {
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > MaxName || strings.IndexFunc(name, isControl) >= 0 {
		return ErrName
	}
	return nil
}

// isControl reports whether r is a control character, or an invisible one that changes the reading direction.
func isControl(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// Changed is the answer of the commands about an existing instance.
type Changed struct {
	ID     string          `json:"id"`
	Status instance.Status `json:"status"`
}

// Rename renames the instance.
func (c *Instances) Rename(ctx context.Context, o Origin, id, name string) (Outcome[Changed], error) {
	name = strings.TrimSpace(name)
	if err := checkName(name); err != nil || name == "" {
		return Outcome[Changed]{}, ErrName
	}
	sealed, err := c.Vault.Seal(ctx, o.Account, NameLabel(id), []byte(name))
	if err != nil {
		return Outcome[Changed]{}, fmt.Errorf("seal name: %w", err)
	}
	return c.changeInstance(ctx, o, []any{"rename", id, name}, id, instance.Rename{Name: sealed})
}

// Stop requests that the instance's machine be stopped.
func (c *Instances) Stop(ctx context.Context, o Origin, id string) (Outcome[Changed], error) {
	return c.changeInstance(ctx, o, []any{"stop", id}, id, instance.Stop{At: c.Now()})
}

// Start requests that a stopped instance's machine be started.
func (c *Instances) Start(ctx context.Context, o Origin, id string) (Outcome[Changed], error) {
	return c.changeInstance(ctx, o, []any{"start", id}, id, instance.Start{At: c.Now()})
}

// Terminate requests that the instance's machine be terminated.
func (c *Instances) Terminate(ctx context.Context, o Origin, id string) (Outcome[Changed], error) {
	return c.changeInstance(ctx, o, []any{"terminate", id}, id, instance.Terminate{At: c.Now()})
}

// changeInstance executes a user's command about an existing instance of its own.
func (l Log) changeInstance(ctx context.Context, o Origin, asked []any, id string, cmd instance.Command) (Outcome[Changed], error) {
	return once(ctx, l, o, asked, func(u *eventstore.Unit) (Changed, error) {
		s, err := instances.Load(ctx, u, id)
		if err != nil {
			return Changed{}, err
		}
		if s.Account != o.Account {
			return Changed{}, instance.ErrNotFound // another account's instance is not visible
		}
		s, err = l.executeInstance(ctx, u, id, s, cmd)
		return Changed{ID: id, Status: s.Status}, err
	})
}

// Find returns the state of the account's own instance, or instance.ErrNotFound.
func (c *Instances) Find(ctx context.Context, account, id string) (instance.State, error) {
	s, err := instances.Fold(ctx, c.Store, id)
	if err == nil && (!s.Exists() || s.Account != account) {
		err = instance.ErrNotFound
	}
	return s, err
}

// executeInstance executes a command on a loaded instance and returns the new state. A command that ends the instance
// also releases its quota slot and its room in the fleet, in the same append. One that starts it is refused if a budget
// is used up or the account's plan does not allow it: those of users, and those for jobs. A launch is given up if the plan has
// ended since it was accepted.
func (l Log) executeInstance(ctx context.Context, u *eventstore.Unit, id string, before instance.State, cmd instance.Command) (instance.State, error) {
	var err error
	if launch, ok := cmd.(instance.Attempt); ok && before.Status == instance.Launching {
		if cmd, err = l.admitLaunch(ctx, u, before.Account, id, launch); err != nil {
			return before, err
		}
	}
	s, err := instances.Execute(ctx, u, id, cmd)
	if err == nil && s.Status == instance.Starting && before.Status != instance.Starting {
		if err := l.admit(ctx, u, s.Account, id); err != nil {
			return before, err
		}
		if err := l.admitByPlan(ctx, u, s, id); err != nil {
			return before, err
		}
	}
	if err != nil || before.Final() || !s.Final() {
		return s, err
	}
	if _, err := quotas.Execute(ctx, u, s.Account, quota.Release{Instance: id}); err != nil {
		return s, err
	}
	return s, l.Fleet.remove(ctx, u, id)
}

// Instance returns an instance's current state. It may belong to any account, or not exist.
func (l Log) Instance(ctx context.Context, id string) (instance.State, error) {
	return instances.Fold(ctx, l.Store, id)
}

// ExecuteInstance executes a command that no user sent: an observation, or a step of the saga. The result is zero if it
// changed nothing.
func (l Log) ExecuteInstance(ctx context.Context, id string, cmd instance.Command) (eventstore.Result, error) {
	return l.executeIf(ctx, id, cmd, func(instance.State) error { return nil })
}

// executeIf is ExecuteInstance if allowed returns nil for the state.
func (l Log) executeIf(ctx context.Context, id string, cmd instance.Command, allowed func(instance.State) error) (eventstore.Result, error) {
	return l.executeFor(ctx, Origin{CorrelationID: id}, id, cmd, allowed)
}

// executeFor is executeIf with another sender than the system.
func (l Log) executeFor(ctx context.Context, o Origin, id string, cmd instance.Command, allowed func(instance.State) error) (eventstore.Result, error) {
	return eventstore.Run(ctx, l.Store, l.stamp(o), func(u *eventstore.Unit) (*eventstore.Receipt, error) {
		s, err := instances.Load(ctx, u, id)
		if err != nil {
			return nil, err
		}
		if err := allowed(s); err != nil {
			return nil, err
		}
		_, err = l.executeInstance(ctx, u, id, s, cmd)
		return nil, err
	})
}

// Known reports whether the log has an instance.
func (i *Instances) Known(ctx context.Context, id string) (bool, error) {
	version, err := i.Log.Store.Version(ctx, eventstore.StreamID{Aggregate: "instance", ID: id})
	return version > 0, err
}

// clip cuts s to at most n bytes of valid UTF-8 without control characters: databases refuse zero bytes, and users
// should see all characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s[:min(len(s), n)], "")
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return -1
		}
		return r
	}, s)
}
