package claim

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("email",
	domain.As[Claimed, Event]("email.claimed"),
)
