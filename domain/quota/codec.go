package quota

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("quota",
	domain.As[SlotTaken, Event]("quota.slot_taken"),
	domain.As[SlotReleased, Event]("quota.slot_released"),
	domain.As[AllowanceSet, Event]("quota.allowance_set"),
	domain.As[StartAdmitted, Event]("quota.start_admitted"),
)
