package session

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is what the events are called on the wire.
var Codec = domain.NewCodec("session",
	domain.As[Started, Event]("session.started"),
	domain.As[Refreshed, Event]("session.refreshed"),
	domain.As[Ended, Event]("session.ended"),
)
