package apikey

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("apikey",
	domain.As[Stored, Event]("apikey.stored"),
	domain.As[Removed, Event]("apikey.removed"),
)
