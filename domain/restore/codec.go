package restore

import "github.com/cloudbot-ai/control-plane/domain"

// Codec is the table of the events' wire names.
var Codec = domain.NewCodec("restore",
	domain.As[Finished, Event]("restore.finished"),
	domain.As[MachineRemoved, Event]("restore.machine_removed"),
)
