package apikey

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("apikey",
	domain.As[Stored, Event]("apikey.stored"),
	domain.As[Removed, Event]("apikey.removed"),
)
