package budget

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("budget",
	domain.As[LimitsSet, Event]("budget.limits_set"),
	domain.As[Warned, Event]("budget.warned"),
	domain.As[Reached, Event]("budget.reached"),
	domain.As[Released, Event]("budget.released"),
	domain.As[ScopeEnded, Event]("budget.scope_ended"),
)
