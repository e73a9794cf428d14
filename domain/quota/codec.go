package quota

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("quota",
	domain.As[SlotTaken, Event]("quota.slot_taken"),
	domain.As[SlotReleased, Event]("quota.slot_released"),
)
