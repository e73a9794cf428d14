package activity

import (
	"encoding/json"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/keeper"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// row is a desktop of read.idle with its account's policy and its activity.
type row struct {
	id, account, kind, status *string
	run                       *time.Time
	facts, policy             []byte
	scanned
}

func (r *row) fields() []any {
	return append([]any{&r.id, &r.account, &r.kind, &r.status, &r.run, &r.facts, &r.policy}, r.scanned.fields()...)
}

// desk returns what the keeper decides about, with times as scanned.activity has them. What cannot be read of it is left out: the keeper reads the log before it acts.
func (r *row) desk(now, here time.Time) keeper.Desk {
	var facts struct {
		Region   string               `json:"region"`
		Policy   *idle.Policy         `json:"policy"`
		Warned   *instance.IdleWarned `json:"warned"`
		Asked    time.Time            `json:"asked"`
		Extended time.Time            `json:"extended"`
	}
	_ = json.Unmarshal(r.facts, &facts)
	d := keeper.Desk{ID: *r.id, Activity: r.activity(now, here), State: instance.State{
		Account: value(r.account), Type: value(r.kind), Region: facts.Region, Status: instance.Status(value(r.status)), RunAt: value(r.run),
		Idle: facts.Policy, Warned: facts.Warned, Asked: facts.Asked, Extended: facts.Extended,
	}}
	if r.policy != nil {
		_ = json.Unmarshal(r.policy, &d.Account)
	}
	return d
}
