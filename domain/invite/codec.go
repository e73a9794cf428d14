package invite

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("invite",
	domain.As[Created, Event]("invite.created"),
	domain.As[Used, Event]("invite.used"),
	domain.As[Revoked, Event]("invite.revoked"),
)
