package token

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("token",
	domain.As[Created, Event]("token.created"),
	domain.As[Used, Event]("token.used"),
	domain.As[Revoked, Event]("token.revoked"),
)
