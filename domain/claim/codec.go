package claim

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("email",
	domain.As[Claimed, Event]("email.claimed"),
)
