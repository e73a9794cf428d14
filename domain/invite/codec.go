package invite

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("invite",
	domain.As[Created, Event]("invite.created"),
	domain.As[Used, Event]("invite.used"),
	domain.As[Revoked, Event]("invite.revoked"),
)
