package session

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("session",
	domain.As[Started, Event]("session.started"),
	domain.As[Refreshed, Event]("session.refreshed"),
	domain.As[Ended, Event]("session.ended"),
)
