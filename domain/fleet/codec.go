package fleet

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("fleet",
	domain.As[Grown, Event]("fleet.grown"),
	domain.As[Shrunk, Event]("fleet.shrunk"),
	domain.As[Counted, Event]("fleet.counted"),
)
