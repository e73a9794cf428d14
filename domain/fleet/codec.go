package fleet

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("fleet",
	domain.As[Grown, Event]("fleet.grown"),
	domain.As[Shrunk, Event]("fleet.shrunk"),
	domain.As[Counted, Event]("fleet.counted"),
)
