// Package quota decides how many instances an account may have at a time, and where plans are required, which ones. Each
// account has one stream. It is written in the same append as the instance that takes a slot or starts, and as what changes
// the account's plan, so the limits hold under any concurrency.
package quota

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// Event is a fact about an account's slots.
type Event interface{ event() }

type (
	// SlotTaken records that an instance uses one of the account's slots.
	SlotTaken struct {
		Instance string `json:"instance"`
	}
	// SlotReleased records that the slot is free again: the instance's machine is gone.
	SlotReleased struct {
		Instance string `json:"instance"`
	}
	// AllowanceSet records what the account's plan allows from now on. It counts only where plans are required.
	AllowanceSet struct{ billing.Access }
	// StartAdmitted records that the plan allowed to launch an instance, or to start it.
	StartAdmitted struct {
		Instance string `json:"instance"`
	}
)

func (SlotTaken) event()     {}
func (SlotReleased) event()  {}
func (AllowanceSet) event()  {}
func (StartAdmitted) event() {}

// State is which instances hold a slot, in the order in which they took it, and what the plan allows.
type State struct {
	held []string
	plan billing.Access
}

// Plan returns what the account's plan allows.
func (s State) Plan() billing.Access { return s.plan }

// Held returns the number of slots in use.
func (s State) Held() int { return len(s.held) }

// Instances returns the instances that hold a slot, in the order in which they took it.
func (s State) Instances() []string { return slices.Clone(s.held) }

// Beyond reports whether an instance is one of the newest that are more than the plan allows.
func (s State) Beyond(instance string) bool { return slices.Index(s.held, instance) >= s.plan.Desktops }

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case SlotTaken:
		if !slices.Contains(s.held, e.Instance) {
			s.held = append(slices.Clip(s.held), e.Instance)
		}
	case SlotReleased:
		s.held = slices.DeleteFunc(slices.Clone(s.held), func(id string) bool { return id == e.Instance })
	case AllowanceSet:
		s.plan = e.Access
	case StartAdmitted:
	}
	return s
}

// Command is Take, Release, SetAllowance, AdmitStart or AdmitLaunch.
type Command interface{ command() }

type (
	// Take takes one of Limit slots, or with Plans, one of those that the plan allows.
	Take struct {
		Instance string
		Limit    int
		Plans    bool // plans are required
		Type     string
	}
	// SetAllowance sets what the plan allows.
	SetAllowance struct{ billing.Access }
	// AdmitStart asks whether the plan allows to start an instance. Send it only where plans are required.
	AdmitStart struct{ Instance, Type string }
	// AdmitLaunch asks whether the account still has a plan when an accepted instance's machine is launched. Send it only where
	// plans are required.
	AdmitLaunch struct{ Instance string }
	// Release releases the instance's slot.
	Release struct{ Instance string }
)

func (Take) command()         {}
func (Release) command()      {}
func (SetAllowance) command() {}
func (AdmitStart) command()   {}
func (AdmitLaunch) command()  {}

// exceeded is the refusal of a Take by an account that holds all its slots, or more since its limit was lowered. The
// dashboard says the same before it is asked. Of a plan, the limit is its desktops; nil: the limit is the server's.
func exceeded(held, limit int, plan *billing.Offer) *domain.Error {
	noun, count := "desktops", "one"
	if limit == 1 {
		noun = "desktop"
	}
	if n := held - limit + 1; n > 1 {
		count = strconv.Itoa(n)
	}
	msg := fmt.Sprintf("You have %d of %d %s. Terminate %s to create another.", held, limit, noun, count)
	if plan != nil {
		larger := ", or choose a larger plan"
		if plan.Plan == billing.Offers[len(billing.Offers)-1].Plan {
			larger = ""
		}
		msg = fmt.Sprintf("You have %d of the %d %s of the plan %s. Terminate %s to create another%s.", held, limit, noun, plan.Name, count, larger)
	}
	return &domain.Error{Kind: domain.Conflict, Code: "quota_exceeded", Msg: msg}
}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Take:
		return decideTake(s, c)
	case Release:
		if !slices.Contains(s.held, c.Instance) {
			return nil, nil
		}
		return []Event{SlotReleased(c)}, nil
	case SetAllowance:
		if c.Same(s.plan) {
			return nil, nil
		}
		return []Event{AllowanceSet(c)}, nil
	case AdmitStart:
		if err := s.plan.MayStart(c.Type, len(s.held)); err != nil {
			return nil, err
		}
		return []Event{StartAdmitted{c.Instance}}, nil
	case AdmitLaunch:
		if err := s.plan.MayLaunch(); err != nil {
			return nil, err
		}
		return []Event{StartAdmitted(c)}, nil
	}
	return nil, fmt.Errorf("quota: unknown command %T", c)
}

func decideTake(s State, c Take) ([]Event, error) {
	var plan *billing.Offer
	switch {
	case slices.Contains(s.held, c.Instance):
		return nil, nil
	case c.Plans:
		if err := s.plan.MayCreate(c.Type); err != nil {
			return nil, err
		}
		o := s.plan.Plan.Offer()
		plan, c.Limit = &o, s.plan.Desktops
	}
	if len(s.held) >= c.Limit {
		return nil, exceeded(len(s.held), c.Limit, plan)
	}
	return []Event{SlotTaken{c.Instance}}, nil
}
